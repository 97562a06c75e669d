"""Mesh repair: all steps in one call."""

from __future__ import annotations

from ..errors import InvalidInput
from ..progress import Progress, silent, stage
from .color_transfer import texture_to_vertex_colors
from .decimation import decimate
from .mesh import Mesh, face_areas
from .repair import fill_holes, smooth
from .solid import make_solid
from .topology import keep_large_components, merge_vertices

_STAGES = 5


def clean(
    mesh: Mesh,
    *,
    min_part_share: float = 0.0,
    hole_edges: int = 0,
    max_faces: int = 0,
    smoothing: int = 0,
    watertight: bool = False,
    progress: Progress = silent,
) -> Mesh:
    """Repair a mesh.

    Merge vertices, drop small components, fill holes, smooth, make watertight and decimate, in this
    order.

    Args:
        mesh: at least one triangle.
        min_part_share: see `meshes.topology.keep_large_components`.
        hole_edges: see `meshes.repair.fill_holes`.
        max_faces: see `meshes.decimation.decimate`; 0 keeps all.
        smoothing: see `meshes.repair.smooth`.
        watertight: see `meshes.solid.make_solid`.
        progress: called after each step, and during long ones; raise in it to stop the work.

    Returns:
        the repaired mesh. A texture becomes vertex colours, since its uvs do not fit the new
        triangles.

    Raises:
        InvalidInput: if a number is out of range, or all triangles have zero area.
        EnvironmentProblem: if libigl is needed but missing, see `make_solid` and `decimate`.
    """
    if not len(mesh.faces):
        raise InvalidInput("The mesh has no triangles, so there is nothing to clean.")
    mesh = merge_vertices(texture_to_vertex_colors(mesh))
    if not len(mesh.faces) or not float(face_areas(mesh).sum()):
        raise InvalidInput("No triangle of the mesh has an area, so nothing is left of it.")
    progress(1, _STAGES)
    mesh = keep_large_components(mesh, min_part_share)
    progress(2, _STAGES)
    mesh = fill_holes(mesh, hole_edges)
    progress(3, _STAGES)
    mesh = smooth(mesh, smoothing, stage(progress, 3, _STAGES))
    if watertight:
        mesh = make_solid(mesh, max_faces=max_faces, progress=stage(progress, 4, _STAGES))
    elif max_faces:
        mesh = decimate(mesh, max_faces, stage(progress, 4, _STAGES))
    progress(_STAGES, _STAGES)
    return mesh
