"""Make the training set of the embedded model: images of objects, and points inside them.

python -m training.dataset CACHE OBJECTS.npz ... [--joined 1500] [--smooth 1200] [--procedural 600]

OBJECTS.npz are files of collected objects (see `objects`). Many objects are open, so carving
decides which points are inside. Writes one file per object; existing files are kept.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.files import atomic_path

from .objects import Counts, Objects, Soup, is_held_out
from .photographs import Paint, photographs
from .shapes import Shape
from .views import framed_views

GRID, GRID_SIDE = 48, 1.1  # cells along an edge of the carved grid, and the edge's length
IMAGES = 4  # per object
NEAR, ANYWHERE, ON_SURFACE = 5000, 5000, 5000  # points per object
_ANYWHERE_SIDE = 1.3
_CREASES_DEG = 0.0, 30.0, 40.0, 40.0, 60.0
_MIN_PIXELS = 8  # smallest area of a mask; a sheet seen edge-on has none

Array = np.ndarray[Any, np.dtype[Any]]


def make_object(soup: Soup, seed: int, images: int = IMAGES) -> dict[str, Array] | None:
    """Photograph one object, and sample its surface and its inside.

    Returns:
        None if no camera sees the object, else these arrays:
        image, mask, first: (B, S, S, 3), (B, S, S), (B, S / 2, S / 2), see `photographs`.
        camera: (B, 7), see `Views`.
        surface: (N, 3) points on the surface.
        color: (N, 3) sRGB of these points, 0 to 255.
        normal: (N, 3) their outward normals times 127; 0 where the direction is unknown.
        points: (M, 3) points, the first `NEAR` of them near the surface.
        inside: packed bits, 1 for each of `points` inside the object.
        grid: packed bits, 1 for each carved cell inside the object.
    """
    rng = np.random.default_rng(seed)
    shape = Shape.of(*soup, crease_deg=float(rng.choice(_CREASES_DEG)))
    if not len(shape.areas):
        return None
    paint = Paint(rng)
    surface, triangles, normals = shape.sample_surface(ON_SURFACE, rng)
    spread = rng.choice([0.012, 0.04], (NEAR, 1)) * rng.normal(size=(NEAR, 3))
    anywhere = (rng.random((ANYWHERE, 3)) - 0.5) * _ANYWHERE_SIDE
    points = np.concatenate([surface[:NEAR] + spread, anywhere])
    line = ((np.arange(GRID) + 0.5) / GRID - 0.5) * GRID_SIDE
    cells = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    views = framed_views(shape, images, rng)
    shown, masks, firsts = photographs(shape, paint, views, rng)
    seen = masks.reshape(len(masks), -1).sum(axis=1, dtype=int) >= _MIN_PIXELS * 255
    if not seen.any():
        return None
    return {
        "image": shown[seen],
        "mask": masks[seen],
        "first": firsts[seen],
        "camera": views.numbers[torch.from_numpy(seen)].float().numpy(),
        "surface": surface.astype(np.float16),
        "color": (paint(surface, shape.colors[triangles]) * 255).astype(np.uint8),
        "normal": (normals * 127).round().astype(np.int8),
        "points": points.astype(np.float16),
        "inside": np.packbits(shape.inside(points)),
        "grid": np.packbits(shape.inside(cells)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path)
    parser.add_argument("objects", type=Path, nargs="+")
    default = Counts()
    parser.add_argument("--deformed", type=int, default=default.deformed, help="per object")
    parser.add_argument("--joined", type=int, default=default.joined)
    parser.add_argument("--smooth", type=int, default=default.smooth)
    parser.add_argument("--procedural", type=int, default=default.procedural, help="per kind")
    parser.add_argument("--images", type=int, default=IMAGES, help="per object")
    parser.add_argument("--limit", type=int, default=1_000_000, help="approximate total")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    objects = Objects(options.objects)
    counts = Counts(options.deformed, options.joined, options.smooth, options.procedural)
    names = objects.names(counts)
    names = names[:: max(len(names) // options.limit, 1)]
    work = partial(_make_file, objects, options.cache, options.images)
    context = multiprocessing.get_context("spawn")
    with context.Pool(options.processes, torch.set_num_threads, (1,)) as pool:
        for done, _ in enumerate(pool.imap_unordered(work, names, chunksize=8), 1):
            if done % 200 == 0:
                print(f"{done} of {len(names)}", flush=True)


def _make_file(objects: Objects, cache: Path, images: int, name: str) -> None:
    path = cache / f"{name}.npz"
    if path.exists() or (soup := objects.make(name)) is None:
        return
    if (made := make_object(soup, zlib.crc32(name.encode()), images)) is None:
        return
    if is_held_out(name):  # `training.evaluate` compares meshes with these triangles
        made["corners"] = soup.vertices[soup.faces].astype(np.float32)
    with atomic_path(path) as unfinished:
        np.savez(unfinished, **made)


if __name__ == "__main__":
    main()
