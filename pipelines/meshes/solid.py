"""Closed bodies for printing.

Other libraries were tried first (BENCHMARKS.md, 'Solid bodies'). manifold3d requires a manifold;
the tests check the results with it. pymeshfix keeps the largest component only: right for double
shells, wrong where components touch or stand apart. open3d and trimesh fill voxels as blocks, and
nothing where there is a hole. libigl's generalised winding number tells the inside of any triangle
soup, and its distances tell where the surface is.
"""

from __future__ import annotations

from ..errors import InvalidInput
from ..progress import Progress, silent, stage
from .color_transfer import require_libigl, texture_to_vertex_colors, transfer_colors
from .decimation import collapse_edges
from .mesh import Mesh, face_areas
from .repair import close_shape, separate_touching
from .topology import bare_shape, is_closed_manifold, merge_vertices
from .winding import TriangleSoup, drop_inner_bodies, extract_bodies

DEFAULT_SOLID_RESOLUTION, MIN_SOLID_RESOLUTION, MAX_SOLID_RESOLUTION = 256, 16, 1024
_MIN_THICKNESS = 1e-6  # of a body over its length
_MAX_VOLUME_CHANGE = 0.5  # by decimation, as a share
_STAGES = 4


def make_solid(
    mesh: Mesh,
    resolution: int = DEFAULT_SOLID_RESOLUTION,
    max_faces: int = 0,
    *,
    progress: Progress = silent,
) -> Mesh:
    """Make closed bodies for printing: watertight, outward, without inner walls.

    Double and nested shells, open scans, components that intersect and loose triangles become the
    body that they enclose; bodies that stand apart stay apart. A mesh that is closed already, or is
    once small holes are closed and inner shells are dropped, keeps its triangles. At every edge of
    the result exactly two triangles meet, also when vertices are merged by position.

    Args:
        mesh: at least one triangle; a texture becomes vertex colours.
        resolution: cells along the longest side, 16 to 1024. Details below a cell are lost. Memory
            grows with the square.
        max_faces: largest number of triangles; 0 for no limit.
        progress: called all along; an error that it raises stops the work.

    Returns:
        the bodies, in the colours of the nearest points of the mesh.

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
            f"resolution must be between {MIN_SOLID_RESOLUTION} and {MAX_SOLID_RESOLUTION}, got"
            f" {resolution}."
        )
    require_libigl("Solid bodies")
    original = merge_vertices(texture_to_vertex_colors(mesh))
    if not len(original.faces):
        raise InvalidInput("The mesh encloses nothing, so it cannot be made solid.")
    progress(0, _STAGES)
    body = _solid_shape(bare_shape(original), resolution, max_faces, progress)
    return transfer_colors(original, body, stage(progress, 3, _STAGES))


def _solid_shape(shape: Mesh, cells: int, max_faces: int, progress: Progress) -> Mesh:
    """Return the bodies of a shape without colours."""
    # Flat lids close holes better than winding numbers do.
    closed = close_shape(shape)
    progress(1, 2 * _STAGES)
    soup = TriangleSoup.oriented(closed)
    closes = _is_body(soup.mesh())
    body = drop_inner_bodies(soup.mesh()) if closes else shape
    extracting = stage(progress, 1, _STAGES)
    if not closes or not TriangleSoup.of(body).is_simple():
        soup = soup if closes else TriangleSoup.oriented(shape)
        body, cells = extract_bodies(soup, cells, extracting)
    volume = body.volume()
    found = _decimate_body(body, max_faces, volume, progress)
    while found is None and cells > MIN_SOLID_RESOLUTION:
        try:
            body, cells = extract_bodies(
                soup, max(cells * 6 // 10, MIN_SOLID_RESOLUTION), extracting
            )
        except InvalidInput:  # all of it is smaller than a cell
            break
        found = _decimate_body(body, max_faces, volume, progress)
    if found is None:
        raise InvalidInput(f"The mesh cannot be made solid with {max_faces} triangles: allow more.")
    return found


def _is_body(shape: Mesh) -> bool:
    """Return whether a shape is a closed manifold around a volume.

    Triangles and their backs alone enclose a little by rounding.
    """
    extent = float((shape.vertices.amax(dim=0) - shape.vertices.amin(dim=0)).amax())
    area = float(face_areas(shape).sum())
    return is_closed_manifold(shape) and shape.volume() > _MIN_THICKNESS * extent * area


def _decimate_body(body: Mesh, max_faces: int, volume: float, progress: Progress) -> Mesh | None:
    """Return the body with so few triangles, or None if it would be another one."""
    fewer = collapse_edges(body, max_faces, stage(progress, 2, _STAGES)) if max_faces else body
    fewer = separate_touching(fewer)
    same = abs(fewer.volume() / volume - 1) < _MAX_VOLUME_CHANGE and _is_body(fewer)
    return fewer if same and len(fewer.faces) <= (max_faces or len(fewer.faces)) else None
