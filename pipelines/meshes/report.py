"""What a mesh is like, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from .mesh import Mesh, joined_faces, part_of_faces
from .repair import is_watertight


@dataclass(frozen=True)
class MeshReport:
    """What a mesh is like.

    Attributes:
        parts: pieces that are not joined by a vertex.
        watertight: every edge is run along as often one way as the other.
        volume: enclosed, positive if normals point outward; means little if the mesh is not
            watertight.
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
        if self.watertight and self.parts == 1:
            closed += ", one closed body"
        size = " x ".join(f"{s:.3g}" for s in self.size)
        return (
            f"{self.triangles:,} triangles, {self.vertices:,} vertices, {self.parts} part(s),"
            f" {closed}, volume {self.volume:.4g} ({self.volume / 1000:.3g} cm3 where it is in"
            f" millimetres), size {size}"
        )


def report(mesh: Mesh) -> MeshReport:
    """What a mesh is like; vertices at one position count as one for parts and holes."""
    size = (
        mesh.vertices.amax(dim=0) - mesh.vertices.amin(dim=0)
        if len(mesh.vertices)
        else torch.zeros(3)
    )
    x, y, z = size.tolist()
    parts = len(np.unique(part_of_faces(mesh))) if len(mesh.faces) else 0
    closed = is_watertight(replace(mesh, faces=joined_faces(mesh)))
    return MeshReport(len(mesh.vertices), len(mesh.faces), parts, closed, mesh.volume(), (x, y, z))
