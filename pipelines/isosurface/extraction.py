"""Triplane to triangles: the one entry of this package."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import EmptySurface, InvalidInput
from ..progress import Progress, silent
from ..reconstruction.triplane import Triplane, density_of, point_memory, raw_density_of
from .flexicubes import CubeGrid, close_boundary, flexicubes, has_surface, official_box
from .volume import sample_volume, stride_for

MIN_RESOLUTION, MAX_RESOLUTION = 32, 512
DEFAULT_CHUNK_SIZE = 131072
_NO_OBJECT = "The views held no object: its field has no surface. Use a picture with one clear object, or look at the background removal."


def surface_memory(resolution: int, chunk_size: int = DEFAULT_CHUNK_SIZE) -> int:
    """Bytes that `extract_surface` needs at most: a few for each point of the grid, more for each cube of its surface, and a chunk of points."""
    return 10 * (resolution + 1) ** 3 + 10_000 * resolution**2 + point_memory(chunk_size)  # pragma: no mutate (an estimate)


@torch.no_grad()
def extract_surface(
    triplane: Triplane,
    *,
    resolution: int | None = None,
    chunk_size: int = DEFAULT_CHUNK_SIZE,
    threshold: float | None = None,
    exact: bool = False,
    closed: bool = True,
    empty_as_box: bool = False,
    progress: Progress = silent,
) -> tuple[Tensor, Tensor]:
    """The surface of a triplane: FlexiCubes for signed distances, marching cubes for densities.

    Args:
        triplane: of either kind.
        resolution: cubes along an edge ("mesh") or points along an edge ("nerf"), 32 to 512; the preset's if None.
        chunk_size: points evaluated at once; bounds memory and changes no vertex.
        threshold: density of the surface ("nerf" only); the preset's if None.
        exact: evaluate every grid point, see `volume.sample_volume`.
        closed: let the surface end where the grid ends. The official code leaves it open there.
        empty_as_box: for a signed distance without a surface, make the official code's box instead of an error.
        progress: called while points are evaluated.

    Returns:
        vertices (V, 3) float32 in the world (z up, front +x) and faces (F, 3) int64 with outward normals.

    Raises:
        InvalidInput: if a number is out of range.
        EmptySurface: if there is no surface.

    Source: Xu et al., InstantMesh (arXiv 2404.07191), section 3.2; Shen et al., FlexiCubes (SIGGRAPH 2023); Lewiner et al., "Efficient
    Implementation of Marching Cubes' Cases with Topological Guarantees" (2003), as in scikit-image.
    """
    if resolution is None:
        resolution = triplane.config.grid_resolution
    if not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION:
        raise InvalidInput(f"The resolution must lie between {MIN_RESOLUTION} and {MAX_RESOLUTION}, got {resolution}.")
    if chunk_size < 1:
        raise InvalidInput(f"The chunk size must be at least 1, got {chunk_size}.")
    if triplane.config.surface == "mesh":
        return signed_distance_surface(triplane, resolution, chunk_size, exact, closed, empty_as_box, progress)
    threshold = triplane.config.density_threshold if threshold is None else threshold
    if not 0 < threshold < float("inf"):
        raise InvalidInput(f"The density threshold must be a number above 0, got {threshold}.")
    return density_surface(triplane, resolution, chunk_size, threshold, exact, closed, progress)


def signed_distance_surface(
    triplane: Triplane, resolution: int, chunk_size: int, exact: bool, closed: bool, empty_as_box: bool, progress: Progress = silent
) -> tuple[Tensor, Tensor]:
    """`extract_surface` for a mesh model, at any resolution."""
    grid = CubeGrid(resolution, triplane.config.grid_scale, triplane.planes.device)
    field = triplane.level_field.on_grid(grid.axis, grid.axis, grid.axis)
    stride = stride_for(float(grid.axis[1] - grid.axis[0]), triplane.planes.shape[-1])
    signed_distance, _ = sample_volume(field, 0.0, chunk_size, stride=stride, exact=exact, progress=progress)
    if not has_surface(signed_distance):
        if not empty_as_box:
            raise EmptySurface(_NO_OBJECT)
        signed_distance = official_box(signed_distance)
    return flexicubes(
        close_boundary(signed_distance) if closed else signed_distance,
        grid,
        max(1, chunk_size // 8),
        deformation=triplane.deformation(grid.axis, chunk_size),
        weights=triplane.cube_weights(grid.axis, chunk_size),
    )


def density_surface(
    triplane: Triplane, resolution: int, chunk_size: int, threshold: float, exact: bool, closed: bool, progress: Progress = silent
) -> tuple[Tensor, Tensor]:
    """`extract_surface` for a NeRF model, at any resolution."""
    from skimage.measure import marching_cubes  # slow to import

    axis = torch.linspace(-1, 1, resolution, device=triplane.planes.device)
    field = triplane.level_field.on_grid(axis, axis, axis)
    stride = stride_for(2 / (resolution - 1), triplane.planes.shape[-1])
    density, evaluated = sample_volume(field, raw_density_of(threshold), chunk_size, stride=stride, exact=exact, progress=progress)
    for layer in density:  # raw until here; in place, as a volume of 512^3 is half a gigabyte
        layer.copy_(density_of(layer))
    if closed:
        for dimension in range(3):
            for end in (0, -1):
                density.select(dimension, end).clamp_max_(threshold / 2)
    if not float(density.amin()) < threshold < float(density.amax()):
        raise EmptySurface(_NO_OBJECT)
    mask = None if evaluated is None else evaluated.cpu().numpy()
    vertices, faces, _, _ = marching_cubes(density.cpu().numpy(), level=threshold, gradient_direction="ascent", mask=mask)
    scaled = torch.from_numpy(vertices.copy()) / (resolution - 1) * 2 - 1
    return scaled, torch.from_numpy(faces.copy()).long()
