"""Measure the pocket models on objects that training never saw.

python -m training.evaluate CACHE --objects 100 --json quality.json
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from pipelines.fields.field import Field
from pipelines.multiview.sampling import generate_views
from pipelines.reconstruction.instant_mesh import reconstruct
from pipelines.settings import ViewSettings
from pipelines.weights.multiview_models import load_multiview_model
from pipelines.weights.reconstruction_models import load_reconstruction_model

from .dataset import VALIDATION_SEED, Objects
from .objects import KINDS, THIN_LEGGED, ProceduralObject, make_object

GRID = 64
CHUNK = 65536
ON_SURFACE = 0.02


@torch.no_grad()
def quality(triplane: Field, shape: ProceduralObject, points: Tensor) -> tuple[float, float]:
    """Volume IoU on a regular grid, and mean absolute colour error (of a channel) at the points
    near the true surface.
    """
    axis = (torch.arange(GRID) + 0.5) / GRID * 2 - 1
    grid = torch.cartesian_prod(axis, axis, axis)
    truth = shape.signed_distance(grid) > 0
    found = triplane.level(grid, CHUNK) > 0
    near = points[shape.signed_distance(points).abs() < ON_SURFACE]
    error = (triplane.color(near, CHUNK) - shape.color(near)).abs().mean()
    return float((truth & found).sum() / (truth | found).sum()), float(error)


def evaluate(cache: Path, count: int, seed: int) -> dict[str, dict[str, float]]:
    """Means over all objects, over the thin-legged ones, and by kind; from true views, and from one
    picture.
    """
    objects = Objects(cache, "validation")
    reconstruction, multiview = load_reconstruction_model("pocket"), load_multiview_model("pocket")
    figures: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for i in range(min(count, len(objects))):
        shape, points = make_object(VALIDATION_SEED + i), objects.points[i].float()
        generated = generate_views(
            multiview, objects.pictures[i, :1].float() / 255, settings=ViewSettings(seed=seed)
        )
        for source, views in (
            ("true views", objects.views[i].float() / 255),
            ("one picture", generated.views),
        ):
            iou, color = quality(reconstruct(reconstruction, views), shape, points)
            for group in (
                "all",
                shape.kind,
                *(["thin-legged"] if shape.kind in THIN_LEGGED else []),
            ):
                figures[group][f"IoU, {source}"].append(iou)
                figures[group][f"colour error, {source}"].append(color)
    order = ("all", "thin-legged", *KINDS)
    return {
        group: {name: round(fmean(values), 3) for name, values in figures[group].items()}
        for group in order
        if group in figures
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cache", type=Path)
    parser.add_argument("--objects", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    table = evaluate(arguments.cache, arguments.objects, arguments.seed)
    columns = list(table["all"])
    print("| objects | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 1))
    for group, figures in table.items():
        print(f"| {group} | " + " | ".join(f"{figures[c]:.3f}" for c in columns) + " |")
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
