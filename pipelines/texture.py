"""Colours to textures: a mesh is unfolded onto a square, and each of its pixels asks what colour its point of the surface has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .cleanup import decimate, nearest_colors
from .errors import EnvironmentProblem, InvalidInput
from .mesh import Mesh
from .progress import Progress, silent
from .rasterization import visible_triangles

MIN_SIZE, MAX_SIZE = 512, 4096
DEFAULT_TEXTURED_FACES = 50_000
_PADDING = 4  # pixels between the islands of the atlas
_MIN_CHARTS = 64


def bake_texture(
    mesh: Mesh, color_at: Callable[[Tensor], Tensor], size: int = 1024, *, max_faces: int = DEFAULT_TEXTURED_FACES, progress: Progress = silent
) -> Mesh:
    """The mesh with an atlas and a texture instead of colours at its vertices.

    Args:
        mesh: of one object.
        color_at: points (N, 3) on the surface -> colours (N, 3) in [0, 1].
        size: pixels of the texture's side, 512 to 4096.
        max_faces: larger meshes are decimated first, since unfolding takes time with the number of triangles; 0 leaves all.
        progress: called after each of three stages: fewer triangles, unfolded, painted.

    Returns:
        the mesh cut at the seams, with `uvs` and `texture`; its vertex colours are gone.

    Raises:
        InvalidInput: if the size is out of range or the mesh has no triangles.
        EnvironmentProblem: if xatlas is missing.

    Source: charts and packing by xatlas, after Sander et al., "Signal-Specialized Parametrization" (EGWR 2002).
    """
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise InvalidInput(f"A texture's size must lie between {MIN_SIZE} and {MAX_SIZE}, got {size}.")
    if not len(mesh.faces):
        raise InvalidInput("The mesh has no triangles, so there is nothing to paint.")
    fewer = decimate(mesh, max_faces) if max_faces else mesh
    progress(1, 3)
    unfolded = unfold(fewer, size)
    progress(2, 3)
    assert unfolded.uvs is not None
    screen = torch.cat([unfolded.uvs * size - 0.5, torch.ones(len(unfolded.uvs), 1)], dim=1)[unfolded.faces]
    triangle, barycentric = visible_triangles(screen, size)
    seen = triangle >= 0
    corners = unfolded.vertices[unfolded.faces[triangle[seen]]]  # (N, 3, 3)
    points = (corners * barycentric[seen][..., None]).sum(dim=1)
    texture = torch.ones(size * size, 3)
    texture[seen] = color_at(points).clamp(0, 1).cpu()
    progress(3, 3)
    # uv starts at the lower left, rows of a picture at the top.
    return replace(unfolded, texture=_dilated(texture.view(size, size, 3), seen.view(size, size)).flip(0))


def bake_vertex_colors(mesh: Mesh, size: int = 1024, *, max_faces: int = DEFAULT_TEXTURED_FACES, progress: Progress = silent) -> Mesh:
    """`bake_texture` for a mesh that has colours at its vertices and nothing else.

    Raises:
        InvalidInput: if the mesh has no colours, or as in `bake_texture`.
        EnvironmentProblem: as in `bake_texture`.
    """
    if mesh.vertex_colors is None:
        raise InvalidInput("The mesh has no vertex colours to paint with.")
    return bake_texture(mesh, lambda points: nearest_colors(mesh, points), size, max_faces=max_faces, progress=progress)


def unfold(mesh: Mesh, size: int) -> Mesh:
    """The mesh cut into charts that lie side by side in a square of so many pixels: with `uvs` in [0, 1], and vertices doubled at seams.

    Raises:
        EnvironmentProblem: if xatlas is missing.
    """
    try:
        import xatlas  # slow to import
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            "Textures need the package xatlas: run 'pip install xatlas', which wants a C++ compiler on Python 3.14 and on ARM Linux, "
            "or keep the colours at the vertices."
        ) from error
    atlas = xatlas.Atlas()
    atlas.add_mesh(mesh.vertices.numpy(), mesh.faces.numpy().astype(np.uint32))
    charts, packing = xatlas.ChartOptions(), xatlas.PackOptions()
    charts.max_iterations = 1
    # xatlas spends most of its time on growing charts and flattening them, and more than in proportion to their size.
    charts.max_chart_area = _area(mesh) / _MIN_CHARTS
    packing.resolution, packing.padding = size, _PADDING
    atlas.generate(charts, packing)
    origin, faces, uvs = atlas[0]
    return Mesh(mesh.vertices[torch.from_numpy(origin.astype(np.int64))], torch.from_numpy(faces.astype(np.int64)), uvs=torch.from_numpy(uvs))


def _area(mesh: Mesh) -> float:
    a, b, c = mesh.vertices[mesh.faces].unbind(dim=1)
    return float(torch.linalg.cross(b - a, c - a).norm(dim=1).sum() / 2)


def _dilated(texture: Tensor, painted: Tensor) -> Tensor:
    """The texture (H, W, 3) with each unpainted pixel in the colour of the nearest painted one, so that no seam shows in its smaller copies."""
    from scipy.ndimage import distance_transform_edt

    rows, columns = distance_transform_edt(~painted.numpy(), return_distances=False, return_indices=True)
    return texture[torch.from_numpy(rows).long(), torch.from_numpy(columns).long()]
