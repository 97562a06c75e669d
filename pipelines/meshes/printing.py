"""Measure a mesh for 3D printing, and find the orientation that needs the least support."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..errors import InvalidInput
from ..progress import Progress, silent
from .mesh import Mesh, rotate
from .topology import Floats, Indices, bare_shape

if TYPE_CHECKING:
    import trimesh

_MAX_OVERHANG = math.sin(math.radians(45)) + 1e-4  # most printers need no support up to 45 degrees
_LAYER = 0.0025  # height of the first layer, as a share of the longest side: 0.2 mm of 80 mm
_RAYS = 20_000  # rays that measure the thickness of walls
_THINNEST = 0.001  # share of the shortest rays that are ignored: they cross sharp edges
_OPPOSITE = -0.5  # largest cosine between the normals of the two sides of a wall
_MAX_POSES = 64  # sides of the convex hull that are tried
_NORMAL_STEPS = 20  # triangles of the hull with the same normal, rounded to 1/20, form one side
_ROUNDING = 1e-5  # relative rounding error of sizes in float32
_LEAST_GAIN = 0.01  # smaller gains, as a share of the present support, leave the mesh as it is


@dataclass(frozen=True)
class PrintReport:
    """Measurements of a mesh that stands on the printer's bed, z up, in the mesh's unit.

    Attributes:
        thinnest_wall: thickness of the thinnest wall; None if no wall has two sides, or if libigl
            is missing.
        overhang_area: area of the surface that leans out by more than 45 degrees and needs support.
        support_volume: volume below that area, down to the bed.
        bed_contact: area that stands on the bed.
        fits: whether the mesh fits into the printer's volume; None if no volume was given.
    """

    thinnest_wall: float | None
    overhang_area: float
    support_volume: float
    bed_contact: float
    fits: bool | None

    def __str__(self) -> str:
        wall = "unknown" if self.thinnest_wall is None else f"{self.thinnest_wall:.3g}"
        fits = {None: "", True: ", fits the printer", False: ", does not fit the printer"}
        return (
            f"thinnest wall {wall}, overhangs {self.overhang_area:.4g}, support"
            f" {self.support_volume:.4g}, bed contact {self.bed_contact:.4g}{fits[self.fits]}"
        )


def parse_volume(text: str) -> tuple[float, float, float]:
    """Convert a printer's volume such as "220x220x250" to its width, depth and height.

    Raises:
        InvalidInput: if it is not three positive numbers.
    """
    try:
        width, depth, height = (float(part) for part in text.lower().split("x"))
    except ValueError:
        width = depth = height = 0.0
    if not 0 < min(width, depth, height) <= max(width, depth, height) < math.inf:
        raise InvalidInput(
            f"printer must be width x depth x height in millimetres, as in 220x220x250, got"
            f" '{text}'."
        )
    return width, depth, height


def print_report(mesh: Mesh, printer: Sequence[float] | None = None) -> PrintReport:
    """Measure a mesh for printing in its present orientation.

    Args:
        mesh: at least one triangle; z up. Its lowest point touches the bed.
        printer: width, depth and height of the printer's volume, in the mesh's unit. The mesh may
            turn by 90 degrees on the bed.
    """
    shape = _Shape(bare_shape(mesh))
    fits = None
    if printer is not None:
        x, y, z = (np.ptp(shape.vertices, axis=0) * (1 - _ROUNDING)).tolist()
        *bed, height = printer
        fits = z <= height and min(x, y) <= min(bed) and max(x, y) <= max(bed)
    overhang, support, contact = shape.support(np.array([0.0, 0.0, -1.0]))
    return PrintReport(_thinnest_wall(shape), overhang, support, contact, fits)


def orient(mesh: Mesh, progress: Progress = silent) -> Mesh:
    """Turn a mesh so that it needs the least support on a printer, and stands by itself.

    Each side of the convex hull on which the mesh is stable is tried. The mesh stays as it is if no
    side saves at least 1 % of the support.

    Args:
        mesh: at least one triangle; z up.
        progress: called for each side; raise in it to stop the work.
    """
    shape = _Shape(bare_shape(mesh))
    start = np.array([0.0, 0.0, -1.0])
    down, least = start, math.inf
    if shape.is_stable(start):
        least = shape.support(start)[1] * (1 - _LEAST_GAIN)
    sides = shape.sides()
    for i, side in enumerate(sides):
        if shape.is_stable(side) and (support := shape.support(side)[1]) < least:
            down, least = side, support
        progress(i + 1, len(sides))
    if down is start:
        return mesh
    return rotate(mesh, torch.from_numpy(_shortest_rotation(down, start)))


def _shortest_rotation(source: Floats, target: Floats) -> Floats:
    """Return the matrix (3, 3) that turns one unit vector into another, by the smallest angle."""
    cosine = float(source @ target)
    if cosine < -1 + 1e-9:  # opposite: turn by 180 degrees around any perpendicular axis
        across = np.eye(3)[np.abs(source).argmin()]
        axis = np.cross(source, across)
        return 2 * np.outer(axis, axis) / (axis @ axis) - np.eye(3)
    x, y, z = np.cross(source, target)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + cross + cross @ cross / (1 + cosine)


class _Shape:
    """The triangles of a mesh, with the areas that are the same for all print orientations."""

    def __init__(self, shape: Mesh) -> None:
        self.vertices: Floats = shape.vertices.double().numpy()
        self.faces: Indices = shape.faces.numpy()
        a, b, c = self.vertices[self.faces].transpose(1, 0, 2)
        self.vector_areas: Floats = np.cross(b - a, c - a) / 2  # (F, 3)
        self.areas: Floats = np.linalg.norm(self.vector_areas, axis=1)
        self.layer = _LAYER * float(np.ptp(self.vertices, axis=0).max())

    @cached_property
    def solid(self) -> trimesh.Trimesh:
        import trimesh  # slow to import

        return trimesh.Trimesh(self.vertices, self.faces, process=False)

    @cached_property
    def center(self) -> Floats:
        """Centre of mass of the solid, or of the surface if that is open."""
        solid = self.solid
        center: Floats = solid.center_mass if solid.is_watertight else solid.centroid
        return center

    def support(self, down: Floats) -> tuple[float, float, float]:
        """Return the overhang area, the support volume and the area on the bed.

        Args:
            down: (3,) unit direction to the bed.
        """
        height = -(self.vertices @ down)
        height = (height - height.min())[self.faces]  # (F, 3)
        shadow = self.vector_areas @ down  # projected area of each triangle
        on_bed = (height.max(axis=1) <= self.layer) & (shadow > 0)
        leaning = (shadow > _MAX_OVERHANG * self.areas) & ~on_bed
        volume = (shadow * height.mean(axis=1))[leaning].sum()
        return float(self.areas[leaning].sum()), float(volume), float(shadow[on_bed].sum())

    def sides(self) -> Floats:
        """Return (N, 3) outward unit normals of the convex hull's sides, the largest first."""
        hull = self.solid.convex_hull
        _, side = np.unique(
            (hull.face_normals * _NORMAL_STEPS).round(), axis=0, return_inverse=True
        )
        vectors = hull.face_normals * hull.area_faces[:, None]
        sums = np.stack([np.bincount(side.reshape(-1), vectors[:, i]) for i in range(3)], axis=1)
        areas = np.linalg.norm(sums, axis=1)
        largest = np.argsort(-areas, kind="stable")[:_MAX_POSES]
        found: Floats = sums[largest] / areas[largest, None].clip(1e-300)
        return found

    def is_stable(self, down: Floats) -> bool:
        """Return whether the shape stands on its lowest points without falling over."""
        from scipy.spatial import ConvexHull, QhullError  # slow to import
        from trimesh.geometry import plane_transform

        height = -(self.vertices @ down)
        across = plane_transform(np.zeros(3), down)[:2, :3]
        try:
            base = ConvexHull(self.vertices[height <= height.min() + self.layer] @ across.T)
        except (QhullError, ValueError):  # a point or a line
            return False
        distances = base.equations[:, :2] @ (across @ self.center) + base.equations[:, 2]
        return bool((distances < 0).all())


def _thinnest_wall(shape: _Shape) -> float | None:
    """Return the thickness of the thinnest wall, or None if it cannot be measured.

    Rays run inward from points of the surface to the opposite side of their wall.
    """
    if importlib.util.find_spec("igl") is None or not shape.areas.any():
        return None
    import igl
    from trimesh.sample import sample_surface

    points, triangle = sample_surface(shape.solid, _RAYS, seed=0)
    normals = shape.vector_areas / shape.areas[:, None].clip(1e-300)
    inward = -normals[triangle]
    tree = igl.AABB()
    tree.init(shape.vertices, shape.faces)
    skipped = 1e-3 * shape.layer  # so that no ray hits its own triangle
    hit, distance, _ = tree.intersect_ray_first(
        shape.vertices, shape.faces, points + skipped * inward, inward
    )
    opposite = (normals[hit] * -inward).sum(axis=1) < _OPPOSITE
    walls = distance[(hit >= 0) & opposite]
    if not len(walls):
        return None
    return float(np.quantile(walls, _THINNEST, method="higher")) + skipped
