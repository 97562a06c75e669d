"""Closed bodies, for printing.

What the well-kept wheels give was looked at first (BENCHMARKS.md, 'Solid bodies'). manifold3d wants
a manifold to begin with, and is what the results are checked by; pymeshfix keeps the largest part
alone, which is right for double shells and wrong where parts meet or stand apart; open3d and
trimesh fill voxels as blocks, and nothing where there is a hole. libigl's generalised winding
number says what is inside of anything, and its distances where the surface is.
"""

from __future__ import annotations

import importlib.util

from ..errors import EnvironmentProblem, InvalidInput
from ..progress import Progress, silent
from .color_transfer import painted_like, texture_to_vertex_colors
from .decimation import MIN_FACES, decimate
from .mending import mended, without_touching
from .mesh import Mesh, face_areas, shape_of
from .repair import is_watertight, merge_vertices
from .winding import Skin, bodies, body_of

DEFAULT_SOLID_RESOLUTION, MIN_SOLID_RESOLUTION, MAX_SOLID_RESOLUTION = 256, 16, 1024
_MOST_REDUCTION = 100  # times fewer triangles by decimation; beyond that, larger cells do better
_THINNEST = 1e-6  # thickness of a body over its length
_CHANGE = 0.5  # of its volume that a body may undergo for the sake of fewer triangles


def make_solid(
    mesh: Mesh,
    resolution: int = DEFAULT_SOLID_RESOLUTION,
    max_faces: int = 0,
    *,
    progress: Progress = silent,
) -> Mesh:
    """A body for printing: watertight, outward, nowhere through itself, without walls inside.

    Double and nested shells, open scans, parts that intersect and loose triangles become the body
    that they are the skin of; parts that stand apart stay apart. What is such a body already, or is
    when small holes are closed and inner shells left out, keeps its triangles.

    Args:
        mesh: at least one triangle; a texture becomes colours of vertices.
        resolution: cells along the longest side, 16 to 1024. Details below a cell are lost. Memory
            grows with the square.
        max_faces: most triangles of the result; 0 for no limit.
        progress: called after each slab of the grid.

    Returns:
        the body in the colours of the nearest points of the mesh.

    Raises:
        InvalidInput: if a number is out of range, the mesh encloses nothing, or cannot be closed
            with so few triangles.
        EnvironmentProblem: if libigl is missing.

    Source: Jacobson et al., "Robust Inside-Outside Segmentation using Generalized Winding Numbers"
    (SIGGRAPH 2013); Barill et al., "Fast Winding Numbers for Soups and Clouds" (SIGGRAPH 2018), as
    in libigl; Lewiner et al. (2003), as in scikit-image.
    """
    if not MIN_SOLID_RESOLUTION <= resolution <= MAX_SOLID_RESOLUTION:
        raise InvalidInput(
            f"The resolution must lie between {MIN_SOLID_RESOLUTION} and {MAX_SOLID_RESOLUTION},"
            f" got {resolution}."
        )
    if importlib.util.find_spec("igl") is None:
        raise EnvironmentProblem(
            "Solid bodies need the package libigl: run 'pip install libigl', which is not there for"
            " every platform."
        )
    original = merge_vertices(texture_to_vertex_colors(mesh))
    if not len(original.faces):
        raise InvalidInput("The mesh encloses nothing, so it cannot be made solid.")
    shape = shape_of(original)
    # Where rims can be closed, flat lids close holes better than winding numbers do.
    skin, cells = Skin.of(mended(shape)), resolution
    closes = _is_body(skin.mesh())
    body = bodies(skin.mesh()) if closes else shape
    if not closes or not Skin.plain(body).is_simple():
        skin = skin if closes else Skin.of(shape)
        body, cells = body_of(skin, cells, progress)
    volume, closed = body.volume(), _fewer_and_closed(body, max_faces, body.volume())
    while closed is None and cells > MIN_SOLID_RESOLUTION:
        try:
            body, cells = body_of(skin, max(cells * 6 // 10, MIN_SOLID_RESOLUTION), progress)
        except InvalidInput:  # all of it is smaller than a cell
            break
        closed = _fewer_and_closed(body, max_faces, volume)
    if closed is None:
        raise InvalidInput(f"The mesh cannot be made solid with {max_faces} triangles: allow more.")
    return painted_like(without_touching(closed), original)


def _is_body(shape: Mesh) -> bool:
    """Whether a shape is closed and encloses more than rounding does.

    Triangles and their backs alone enclose something by rounding.
    """
    extent = float((shape.vertices.amax(dim=0) - shape.vertices.amin(dim=0)).amax())
    return is_watertight(shape) and shape.volume() > _THINNEST * extent * float(
        face_areas(shape).sum()
    )


def _fewer_and_closed(closed: Mesh, max_faces: int, volume: float) -> Mesh | None:
    """At most so many triangles, still closed and about so large; None where that comes not out."""
    if not max_faces or len(closed.faces) <= max_faces:
        return closed
    if len(closed.faces) > _MOST_REDUCTION * max_faces:
        return None
    for share in (1.0, 0.9, 0.7):  # what is mended on the way may be over the limit
        fewer = mended(decimate(closed, max(MIN_FACES, int(share * max_faces))))
        same = abs(fewer.volume() / volume - 1) < _CHANGE
        if len(fewer.faces) <= max_faces and same and _is_body(fewer):
            return fewer
    return None
