"""The training set of the model that sees photographs: CC0 objects, shaded, with what is inside.

python -m training.frustum_dataset OBJECTS.npz CACHE [--smooth 1000] [--part 0 --parts 2]

OBJECTS.npz holds `names`, and of all objects together `vertices`, `faces` and `face_colors` with
their `vertex_offsets` and `face_offsets`: triangle soups in a box of side 1, z up. Many are open,
so what is inside is found by carving. `smooth_objects` adds round things, of which there are none.
Makes one file an object, and goes on where it was stopped. Needs embreex.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import trimesh
from scipy.ndimage import minimum_filter

from pipelines.files import atomic_path
from pipelines.reconstruction.frustum import FrustumConfig

from .smooth_objects import make_smooth_object

CONFIG = FrustumConfig()
GRID, GRID_SIDE = 48, 1.1  # cells along an edge, and its length, of the carved grid
PICTURES = 12  # of an object
NOTHING = 9.0  # w of a ray that hits nothing
FOREGROUND_RATIO = 0.85
NEAR, ANYWHERE, ON_SURFACE = 9000, 5000, 12000  # points of an object
_CARVING_CAMERAS, _CARVING_SIDE, _CARVING_HALF = 42, 128, 0.92
_BIAS = 0.004
_WIDE = 1.8  # side of the first look, from which the picture is framed

Array = np.ndarray[Any, np.dtype[Any]]


class View(NamedTuple):
    """A camera: degrees, and the square around `target` that its picture spans."""

    azimuth_deg: float
    elevation_deg: float
    fov_y_deg: float
    target: Array
    side: float

    @property
    def axes(self) -> tuple[Array, Array, Array]:
        """Right, up and backward."""
        a, e = math.radians(self.azimuth_deg), math.radians(self.elevation_deg)
        back = np.array([math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)])
        right = np.cross([0, 0, 1.0], back)
        right /= np.linalg.norm(right)
        return right, np.cross(back, right), back

    @property
    def distance(self) -> float:
        """Of the camera from the target, in picture sides."""
        return 0.5 / math.tan(math.radians(self.fov_y_deg) / 2)

    def numbers(self) -> Array:
        """(7,) float32: all of it, for a file."""
        return np.array([*self[:3], *self.target, self.side], np.float32)

    @classmethod
    def of(cls, numbers: Array) -> View:
        """The inverse of `numbers`."""
        azimuth, elevation, fov, *target, side = numbers.tolist()
        return cls(azimuth, elevation, fov, np.array(target, np.float32), side)

    def frustum(self, points: Array) -> Array:
        """(N, 3) u, v, w of world points, see `fields.frustum_volume`."""
        q = (points - self.target) / self.side
        x, y, z = (q @ axis for axis in self.axes)
        nearness = 2 * self.distance / np.maximum(self.distance - z, 0.05)
        return np.stack([x * nearness, -y * nearness, -z / CONFIG.half_depth], -1).astype("f4")


def cast(scene: Any, view: View, size: int) -> tuple[Array, Array, Array, Array]:
    """First hits: triangle (N,), pixel (N,) and w (N,) of each, and all pixels' directions."""
    right, up, back = view.axes
    line = ((np.arange(size) + 0.5) / size - 0.5) * view.side
    across, down = np.meshgrid(line, line)
    eye = view.target + back * view.distance * view.side
    rays = view.target + across.ravel()[:, None] * right - down.ravel()[:, None] * up - eye
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    triangle, pixel, hit = scene.intersects_id(
        np.repeat(eye[None], size * size, 0), rays, multiple_hits=False, return_locations=True
    )
    w = -(((hit - view.target) / view.side) @ back) / CONFIG.half_depth
    return triangle, pixel, w, rays


def carved(scene: Any, points: Array) -> Array:
    """(N,) which points no camera of a sphere sees as free.

    The least depth of 3 x 3 pixels keeps thin parts.
    """
    free = np.zeros(len(points), bool)
    line = ((np.arange(_CARVING_SIDE) + 0.5) / _CARVING_SIDE * 2 - 1) * _CARVING_HALF
    across, down = (x.ravel()[:, None] for x in np.meshgrid(line, line))
    for back in trimesh.util.unitize(_fibonacci(_CARVING_CAMERAS)):
        helper = np.array([0, 0, 1.0]) if abs(back[2]) < 0.95 else np.array([1.0, 0, 0])
        right = trimesh.util.unitize(np.cross(helper, back))
        up = np.cross(back, right)
        origins = across * right - down * up + 3 * back
        _, ray, hit = scene.intersects_id(
            origins, np.repeat(-back[None], len(origins), 0), False, return_locations=True
        )
        depth = np.full(len(origins), np.inf)
        depth[ray] = (hit - origins[ray]) @ -back
        depth = minimum_filter(depth.reshape(_CARVING_SIDE, _CARVING_SIDE), 3).ravel()
        column, row = (
            np.clip(((sign * points @ axis / _CARVING_HALF + 1) / 2 * _CARVING_SIDE), 0, 127)
            for sign, axis in ((1, right), (-1, up))
        )
        seen = depth[row.astype(int) * _CARVING_SIDE + column.astype(int)]
        free |= 3 - points @ back < seen - _BIAS
    return ~free


def _fibonacci(count: int) -> Array:
    i = np.arange(count) + 0.5
    z, angle = 1 - 2 * i / count, math.pi * (1 + 5**0.5) * i
    radius = np.sqrt(1 - z * z)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], 1)


def framed_view(scene: Any, rng: np.random.Generator) -> View | None:
    """A random camera whose picture the object fills as framing leaves a photograph."""
    view = View(rng.uniform(0, 360), rng.uniform(-10, 35), rng.uniform(25, 50), np.zeros(3), _WIDE)
    size = 48
    _, pixel, _, _ = cast(scene, view, size)
    if len(pixel) < 8:
        return None
    row, column = np.divmod(pixel, size)
    right, up, _ = view.axes
    x = ((column.min() + column.max() + 1) / (2 * size) - 0.5) * _WIDE
    y = ((row.min() + row.max() + 1) / (2 * size) - 0.5) * _WIDE
    side = max(np.ptp(row), np.ptp(column)) / size * _WIDE / FOREGROUND_RATIO + 1e-3
    return view._replace(target=x * right - y * up, side=float(side))


def shaded(
    scene: Any, view: View, normals: Array, colors: Array, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Picture (S, S, 3) on white, mask (S, S) and w of the first hits (S / 2, S / 2)."""
    size = 2 * CONFIG.picture_size
    triangle, pixel, w, rays = cast(scene, view, size)
    light = trimesh.util.unitize(view.axes[2] + rng.normal(size=3) * 0.6 + [0, 0, 0.6])
    ambient = rng.uniform(0.35, 0.75)
    toward = -(normals[triangle] * rays[pixel]).sum(1, keepdims=True)
    lit = np.clip((normals[triangle] * np.sign(toward)) @ light, 0, 1)[:, None]
    picture = np.full((size * size, 3), 255.0)
    mask, first = np.zeros(size * size), np.full(size * size, NOTHING)
    picture[pixel] = colors[triangle] * (ambient + (1.05 - ambient) * lit)
    mask[pixel], first[pixel] = 255, w
    by_two = (size // 2, 2, size // 2, 2)
    return (
        picture.clip(0, 255).reshape(*by_two, 3).mean((1, 3)).astype("u1"),
        mask.reshape(by_two).mean((1, 3)).astype("u1"),
        first.reshape(by_two).min((1, 3))[::2, ::2].astype("f2"),
    )


def make_object(vertices: Array, faces: Array, colors: Array, seed: int) -> dict[str, Array] | None:
    """All that training wants to know of an object; None where no camera sees it."""
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    scene = RayMeshIntersector(trimesh.Trimesh(vertices, faces, process=False))
    rng = np.random.default_rng(seed)
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    area = np.linalg.norm(normals, axis=1)
    normals /= area[:, None] + 1e-12
    chosen = rng.choice(len(faces), ON_SURFACE, p=area / area.sum())
    weights = rng.dirichlet([1, 1, 1], ON_SURFACE)[:, :, None]
    surface = (vertices[faces[chosen]] * weights).sum(1)
    spread = rng.choice([0.012, 0.04], (NEAR, 1))
    near = surface[:NEAR] + rng.normal(size=(NEAR, 3)) * spread
    points = np.concatenate([near, (rng.random((ANYWHERE, 3)) - 0.5) * 1.3])
    line = ((np.arange(GRID) + 0.5) / GRID - 0.5) * GRID_SIDE
    cells = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    inside = carved(scene, np.concatenate([points, cells]))
    views = [v for v in (framed_view(scene, rng) for _ in range(PICTURES)) if v is not None]
    if not views:
        return None
    seen = [shaded(scene, view, normals, colors, rng) for view in views]
    pictures, masks, firsts = (np.stack(x) for x in zip(*seen, strict=True))
    return {
        "picture": pictures,
        "mask": masks,
        "first": firsts,
        "camera": np.stack([view.numbers() for view in views]),
        "surface": surface.astype("f2"),
        "color": colors[chosen].astype("u1"),
        "points": points.astype("f2"),
        "inside": np.packbits(inside[: len(points)]),
        "grid": np.packbits(inside[len(points) :]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("objects", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--smooth", type=int, default=1000, help="so many smooth objects more")
    parser.add_argument("--part", type=int, default=0, help="which of the parts")
    parser.add_argument("--parts", type=int, default=1, help="processes that share the work")
    options = parser.parse_args()
    data = np.load(options.objects)
    starts, faces_from = data["vertex_offsets"], data["face_offsets"]

    def cc0_object(i: int) -> tuple[Array, Array, Array]:
        of_faces = slice(faces_from[i], faces_from[i + 1])
        return (
            data["vertices"][starts[i] : starts[i + 1]].astype(float),
            data["faces"][of_faces].astype(int),
            data["face_colors"][of_faces].astype(float),
        )

    options.cache.mkdir(parents=True, exist_ok=True)
    wanted = [(f"{i:05d}", cc0_object, i) for i in range(len(data["names"]))]
    wanted += [(f"smooth-{i:05d}", make_smooth_object, i) for i in range(options.smooth)]
    for name, source, i in wanted[options.part :: options.parts]:
        path = options.cache / f"{name}.npz"
        if path.exists():
            continue
        made = make_object(*source(i), seed=i)
        if made is not None:
            with atomic_path(path) as partial:
                np.savez(partial, **made)


if __name__ == "__main__":
    main()
