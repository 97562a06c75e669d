"""Colours to textures: a mesh is unfolded onto a square, and each pixel asks for its colour."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..fields.field import Field
from ..progress import Progress, silent
from .atlas import unfold
from .color_transfer import nearest_points, surface_colors, texture_colors
from .decimation import decimate
from .material import Material
from .mesh import Mesh, face_areas
from .projection import PosedImages, SurfacePoints, projected_colors
from .rasterization import on_screen, visible_triangles

log = logging.getLogger(__name__)

MIN_SIZE, MAX_SIZE = 512, 4096
DEFAULT_TEXTURED_FACES = 50_000
_FILLED = 0.6  # of an atlas, usually
CHUNK_SIZE = 131072  # points of a field that are asked for their colours at once


def bake_texture(
    mesh: Mesh,
    color_at: Callable[[Tensor], Tensor],
    size: int = 1024,
    *,
    max_faces: int = DEFAULT_TEXTURED_FACES,
    progress: Progress = silent,
) -> Mesh:
    """Give a mesh an atlas and a texture instead of vertex colours.

    Args:
        mesh: of one object.
        color_at: points (N, 3) on the surface -> colours (N, 3) in [0, 1].
        size: pixels of the texture's side, 512 to 4096.
        max_faces: larger meshes are decimated first, since unfolding takes time with the number of
            triangles; 0 leaves all.
        progress: called after each of three stages: fewer triangles, unfolded, painted.

    Returns:
        the mesh cut at the seams, with `uvs` and `texture`; its vertex colours are gone, and so are
        the images of its material, which lay on other uvs.

    Raises:
        InvalidInput: if the size is out of range or the mesh has no triangles.
        EnvironmentProblem: as in `meshes.atlas.unfold`.
    """
    return _painted(
        mesh,
        lambda unfolded, points: color_at(points.interpolate(unfolded, unfolded.vertices)),
        size,
        max_faces,
        progress,
    )[0]


def _painted(
    mesh: Mesh,
    paint: Callable[[Mesh, SurfacePoints], Tensor],
    size: int,
    max_faces: int,
    progress: Progress,
) -> tuple[Mesh, Tensor]:
    """Bake with a painter that receives the unfolded mesh and the points on it.

    What it paints beyond three channels comes back as an image (size, size, C - 3) of its own.
    """
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise InvalidInput(
            f"A texture's size must lie between {MIN_SIZE} and {MAX_SIZE}, got {size}."
        )
    if not len(mesh.faces):
        raise InvalidInput("The mesh has no triangles, so there is nothing to paint.")
    shape = Mesh(mesh.vertices, mesh.faces)
    fewer = decimate(shape, max_faces) if max_faces else shape
    progress(1, 3)
    unfolded = unfold(fewer, size, progress)
    progress(2, 3)
    assert unfolded.uvs is not None
    screen = torch.cat([unfolded.uvs * size - 0.5, torch.ones(len(unfolded.uvs), 1)], dim=1)[
        unfolded.faces
    ]
    triangle, barycentric = visible_triangles(screen, size)
    seen = triangle >= 0
    points = SurfacePoints(triangle[seen], barycentric[seen])
    found = paint(unfolded, points).clamp(0, 1).cpu()
    texture = torch.ones(size * size, found.shape[1])
    texture[seen] = found
    progress(3, 3)
    # uv starts at the lower left, rows of an image at the top.
    painted = _dilated(texture.view(size, size, -1), seen.view(size, size)).flip(0)
    material = mesh.material and mesh.material.without_images()
    return replace(
        unfolded, texture=painted[..., :3], material=material and material.without_base_color()
    ), painted[..., 3:]


def texture_of_field(
    mesh: Mesh,
    field: Field,
    size: int = 1024,
    *,
    max_faces: int = DEFAULT_TEXTURED_FACES,
    progress: Progress = silent,
) -> Mesh:
    """Bake a texture with the colours of the field that the mesh is the surface of.

    Raises:
        InvalidInput, EnvironmentProblem: as in `bake_texture`.
    """
    return bake_texture(mesh, _colors_of(field), size, max_faces=max_faces, progress=progress)


def texture_from_images(
    mesh: Mesh,
    layers: Sequence[PosedImages],
    size: int = 1024,
    *,
    field: Field | None = None,
    max_faces: int = DEFAULT_TEXTURED_FACES,
    progress: Progress = silent,
) -> Mesh:
    """Bake a texture with the colours of images that show the mesh.

    Args:
        mesh: of one object.
        layers: images and cameras; each layer lies over the one before. None at all leaves the
            field's colours alone.
        size: pixels of the texture's side, 512 to 4096.
        field: gives the colours that no image shows. None, or one without colours, fills from the
            neighbourhood.
        max_faces: as in `bake_texture`.
        progress: as in `bake_texture`.

    Raises:
        InvalidInput: as in `bake_texture` and `projection.projected_colors`.
        EnvironmentProblem: as in `bake_texture`.
    """
    if not layers and field is not None:
        return texture_of_field(mesh, field, size, max_faces=max_faces, progress=progress)
    below = None if field is None or not _has_colors(field) else _colors_of(field)
    return _painted(
        mesh,
        lambda unfolded, points: projected_colors(unfolded, points, layers, below),
        size,
        max_faces,
        progress,
    )[0]


def size_for(mesh: Mesh, layers: Sequence[PosedImages], limit: int) -> int:
    """Return the texture's side at which texels are as fine as the images' pixels on the mesh.

    Args:
        mesh: that is to be painted.
        layers: images and cameras.
        limit: the largest size that is wanted, 512 to 4096.

    Returns:
        a power of two, at least 512; or the limit.
    """
    finest = max(
        shots.images.shape[-1]
        * float(camera.intrinsics_normalized[0, 1, 1])
        * float(on_screen(mesh.vertices.cpu(), camera, 1)[:, 2].amax())
        for shots in layers
        for camera in (shots.cameras[[i]] for i in range(len(shots.cameras)))
    )
    needed = finest * float(face_areas(mesh).sum() / _FILLED) ** 0.5
    return min(limit, max(MIN_SIZE, 2 ** math.ceil(math.log2(max(needed, 1)))))


def _has_colors(field: Field) -> bool:
    return field.colors(torch.zeros(1, 3, device=field.device), CHUNK_SIZE) is not None


def _colors_of(field: Field) -> Callable[[Tensor], Tensor]:
    """Make a function from points on any device to the field's colours on the CPU."""

    def color_at(points: Tensor) -> Tensor:
        with torch.no_grad():
            found = field.colors(points.to(field.device), CHUNK_SIZE)
        if found is None:
            raise InvalidInput(
                "The model knows no colours: take the texture from images that show the mesh."
            )
        return found.cpu()

    return color_at


def bake_vertex_colors(
    mesh: Mesh,
    size: int = 1024,
    *,
    max_faces: int = DEFAULT_TEXTURED_FACES,
    progress: Progress = silent,
) -> Mesh:
    """Bake a texture for a mesh that has vertex colours, a texture, or both.

    Metal, roughness and glow of its material are moved to the new uvs likewise.

    Raises:
        InvalidInput: if the mesh has neither, or as in `bake_texture`.
        EnvironmentProblem: as in `bake_texture`.
    """
    if not mesh.colored:
        raise InvalidInput("The mesh has no vertex colours to paint with, and no texture.")
    own = (mesh.material or Material()).images if mesh.uvs is not None else {}
    moved = {name: image for name, image in own.items() if name != "normal_map"}
    if len(moved) < len(own):
        log.warning("The relief (normal map) is left out: its directions are of other uvs.")

    def paint(unfolded: Mesh, points: SurfacePoints) -> Tensor:
        places = points.interpolate(unfolded, unfolded.vertices)
        triangle, weights = nearest_points(mesh, places)
        corners = mesh.faces[triangle]
        colors = surface_colors(mesh, corners, weights)
        if mesh.uvs is None:
            return colors
        uvs = (mesh.uvs[corners] * weights[..., None]).sum(dim=1)
        others = [texture_colors(image, uvs) for image in moved.values()]
        return torch.cat([colors, *others], dim=1)

    baked, others = _painted(mesh, paint, size, max_faces, progress)
    if not moved or mesh.material is None:
        return baked
    images = dict(zip(moved, others.split(3, dim=2), strict=True))
    kept = replace(mesh.material, normal_map=None, **images)
    return replace(baked, material=kept.without_base_color())


def _dilated(texture: Tensor, painted: Tensor) -> Tensor:
    """Fill each unpainted pixel of the texture (H, W, 3) from the nearest painted one.

    So no seam shows in its smaller copies.
    """
    from scipy.ndimage import distance_transform_edt

    rows, columns = distance_transform_edt(
        ~painted.numpy(), return_distances=False, return_indices=True
    )
    return texture[torch.from_numpy(rows).long(), torch.from_numpy(columns).long()]
