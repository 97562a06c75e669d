"""`models`: list the models; choose the default model of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..settings import License, LoadSettings
from .parsing import PROGRAM, SETTINGS, Parser, add_setting

_SUGGESTED = "triposr"  # one file, one pass, permissive licence


def make_parser() -> Parser:
    """Return the parser of all options."""
    parser = Parser("models", "[options]", "List the models, and where their weights are.")
    add_setting(parser, SETTINGS["models_dir"])
    add_setting(parser, SETTINGS["device"], help="show the times of this device")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Print a table of all models; return the exit code."""
    options = make_parser().parse_args(arguments)

    from ..weights.inventory import table

    on_cpu = [False, True] if options.device == "auto" else [options.device == "cpu"]
    times = (f"per image ({'CPU' if each else 'GPU'})" for each in on_cpu)
    rows = [("model", "takes", "download", *times, "where", "licence")]
    rows += table(LoadSettings(models_dir=options.models_dir).models_dirs, on_cpu)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    print(f"\n'{PROGRAM} download MODEL' downloads missing weights.")
    return 0


def choose_model(
    on_cpu: bool, models_dirs: Sequence[Path], license: License = "any"
) -> tuple[str, str]:
    """Choose the model of a run without `--model`; return its name and a line for the user.

    Args:
        on_cpu: whether the run uses the CPU.
        models_dirs: folders to search for weights before the Hugging Face cache.
        license: "commercial" skips models whose weights forbid commercial use.
    """
    from ..weights.inventory import best_model, duration, gigabytes, licenses

    name = best_model(on_cpu, models_dirs, license)
    if name != "photo":
        took = duration(name, on_cpu)
        return name, f"{name}: the best downloaded model, about {took} per image (faster: photo)"
    return name, (
        "photo, the embedded model, guesses the unseen sides. For better shapes:"
        f" {PROGRAM} download {_SUGGESTED} ({gigabytes(_SUGGESTED):.1f} GB,"
        f" {licenses(_SUGGESTED)}, about {duration(_SUGGESTED, on_cpu)} per image here)"
    )
