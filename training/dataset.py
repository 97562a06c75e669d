"""The training set of the model that sees photographs: CC0 objects, shaded, with what is inside.

python -m training.dataset OBJECTS.npz CACHE [--smooth 1000] [--deformed 1] [--device cuda]

OBJECTS.npz holds `names`, and of all objects together `vertices`, `faces` and `face_colors` with
their `vertex_offsets` and `face_offsets`: triangle soups in a box of side 1, z up. Many are open,
so what is inside is found by carving. `smooth_objects` adds round things, of which there are none;
deformed objects are stretched, tapered, leant and twisted. Makes one file an object, and goes on
where it was stopped.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.files import atomic_path
from pipelines.reconstruction.frustum import FrustumConfig

from .rasterizing import nearest
from .smooth_objects import make_smooth_object

CONFIG = FrustumConfig()
GRID, GRID_SIDE = 48, 1.1  # cells along an edge, and its length, of the carved grid
PICTURES = 12  # of an object
KEPT_OUT = 20  # every so manyth CC0 object is not for training
NOTHING = 9.0  # w of a ray that hits nothing
_FILL = 0.8, 0.95  # of an image's side by the object, which lies anywhere between its borders
NEAR, ANYWHERE, ON_SURFACE = 9000, 5000, 12000  # points of an object
_STRETCH = 1.5  # most that an axis of a deformed object is longer or shorter
_TAPER, _LEAN, _TWIST = 0.8, 0.35, 1.2  # most, from bottom to top; the twist in radians
_CARVING_CAMERAS, _CARVING_SIDE, _CARVING_HALF, _CARVING_DISTANCE = 42, 128, 0.92, 3.0
_BIAS = 0.004
_WIDE, _FRAMINGS = 1.8, 12  # the side from which framing starts, and its steps
_LEAST_SEEN = 8  # pixels of an object; edge-on, a sheet has none

Array = np.ndarray[Any, np.dtype[Any]]


class Shape(NamedTuple):
    """Triangles: corners (T, 3, 3), unit normals (T, 3), areas (T,), colours (T, 3), 0 to 255."""

    corners: Tensor
    normals: Tensor
    areas: Tensor
    colors: Tensor

    @classmethod
    def of(cls, vertices: Array, faces: Array, colors: Array, device: str) -> Shape:
        corners = torch.from_numpy(vertices[faces]).double().to(device)
        a, b, c = corners.unbind(dim=1)
        normals = torch.linalg.cross(b - a, c - a)
        return cls(
            corners,
            F.normalize(normals, dim=1),
            normals.norm(dim=1) / 2,
            torch.from_numpy(colors).float().to(device),
        )


class Views:
    """B cameras: degrees, and the square of side `side` around `target` that each image spans.

    Args:
        numbers: (B, 7) azimuth, elevation, field of view, target (3), side.
    """

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers
        azimuth, self.elevation_deg, fov = numbers[:, :3].unbind(dim=1)
        self.target, self.side = numbers[:, 3:6], numbers[:, 6]
        self.distance = 0.5 / (fov.deg2rad() / 2).tan()  # of the camera, in image sides
        a, e = azimuth.deg2rad(), self.elevation_deg.deg2rad()
        right = torch.stack([-a.sin(), a.cos(), torch.zeros_like(a)], dim=1)
        back = torch.stack([e.cos() * a.cos(), e.cos() * a.sin(), e.sin()], dim=1)
        self.axes = torch.stack([right, torch.linalg.cross(back, right), back], dim=1)

    def camera(self, points: Tensor) -> Tensor:
        """(B, N, 3) right, up and backward, in image sides, of world points (B or 1, N, 3)."""
        offset = (points - self.target[:, None]) / self.side[:, None, None]
        return offset @ self.axes.transpose(1, 2)

    def frustum(self, points: Tensor) -> Tensor:
        """(B, N, 3) u, v, w of world points (B or 1, N, 3), see `fields.frustum_volume`."""
        x, y, z = self.camera(points).unbind(dim=-1)
        nearness = 2 * self.distance[:, None] / (self.distance[:, None] - z).clamp_min(0.05)
        return torch.stack([x * nearness, -y * nearness, -z / CONFIG.half_depth], dim=-1)

    def world(self, frustum: Tensor) -> Tensor:
        """The inverse of `frustum`."""
        u, v, w = frustum.unbind(dim=-1)
        z = -w * CONFIG.half_depth
        near = (self.distance[:, None] - z) / self.distance[:, None] / 2
        camera = torch.stack([u * near, -v * near, z], dim=-1)
        return camera @ self.axes * self.side[:, None, None] + self.target[:, None]

    def cast(self, shape: Shape, size: int) -> tuple[Tensor, Tensor]:
        """First hits: triangle (B, size, size), -1 where there is none, and w."""
        count = len(shape.corners)
        x, y, z = self.camera(shape.corners.reshape(1, -1, 3)).unbind(dim=-1)
        away = 2 * self.distance[:, None]
        corners = torch.stack([x * away, -y * away, away / 2 - z], dim=-1)
        corners = corners.view(-1, count, 3, 3)
        triangle, nearness = nearest(corners, torch.ones_like(corners[..., 0]), size)
        w = (1 / nearness - self.distance[:, None, None]) / CONFIG.half_depth
        return triangle, torch.where(triangle >= 0, w, NOTHING)


def carved(shape: Shape, points: Tensor) -> Tensor:
    """(N,) which points (N, 3) no camera of a sphere sees as free.

    The nearest of 3 x 3 pixels keeps thin parts.
    """
    backs = _fibonacci(_CARVING_CAMERAS).to(points)
    helper = torch.eye(3).to(points)[torch.where(backs[:, 2].abs() < 0.95, 2, 0)]
    rights = F.normalize(torch.linalg.cross(helper, backs), dim=1)
    ups = torch.linalg.cross(backs, rights)

    def seen_from_all(places: Tensor) -> Tensor:
        """(cameras, N, 3) across and down in [-1, 1] over the image, and nearness."""
        across, down, near = (places @ axes.T for axes in (rights, -ups, backs))
        parts = [across / _CARVING_HALF, down / _CARVING_HALF, near + _CARVING_DISTANCE]
        return torch.stack(parts, dim=-1).movedim(1, 0)

    corners = seen_from_all(shape.corners.reshape(-1, 3)).unflatten(1, (-1, 3))
    flat = torch.cat([corners[..., :2], torch.ones_like(corners[..., :1])], dim=-1)
    _, found = nearest(flat, corners[..., 2], _CARVING_SIDE)
    found = F.max_pool2d(found[:, None], 3, 1, 1)[:, 0].flatten(1)
    places = seen_from_all(points)
    cell = ((places[..., :2] + 1) / 2 * _CARVING_SIDE).long().clamp(0, _CARVING_SIDE - 1)
    nearness = found.gather(1, cell[..., 1] * _CARVING_SIDE + cell[..., 0])
    return ~(places[..., 2] > nearness + _BIAS).any(dim=0)


def _fibonacci(count: int) -> Tensor:
    """(count, 3) directions, spread over the sphere."""
    i = torch.arange(count, dtype=torch.float64) + 0.5
    z, angle = 1 - 2 * i / count, math.pi * (1 + 5**0.5) * i
    radius = (1 - z * z).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), z], dim=1)


def framed_views(shape: Shape, count: int, rng: np.random.Generator) -> Views:
    """At most `count` random cameras whose images the object fills as framed photographs.

    Nothing of it is nearer than the frustum begins: long things are not seen from their ends.
    """
    tried = 2 * count
    numbers = np.zeros((tried, 7))
    numbers[:, 0], numbers[:, 1] = rng.uniform(0, 360, tried), rng.uniform(-10, 35, tried)
    numbers[:, 2], numbers[:, 6] = rng.uniform(25, 50, tried), _WIDE
    fill = torch.from_numpy(rng.uniform(*_FILL, tried)).to(shape.corners)
    beside = torch.from_numpy(rng.uniform(-0.5, 0.5, (tried, 2))).to(fill) * (1 - fill)[:, None]
    framed, corners = torch.from_numpy(numbers).to(fill), shape.corners.reshape(1, -1, 3)
    for _ in range(_FRAMINGS):
        views = Views(framed)
        places = views.frustum(corners)
        low, high = places.amin(dim=1), places.amax(dim=1)
        right, down = (((low + high)[:, :2] / 2 - beside) / 2 * views.side[:, None])[
            ..., None
        ].unbind(1)
        framed = framed.clone()
        framed[:, 3:6] += right * views.axes[:, 0] - down * views.axes[:, 1]
        filled = (high - low)[:, :2].amax(dim=1) / 2 / fill
        framed[:, 6] *= torch.maximum(filled, -low[:, 2])
    near = (filled - 1).abs() < 0.02
    return Views(framed[near if near.any() else slice(None)][:count])


def shaded(shape: Shape, views: Views, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Images (B, S, S, 3) on white, masks (B, S, S) and w of the first hits (B, S / 2, S / 2)."""
    count, size = len(views.numbers), 2 * CONFIG.picture_size
    triangle, w = views.cast(shape, size)
    back = views.axes[:, 2]
    drawn = torch.from_numpy(rng.normal(size=(count, 3))).to(back) * 0.6
    light = F.normalize(back + drawn + back.new_tensor([0, 0, 0.6]), dim=1)
    ambient = torch.from_numpy(rng.uniform(0.35, 0.75, (count, 1))).to(back)
    eye = views.target + back * (views.distance * views.side)[:, None]
    toward = ((eye[:, None] - shape.corners[:, 0]) * shape.normals).sum(dim=-1).sign()
    lit = (toward * (light @ shape.normals.T)).clamp(0, 1)
    colors = shape.colors * (ambient + (1.05 - ambient) * lit)[..., None]
    hit = triangle >= 0
    each = torch.arange(count, device=back.device)[:, None, None]
    picture = torch.where(hit[..., None], colors[each, triangle.clamp_min(0)], 255.0)
    return (
        _halved(picture.clamp(0, 255)).to(torch.uint8),
        _halved(hit[..., None] * 255.0)[..., 0].to(torch.uint8),
        _blocks(w[..., None]).amin(dim=(2, 4))[:, ::2, ::2, 0].half(),
    )


def _blocks(pictures: Tensor) -> Tensor:
    """(B, H / 2, 2, W / 2, 2, C)."""
    return pictures.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))


def _halved(pictures: Tensor) -> Tensor:
    return _blocks(pictures).mean(dim=(2, 4))


def make_object(
    shape: Shape, seed: int | list[int], pictures: int = PICTURES
) -> dict[str, Array] | None:
    """All that training wants to know of an object; None where no camera sees it."""
    rng = np.random.default_rng(seed)
    share = (shape.areas / shape.areas.sum()).cpu().numpy()
    chosen = torch.from_numpy(rng.choice(len(share), ON_SURFACE, p=share / share.sum()))
    weights = torch.from_numpy(rng.dirichlet([1, 1, 1], ON_SURFACE)).to(shape.corners)
    chosen = chosen.to(weights.device)
    surface = (shape.corners[chosen] * weights[:, :, None]).sum(dim=1)
    spread = rng.choice([0.012, 0.04], (NEAR, 1)) * rng.normal(size=(NEAR, 3))
    anywhere = (rng.random((ANYWHERE, 3)) - 0.5) * 1.3
    near = surface[:NEAR] + torch.from_numpy(spread).to(surface)
    points = torch.cat([near, torch.from_numpy(anywhere).to(surface)])
    line = ((torch.arange(GRID).to(points) + 0.5) / GRID - 0.5) * GRID_SIDE
    cells = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), dim=-1).reshape(-1, 3)
    inside = carved(shape, torch.cat([points, cells])).cpu().numpy()
    views = framed_views(shape, pictures, rng)
    shown, masks, firsts = shaded(shape, views, rng)
    seen = masks.flatten(1).float().sum(dim=1) >= _LEAST_SEEN * 255
    if not seen.any():
        return None
    found = {
        "picture": shown[seen],
        "mask": masks[seen],
        "first": firsts[seen],
        "camera": views.numbers[seen].float(),
        "surface": surface.half(),
        "color": shape.colors[chosen].to(torch.uint8),
        "points": points.half(),
    }
    return {name: value.cpu().numpy() for name, value in found.items()} | {
        "inside": np.packbits(inside[: len(points)]),
        "grid": np.packbits(inside[len(points) :]),
    }


def deformed(vertices: Array, rng: np.random.Generator) -> Array:
    """Vertices (V, 3) in a box of side 1, stretched, and each by chance tapered, leant, twisted."""
    x, y, z = (vertices * _STRETCH ** rng.uniform(-1, 1, 3)).T
    height = np.ptp(z)
    up = (z - z.min()) / height - 0.5 if height else z  # -0.5 at the bottom, 0.5 at the top
    taper, twist = rng.uniform(-1, 1, 2) * (rng.random(2) < 0.4) * (_TAPER, _TWIST)
    lean = rng.uniform(-1, 1, (2, 1)) * (rng.random() < 0.4) * _LEAN * height
    turn = np.exp(1j * twist * up)
    across = (x + 1j * y) * turn * (1 + taper * up)
    x, y = np.stack([across.real, across.imag]) + lean * up
    bent: Array = np.stack([x, y, z], axis=1)
    bent -= (bent.min(axis=0) + bent.max(axis=0)) / 2
    return bent / np.ptp(bent, axis=0).max()


class Objects:
    """The shapes of the set by name: `00012`, `00012-deformed-0`, `smooth-00003`."""

    def __init__(self, path: Path, device: str) -> None:
        self.device = device
        with np.load(path) as file:
            self.data = {name: file[name] for name in file.files}

    def names(self, smooth: int, deformed: int) -> list[str]:
        """Of all of them. No deformed ones of those that are kept out of training."""
        own = range(len(self.data["names"]))
        return [
            *(f"{i:05d}" for i in own),
            *(f"smooth-{i:05d}" for i in range(smooth)),
            *(f"{i:05d}-deformed-{k}" for k in range(deformed) for i in own if i % KEPT_OUT),
        ]

    def make(self, name: str, pictures: int) -> dict[str, Array] | None:
        """As `make_object`."""
        kind, _, rest = name.partition("-")
        if kind == "smooth":
            shape = Shape.of(*make_smooth_object(int(rest)), self.device)
            return make_object(shape, int(rest), pictures)
        seed = [int(kind), *(int(k) for k in rest.split("-")[1:])]
        vertices, faces, colors = self._read(int(kind))
        if rest:
            vertices = deformed(vertices, np.random.default_rng(seed))
        return make_object(Shape.of(vertices, faces, colors, self.device), seed, pictures)

    def _read(self, i: int) -> tuple[Array, Array, Array]:
        starts, faces_from = self.data["vertex_offsets"], self.data["face_offsets"]
        of_faces = slice(faces_from[i], faces_from[i + 1])
        return (
            self.data["vertices"][starts[i] : starts[i + 1]].astype(float),
            self.data["faces"][of_faces].astype(int),
            self.data["face_colors"][of_faces].astype(float),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("objects", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--smooth", type=int, default=1000, help="so many smooth objects more")
    parser.add_argument("--deformed", type=int, default=1, help="so many others of each object")
    parser.add_argument("--pictures", type=int, default=PICTURES, help="of an object")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    objects = Objects(options.objects, options.device)
    names = objects.names(options.smooth, options.deformed)
    work = partial(_make_file, objects, options.cache, options.pictures)
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    with context.Pool(options.processes, torch.set_num_threads, (1,)) as pool:
        for done, _ in enumerate(pool.imap_unordered(work, names, chunksize=8), 1):
            if done % 200 == 0:
                print(f"{done} of {len(names)}", flush=True)


def _make_file(objects: Objects, cache: Path, pictures: int, name: str) -> None:
    path = cache / f"{name}.npz"
    if not path.exists() and (made := objects.make(name, pictures)) is not None:
        with atomic_path(path) as unfinished:
            np.savez(unfinished, **made)


if __name__ == "__main__":
    main()
