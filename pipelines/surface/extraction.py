"""Extract meshes from fields: the entry point of this package."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import EmptySurface
from ..fields.field import GREY, DensityField, Field, SignedDistanceField, point_memory
from ..fields.near_surface import costly_stride, sample_near_surface, stride_for
from ..meshes.mesh import Mesh
from ..meshes.topology import keep_large_components
from ..progress import Progress, silent
from ..settings import SurfaceSettings, declared
from .flexicubes import CubeGrid, close_boundary, flexicubes, has_surface
from .marching_cubes import crossed_cells, marching_cubes

log = logging.getLogger(__name__)

DEFAULT_CHUNK_SIZE: int = declared(SurfaceSettings)["chunk_size"].default
_COSTLY_AT_ONCE = 16_384  # points of a costly field; they take seconds on two cores
_NO_OBJECT = (
    "The image shows no object: its field has no surface. Use an image with one clear object, or"
    " check the background removal."
)


def surface_memory(resolution: int, chunk_size: int = DEFAULT_CHUNK_SIZE) -> int:
    """Return an upper estimate of the bytes that `extract_surface` needs.

    It covers the points of the grid, the cubes at the surface, and one chunk of points.
    """
    return (
        10 * (resolution + 1) ** 3 + 10_000 * resolution**2 + point_memory(chunk_size)
    )  # pragma: no mutate (an estimate)


def extract_mesh(
    field: Field, settings: SurfaceSettings | None = None, *, progress: Progress = silent
) -> Mesh:
    """Extract a mesh from a field, remove small components, and colour the vertices.

    Args:
        field: a density or a signed distance.
        settings: surface settings; None for the defaults.
        progress: called while points are evaluated.

    Returns:
        a mesh on the CPU.

    Raises:
        EmptySurface: as in `extract_surface`.
    """
    settings = settings or SurfaceSettings()
    vertices, faces = extract_surface(field, settings, progress=progress)
    mesh = keep_large_components(Mesh(vertices.cpu(), faces.cpu()), settings.min_part_share)
    if not settings.colors:
        return mesh
    with torch.no_grad():
        found = field.colors(mesh.vertices.to(field.device), settings.chunk_size)
    if found is None:
        log.warning("The model has no colours: the mesh is plain grey. Project images onto it.")
        return replace(mesh, vertex_colors=torch.full_like(mesh.vertices, GREY))
    return replace(mesh, vertex_colors=found.clamp(0, 1).cpu())


@torch.no_grad()
def extract_surface(
    field: Field,
    settings: SurfaceSettings | None = None,
    *,
    closed: bool = True,
    progress: Progress = silent,
) -> tuple[Tensor, Tensor]:
    """Extract the surface: FlexiCubes for signed distances, marching cubes for densities.

    Args:
        field: a density or a signed distance.
        settings: surface settings; those for components and colours are ignored here.
        closed: close the surface at the border of the grid. The reference implementation leaves it
            open there.
        progress: called while points are evaluated.

    Returns:
        vertices (V, 3) float32 in the world (z up, front +x) and faces (F, 3) int64 with outward
        normals.

    Raises:
        EmptySurface: if there is no surface.

    Source: Xu et al., InstantMesh (arXiv 2404.07191), section 3.2; Shen et al., FlexiCubes
    (SIGGRAPH 2023); Lewiner et al., "Efficient Implementation of Marching Cubes' Cases with
    Topological Guarantees" (2003).
    """
    settings = settings or SurfaceSettings()
    resolution = field.resolution if settings.resolution is None else settings.resolution
    settings = settings.model_copy(update={"resolution": resolution})
    if field.kind == "signed_distance":
        return signed_distance_surface(field, settings, closed, progress)
    threshold = field.threshold if settings.threshold is None else settings.threshold
    settings = settings.model_copy(update={"threshold": threshold})
    return density_surface(field, settings, closed, progress)


def signed_distance_surface(
    field: SignedDistanceField, settings: SurfaceSettings, closed: bool, progress: Progress = silent
) -> tuple[Tensor, Tensor]:
    """Extract the surface of a signed distance; `settings.resolution` must be set."""
    assert settings.resolution is not None
    grid = CubeGrid(settings.resolution, 2 * field.half_side, field.device)
    signed_distance = _sample(field, grid.axis, 0.0, settings, progress)
    if not has_surface(signed_distance):
        raise EmptySurface(_NO_OBJECT)
    return flexicubes(
        close_boundary(signed_distance) if closed else signed_distance,
        grid,
        max(1, settings.chunk_size // 8),
        deformation=field.deformation(grid.axis, settings.chunk_size),
        weights=field.cube_weights(grid.axis, settings.chunk_size),
    )


def density_surface(
    field: DensityField, settings: SurfaceSettings, closed: bool, progress: Progress = silent
) -> tuple[Tensor, Tensor]:
    """Extract the surface of a density.

    `settings.resolution` and `settings.threshold` must be set.
    """
    assert settings.resolution is not None
    assert settings.threshold is not None
    threshold = settings.threshold
    axis = torch.linspace(
        -field.half_side, field.half_side, settings.resolution + 1, device=field.device
    )
    density = _sample(field, axis, field.raw_density(threshold), settings, progress)
    for layer in density:  # convert raw values in place: a volume of 512^3 is half a gigabyte
        layer.copy_(field.density(layer))
    if closed:
        for dimension in range(3):
            for end in (0, -1):
                density.select(dimension, end).clamp_max_(threshold / 2)
    if not float(density.amin()) < threshold < float(density.amax()):
        raise EmptySurface(_NO_OBJECT)
    cells = crossed_cells(density > threshold)
    vertices, faces = marching_cubes(density, threshold, cells)
    return vertices / settings.resolution * 2 * field.half_side - field.half_side, faces


def _sample(
    field: Field, axis: Tensor, level: float, settings: SurfaceSettings, progress: Progress
) -> Tensor:
    """Evaluate a field on the cubic grid of an axis (R + 1,), at least near its level set."""
    chunk_size = settings.chunk_size
    costly = field.kind == "signed_distance" and field.costly
    if costly:
        stride, chunk_size = costly_stride(len(axis) - 1), min(chunk_size, _COSTLY_AT_ONCE)
    else:
        stride = stride_for(float(axis[1] - axis[0]), field.detail)
    grid = field.values_on_grid(axis, axis, axis)
    stride = 1 if settings.exact else stride
    return sample_near_surface(grid, level, stride, chunk_size, costly=costly, progress=progress)
