"""Measurements of a mesh: counts, closedness, volume and size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from .mesh import Mesh
from .printing import PrintReport, print_report
from .topology import component_labels, is_watertight, merged_faces, open_edges


@dataclass(frozen=True)
class MeshReport:
    """Measurements of a mesh.

    Attributes:
        components: number of connected components.
        watertight: whether each edge is used equally often in both directions.
        volume: enclosed volume, positive if normals point outward; only meaningful if watertight.
        size: size of the bounding box along x, y, z.
        quads: number of quads that triangles form, see `Mesh.polygons`.
        open_edges: number of edges that only one triangle uses.
        print: measurements for 3D printing; None unless requested.
    """

    vertices: int
    triangles: int
    components: int
    watertight: bool
    volume: float
    size: tuple[float, float, float]
    quads: int = 0
    open_edges: int = 0
    print: PrintReport | None = None

    def __str__(self) -> str:
        closed = "watertight" if self.watertight else "not watertight"
        if self.open_edges:
            closed += f" ({self.open_edges:,} open edges)"
        if self.watertight and self.components == 1:
            closed += ", one closed body"
        size = " x ".join(f"{s:.3g}" for s in self.size)
        return (
            f"{self.triangles:,} triangles, {self.vertices:,} vertices, {self.components} part(s),"
            f" {closed}, volume {self.volume:.4g} ({self.volume / 1000:.3g} cm3 if in millimetres),"
            f" size {size}{f', {self.quads:,} quads' if self.quads else ''}"
        )


def report(
    mesh: Mesh, *, for_print: bool = False, printer: Sequence[float] | None = None
) -> MeshReport:
    """Measure a mesh. Vertices at the same position count as one, except in `vertices`.

    Args:
        mesh: any.
        for_print: whether to add measurements for 3D printing.
        printer: see `printing.print_report`.
    """
    empty = torch.zeros(1, 3)
    vertices = mesh.vertices if len(mesh.vertices) else empty
    x, y, z = (vertices.amax(dim=0) - vertices.amin(dim=0)).tolist()
    merged = replace(mesh, faces=merged_faces(mesh))
    watertight = is_watertight(merged)
    return MeshReport(
        len(mesh.vertices),
        len(mesh.faces),
        int(component_labels(merged, by_position=False).max(initial=-1)) + 1,
        watertight,
        mesh.volume(),
        (x, y, z),
        len(mesh.polygons()[0]),
        0 if watertight else open_edges(mesh),
        print_report(mesh, printer) if for_print and len(mesh.faces) else None,
    )


def comparison(before: Mesh, after: Mesh) -> str:
    """Describe a mesh after and before a repair, and list the images that the repair dropped."""
    lines = [f"after: {report(after)}", f"before: {report(before)}"]
    images, kept = (({} if m.material is None else m.material.images) for m in (before, after))
    if dropped := [name for name in images if name not in kept]:
        lines.append(f"dropped, since they need the old uvs: {', '.join(dropped)}")
    return "\n".join(lines)
