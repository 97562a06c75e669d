"""The training set: procedural objects, their pictures and labelled points, made once and kept in a
cache.

    python -m training.dataset CACHE --objects 4400 --workers 2

Each shard is one .npz of `SHARD_SIZE` objects; a shard that exists is not made again, so that the
work can be stopped and taken up. Seeds below `VALIDATION_SEED` are for training, those from it on
are never trained on.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipelines.cameras import Cameras, cameras_around, zero123plus_cameras

from .objects import ProceduralObject, make_object
from .raytracing import Light, render

SHARD_SIZE = 100
VALIDATION_SEED = 1_000_000
VIEW_SIZE = 128
PICTURES = 2  # input photographs of each object
POINTS = 6144
NEAR_SURFACE = 0.08
FOREGROUND_RATIO = 0.85


def framed_camera(shape: ProceduralObject, elevation_deg: float, fov_y_deg: float) -> Cameras:
    """A camera at azimuth 0 whose picture the object fills to `FOREGROUND_RATIO`, as framing leaves
    a photograph.
    """
    radius = 1.07 / float(np.tan(np.radians(fov_y_deg) / 2))
    camera = cameras_around([0.0], [elevation_deg], radius, fov_y_deg)
    _, alpha = render(shape, camera, 96)
    rows, columns = alpha[0, 0].amax(dim=1).nonzero(), alpha[0, 0].amax(dim=0).nonzero()
    top, bottom = float(rows.min()) / 96, float(rows.max() + 1) / 96
    left, right = float(columns.min()) / 96, float(columns.max() + 1) / 96
    zoom = FOREGROUND_RATIO / max(bottom - top, right - left)
    k = camera.intrinsics_normalized.clone()
    k[0, 0, 0] *= zoom
    k[0, 1, 1] *= zoom
    k[0, 0, 2] = 0.5 + (0.5 - (left + right) / 2) * zoom
    k[0, 1, 2] = 0.5 + (0.5 - (top + bottom) / 2) * zoom
    return Cameras(camera.c2w, k)


def photograph(shape: ProceduralObject, rng: random.Random, size: int = VIEW_SIZE) -> Tensor:
    """(3, size, size) picture from the front, its elevation, lens and light drawn from `rng`."""
    camera = framed_camera(shape, rng.uniform(-10, 35), rng.uniform(20, 45))
    direction = torch.nn.functional.normalize(
        torch.tensor([rng.uniform(-0.2, 1), rng.uniform(-1, 1), rng.uniform(0.2, 1)]), dim=0
    ).tolist()
    ambient, head = rng.uniform(0.45, 0.7), rng.uniform(0, 0.25)
    rgb, _ = render(
        shape,
        camera,
        size,
        Light(ambient, head, 1.05 - ambient - head, (direction[0], direction[1], direction[2])),
    )
    return rgb[0]


def labelled_points(
    shape: ProceduralObject, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Points with their signed distance and colour.

    Two thirds lie within `NEAR_SURFACE` of the surface, as many around each part however thin it
    is; the rest is uniform.

    Returns:
        points (POINTS, 3), signed_distance (POINTS,), colors (POINTS, 3).
    """
    wanted = POINTS * 2 // 3
    per_part = -(-wanted // len(shape.parts))
    near: list[Tensor] = []
    for part in shape.parts:
        p = part.sample_box(per_part * 8, NEAR_SURFACE, generator)
        p = p[shape.signed_distance(p).abs() < NEAR_SURFACE]
        near.append(p[:per_part])
    close = torch.cat(near)[torch.randperm(sum(map(len, near)), generator=generator)[:wanted]]
    uniform = torch.rand(POINTS - len(close), 3, generator=generator) * 2.1 - 1.05
    points = torch.cat([close, uniform])
    return points, shape.signed_distance(points), shape.color(points)


def _as_bytes(pictures: Tensor) -> np.ndarray:
    return (pictures * 255).round().byte().numpy()


def make_shard(path: Path, first_seed: int) -> None:
    """Write the objects `first_seed` .. `first_seed + SHARD_SIZE - 1`."""
    columns: dict[str, list[np.ndarray]] = {
        k: [] for k in ("views", "pictures", "points", "signed_distance", "colors")
    }
    for seed in range(first_seed, first_seed + SHARD_SIZE):
        shape, rng = make_object(seed), random.Random(seed + 7)
        columns["views"].append(_as_bytes(render(shape, zero123plus_cameras(), VIEW_SIZE)[0]))
        columns["pictures"].append(
            _as_bytes(torch.stack([photograph(shape, rng) for _ in range(PICTURES)]))
        )
        points, distance, colors = labelled_points(shape, torch.Generator().manual_seed(seed))
        columns["points"].append(points.half().numpy())
        columns["signed_distance"].append(distance.half().numpy())
        columns["colors"].append(_as_bytes(colors))
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(
            file,
            **{k: np.stack(v) for k, v in columns.items()},
            seeds=np.arange(first_seed, first_seed + SHARD_SIZE),
        )
    partial.replace(path)


class Objects:
    """Shards of a cache in memory, as arrays over all objects.

    Attributes:
        views (N, 6, 3, S, S), pictures (N, PICTURES, 3, S, S), colors (N, POINTS, 3): uint8.
            points (N, POINTS, 3), signed_distance (N, POINTS): float16.
        seeds (N,): int64, of `make_object`.
    """

    def __init__(self, cache: Path, prefix: str = "train", limit: int | None = None) -> None:
        shards = sorted(cache.glob(f"{prefix}-*.npz"))
        if limit is not None:
            shards = shards[: -(-limit // SHARD_SIZE)]
        if not shards:
            raise FileNotFoundError(
                f"{cache} holds no {prefix} shards: run python -m training.dataset {cache} first"
            )
        loaded = [np.load(s) for s in shards]
        self.views, self.pictures, self.points, self.signed_distance, self.colors, self.seeds = (
            torch.from_numpy(np.concatenate([shard[k] for shard in loaded]))
            for k in ("views", "pictures", "points", "signed_distance", "colors", "seeds")
        )

    def __len__(self) -> int:
        return len(self.views)


def _job(job: tuple[Path, int]) -> str:
    torch.set_num_threads(1)
    path, first = job
    if not path.exists():
        make_shard(path, first)
    return path.name


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cache", type=Path)
    parser.add_argument("--objects", type=int, default=6000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    jobs = [(arguments.cache / "validation-0000.npz", VALIDATION_SEED)]
    jobs += [
        (arguments.cache / f"train-{i:04d}.npz", i * SHARD_SIZE)
        for i in range(arguments.objects // SHARD_SIZE)
    ]
    with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
        for name in pool.imap(_job, jobs):
            print(name, flush=True)


if __name__ == "__main__":
    main()
