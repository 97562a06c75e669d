"""Closed bodies for printing.

Other libraries were tried first (BENCHMARKS.md, 'Solid bodies'):

- manifold3d requires a manifold; the tests use it to check the results.
- pymeshfix keeps only the largest component. That is right for double shells, but wrong for
  components that touch or are separate.
- open3d and trimesh produce blocky voxels, and fill nothing if there is a hole.

libigl's generalised winding number finds the inside of any triangle soup. Its distances locate the
surface.
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

#: Default, lowest and highest resolution.
SOLID_RESOLUTIONS = (256, 16, 1024)
_MIN_THICKNESS = 1e-6  # lowest ratio of volume to extent times area
_MAX_VOLUME_CHANGE = 0.5  # largest relative change by decimation
_STAGES = 4


def make_solid(
    mesh: Mesh,
    resolution: int = SOLID_RESOLUTIONS[0],
    max_faces: int = 0,
    *,
    progress: Progress = silent,
) -> Mesh:
    """Make closed bodies for printing: watertight, with outward normals and without inner walls.

    Double and nested shells, open scans, intersecting components and loose triangles become the
    body that they enclose. Separate bodies stay separate. A mesh keeps its triangles if it is
    closed, or if filling holes and dropping inner shells closes it. Exactly two triangles meet at
    every edge of the result, even after merging vertices by position.

    Args:
        mesh: at least one triangle; a texture becomes vertex colours.
        resolution: cells along the longest side, 16 to 1024. Details smaller than a cell are lost.
            Memory grows with its square.
        max_faces: largest number of triangles; 0 for no limit.
        progress: called throughout; raise in it to stop the work.

    Returns:
        the bodies, with the colours of the nearest points of the mesh.

    Raises:
        InvalidInput: if a number is out of range, the mesh encloses nothing, or `max_faces` is too
            small for a closed body.
        EnvironmentProblem: if libigl is missing.

    Source: Jacobson et al., "Robust Inside-Outside Segmentation using Generalized Winding Numbers"
    (SIGGRAPH 2013); Barill et al., "Fast Winding Numbers for Soups and Clouds" (SIGGRAPH 2018), as
    in libigl.
    """
    _, low, high = SOLID_RESOLUTIONS
    if not low <= resolution <= high:
        raise InvalidInput(f"resolution must be between {low} and {high}, got {resolution}.")
    require_libigl("Solid bodies")
    original = merge_vertices(texture_to_vertex_colors(mesh))
    if not len(original.faces):
        raise InvalidInput("The mesh encloses nothing, so it cannot be made solid.")
    progress(0, _STAGES)
    body = _solid_shape(bare_shape(original), resolution, max_faces, progress)
    return transfer_colors(original, body, stage(progress, 3, _STAGES))


def _solid_shape(shape: Mesh, cells: int, max_faces: int, progress: Progress) -> Mesh:
    """Make closed bodies of a shape without colours; see `make_solid`."""
    # Try flat lids first: they close holes better than winding numbers.
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
    lowest = SOLID_RESOLUTIONS[1]
    while found is None and cells > lowest:
        try:
            body, cells = extract_bodies(soup, max(cells * 6 // 10, lowest), extracting)
        except InvalidInput:  # the whole body is smaller than a cell
            break
        found = _decimate_body(body, max_faces, volume, progress)
    if found is None:
        raise InvalidInput(f"The mesh cannot be made solid with {max_faces} triangles: allow more.")
    return found


def _is_body(shape: Mesh) -> bool:
    """Return whether a shape is a closed manifold around a volume.

    Rounding gives even flat pairs of opposite triangles a tiny volume, so a threshold is used.
    """
    extent = float((shape.vertices.amax(dim=0) - shape.vertices.amin(dim=0)).amax())
    area = float(face_areas(shape).sum())
    return is_closed_manifold(shape) and shape.volume() > _MIN_THICKNESS * extent * area


def _decimate_body(body: Mesh, count: int, volume: float, progress: Progress) -> Mesh | None:
    """Decimate a body to `count` triangles; None if that fails or changes the volume too much."""
    fewer = collapse_edges(body, count, stage(progress, 2, _STAGES)) if count else body
    fewer = separate_touching(fewer)
    same = abs(fewer.volume() / volume - 1) < _MAX_VOLUME_CHANGE and _is_body(fewer)
    return fewer if same and len(fewer.faces) <= (count or len(fewer.faces)) else None
