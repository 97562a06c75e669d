"""Meshes to better meshes: what a mesh is like, all that mends it in one call, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from .errors import InvalidInput
from .mesh import Mesh, face_areas, joined_faces, keep_large_parts, part_of_faces
from .meshes.decimation import MIN_FACES, decimate
from .meshes.painting import texture_to_vertex_colors
from .meshes.repair import fill_holes, is_watertight, merge_vertices, smooth
from .meshes.solid import make_watertight


@dataclass(frozen=True)
class MeshReport:
    """What a mesh is like.

    Attributes:
        parts: pieces that are not joined by a vertex.
        watertight: every edge is run along as often one way as the other.
        volume: enclosed, positive if normals point outward; means little if the mesh is not watertight.
        size: (3,) edges of its box along x, y, z.
    """

    vertices: int
    triangles: int
    parts: int
    watertight: bool
    volume: float
    size: tuple[float, float, float]

    def __str__(self) -> str:
        closed = "watertight" if self.watertight else "not watertight"
        size = " x ".join(f"{s:.3g}" for s in self.size)
        return f"{self.triangles:,} triangles, {self.vertices:,} vertices, {self.parts} part(s), {closed}, volume {self.volume:.4g}, size {size}"


def report(mesh: Mesh) -> MeshReport:
    """What a mesh is like; vertices at one position count as one for its parts and for whether it is watertight."""
    size = mesh.vertices.amax(dim=0) - mesh.vertices.amin(dim=0) if len(mesh.vertices) else torch.zeros(3)
    x, y, z = size.tolist()
    parts = len(np.unique(part_of_faces(mesh))) if len(mesh.faces) else 0
    closed = is_watertight(replace(mesh, faces=joined_faces(mesh)))
    return MeshReport(len(mesh.vertices), len(mesh.faces), parts, closed, mesh.volume(), (x, y, z))


def clean(
    mesh: Mesh,
    *,
    min_part_share: float = 0.0,
    hole_edges: int = 0,
    max_faces: int = 0,
    smoothing: int = 0,
    watertight: bool = False,
) -> Mesh:
    """All that mends a mesh, in the order that suits: merge, drop floaters, fill holes, smooth, make watertight, decimate.

    Args:
        min_part_share: see `mesh.keep_large_parts`.
        hole_edges: see `meshes.repair.fill_holes`.
        max_faces: see `meshes.decimation.decimate`; 0 leaves all.
        smoothing: see `meshes.repair.smooth`.
        watertight: see `meshes.solid.make_watertight`.

    Returns:
        the mesh; a texture has become colours of its vertices, since its atlas does not fit other triangles.

    Raises:
        InvalidInput: if a number is out of range, or the mesh has no triangles, or none with an area.
    """
    if not len(mesh.faces):
        raise InvalidInput("The mesh has no triangles, so there is nothing to clean.")
    if max_faces and max_faces < MIN_FACES:
        raise InvalidInput(f"A mesh needs at least {MIN_FACES} triangles, got {max_faces}.")
    merged = merge_vertices(texture_to_vertex_colors(mesh))
    if not len(merged.faces) or not float(face_areas(merged).sum()):
        raise InvalidInput("No triangle of the mesh has an area, so nothing is left of it.")
    mesh = smooth(fill_holes(keep_large_parts(merged, min_part_share), hole_edges), smoothing)
    if watertight:
        return make_watertight(mesh, max_faces)
    return decimate(mesh, max_faces) if max_faces else mesh


def placed(mesh: Mesh, *, size: float = 0.0, pivot: str = "keep", turn_deg: float = 0.0) -> Mesh:
    """The mesh at a size and place of one's own.

    Args:
        size: longest side of its box, in whatever unit the file is meant in (millimetres for STL and 3MF); 0 keeps it.
        pivot: "keep", "center" (the box's middle at the origin) or "bottom" (its middle at the origin, its lowest point at height 0).
        turn_deg: turn around the vertical axis, counter-clockwise from above: 90 turns the front to where the left was.

    Raises:
        InvalidInput: if a value is out of range.
    """
    if pivot not in ("keep", "center", "bottom"):
        raise InvalidInput(f"The pivot must be keep, center or bottom, got '{pivot}'.")
    if size < 0:
        raise InvalidInput(f"The size must not be negative, got {size}.")
    vertices = mesh.vertices
    if turn_deg:
        angle = torch.deg2rad(torch.tensor(float(turn_deg)))
        cos, sin = float(angle.cos()), float(angle.sin())
        vertices = vertices @ torch.tensor([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    low, high = vertices.amin(dim=0), vertices.amax(dim=0)
    if pivot != "keep":
        middle = (low + high) / 2
        if pivot == "bottom":
            middle = torch.stack([middle[0], middle[1], low[2]])
        vertices = vertices - middle
    if size:
        vertices = vertices * (size / float((high - low).amax().clamp_min(1e-12)))
    return replace(mesh, vertices=vertices)
