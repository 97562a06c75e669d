"""Plot time and memory against resolution."""

from __future__ import annotations

from pathlib import Path

import torch

from .limits import processor

Figures = dict[str, float]


def draw(curves: dict[str, dict[int, Figures]], path: Path) -> None:
    """Plot seconds and GiB against resolution in two log-log diagrams, one line per curve."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), constrained_layout=True)
    for axis, name in zip(axes, ("seconds", "host GiB"), strict=True):
        for label, points in curves.items():
            style = "--" if label.endswith("exact") else "-"
            axis.plot(
                list(points),
                [p[name] for p in points.values()],
                style,
                marker="o",
                markersize=3,
                label=label,
            )
        axis.set(
            xscale="log",
            yscale="log",
            xlabel="resolution",
            ylabel=name,
            xticks=list(next(iter(curves.values()))),
        )
        axis.get_xaxis().set_major_formatter(matplotlib.ticker.ScalarFormatter())
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.suptitle(
        f"Triplane to surface, large models: {processor()}, {torch.get_num_threads()} thread(s)"
    )
    figure.savefig(path, dpi=110)
