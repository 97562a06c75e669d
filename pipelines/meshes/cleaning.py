"""Meshes to better meshes: all that mends one, in one call."""

from __future__ import annotations

from ..errors import InvalidInput
from .color_transfer import texture_to_vertex_colors
from .decimation import MIN_FACES, decimate
from .mesh import Mesh, face_areas, keep_large_parts
from .repair import fill_holes, merge_vertices, smooth
from .solid import make_solid


def clean(
    mesh: Mesh,
    *,
    min_part_share: float = 0.0,
    hole_edges: int = 0,
    max_faces: int = 0,
    smoothing: int = 0,
    watertight: bool = False,
) -> Mesh:
    """All that mends a mesh, in the order that suits.

    The order is: merge, drop floaters, fill holes, smooth, make watertight, decimate.

    Args:
        mesh: of at least one triangle.
        min_part_share: see `meshes.mesh.keep_large_parts`.
        hole_edges: see `meshes.repair.fill_holes`.
        max_faces: see `meshes.decimation.decimate`; 0 leaves all.
        smoothing: see `meshes.repair.smooth`.
        watertight: see `meshes.solid.make_solid`.

    Returns:
        the mesh; a texture has become colours of its vertices, since its atlas does not fit other
        triangles.

    Raises:
        InvalidInput: if a number is out of range, or the mesh has no triangles, or none with an
            area.
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
        return make_solid(mesh, max_faces=max_faces)
    return decimate(mesh, max_faces) if max_faces else mesh
