"""Bake textures: unfold a mesh onto a square, and compute the colour of each pixel."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..fields.field import Field
from ..fields.voxels import VoxelColors
from ..progress import Progress, silent, stage
from .atlas import unfold
from .color_transfer import nearest_points, surface_colors, texture_colors
from .decimation import decimate
from .material import SCALES, Material
from .mesh import Mesh, face_areas, interpolate
from .projection import PosedImages, SurfacePoints, projected_colors
from .rasterization import on_screen, visible_triangles

log = logging.getLogger(__name__)

MIN_SIZE, MAX_SIZE = 512, 4096
DEFAULT_TEXTURED_FACES = 50_000
_FILLED = 0.6  # usual share of an atlas that is covered by triangles
_UV_TOLERANCE = 1e-3
CHUNK_SIZE = 131072  # points of a field whose colours are evaluated at once


@dataclass(frozen=True)
class TextureLayout:
    """Settings of a texture and of its uvs on a mesh.

    Attributes:
        size: side length of the texture in pixels, 512 to 4096.
        max_faces: larger meshes are decimated first, since unfolding many triangles is slow; 0
            keeps all triangles.
        keep_uvs: paint on the mesh's own uvs, and keep its triangles and the images of its
            material, except those that are painted too. Where uvs overlap, only one of the
            triangles is painted.

    Raises:
        InvalidInput: if the size is out of range.
    """

    size: int = 1024
    max_faces: int = DEFAULT_TEXTURED_FACES
    keep_uvs: bool = False

    def __post_init__(self) -> None:
        if not MIN_SIZE <= self.size <= MAX_SIZE:
            raise InvalidInput(
                f"A texture's size must be between {MIN_SIZE} and {MAX_SIZE}, got {self.size}."
            )


DEFAULT_LAYOUT = TextureLayout()


def _painted(
    mesh: Mesh,
    paint: Callable[[Mesh, SurfacePoints], Tensor],
    layout: TextureLayout,
    progress: Progress,
) -> tuple[Mesh, Tensor]:
    """Unwrap a mesh and bake a texture with several channels.

    `paint` gets the unwrapped mesh and P points on its surface, and returns (P, C) values. The
    first three channels are the colour.

    Returns:
        mesh: the unwrapped mesh; the colour is its texture.
        others: (size, size, C - 3) image of the other channels.
    """
    size, most = layout.size, layout.max_faces
    if not len(mesh.faces):
        raise InvalidInput("The mesh has no triangles, so there is nothing to paint.")
    if layout.keep_uvs:
        unfolded, material = _with_own_uvs(mesh), mesh.material
    else:
        shape = Mesh(mesh.vertices, mesh.faces, paired=mesh.paired)
        fewer = decimate(shape, most, stage(progress, 0, 3)) if most else shape
        progress(1, 3)
        unfolded = unfold(fewer, size, stage(progress, 1, 3))
        material = mesh.material and mesh.material.without_images()
    progress(2, 3)
    points, texels = _texels(unfolded, size)
    found = paint(unfolded, points).clamp(0, 1).cpu()
    texture = torch.ones(size * size, found.shape[1])
    texture[texels] = found
    seen = torch.zeros(size * size, dtype=torch.bool)
    seen[texels] = True
    progress(3, 3)
    # The origin of uvs is at the lower left, that of an image at the upper left.
    painted = _dilated(texture.view(size, size, -1), seen.view(size, size)).flip(0)
    return replace(
        unfolded, texture=painted[..., :3], material=material and material.without_base_color()
    ), painted[..., 3:]


def _with_own_uvs(mesh: Mesh) -> Mesh:
    """Return the mesh without vertex colours, after checking that its uvs suit a new texture."""
    if mesh.uvs is None:
        raise InvalidInput("The mesh has no uvs to keep: turn keep_uvs off to unwrap it.")
    low, high = float(mesh.uvs.amin()), float(mesh.uvs.amax())
    if low < -_UV_TOLERANCE or high > 1 + _UV_TOLERANCE:
        raise InvalidInput(
            f"The mesh's uvs repeat its texture: they must lie between 0 and 1, got {low:.3g} to"
            f" {high:.3g}. Turn keep_uvs off to unwrap it again."
        )
    return replace(mesh, vertex_colors=None)


def _texels(unfolded: Mesh, size: int) -> tuple[SurfacePoints, Tensor]:
    """Return the point on the mesh at each of N covered texels, and their indices (N,)."""
    assert unfolded.uvs is not None
    screen = torch.cat([unfolded.uvs * size - 0.5, torch.ones(len(unfolded.uvs), 1)], dim=1)
    texel, triangle, barycentric = visible_triangles(screen[unfolded.faces], size)
    return SurfacePoints(triangle, barycentric), texel


def texture_from_images(
    mesh: Mesh,
    layers: Sequence[PosedImages],
    layout: TextureLayout = DEFAULT_LAYOUT,
    *,
    field: Field | None = None,
    voxels: VoxelColors | None = None,
    progress: Progress = silent,
) -> Mesh:
    """Bake a texture from images that show the mesh, from voxels or from a field.

    Args:
        mesh: any with triangles.
        layers: images and cameras; each layer covers the previous ones. If empty, only the colours
            of the voxels or the field are used.
        layout: size and uvs of the texture.
        field: colours the parts that no image shows. Without a field, or if it has no colours,
            these parts take the colours around them.
        voxels: colours these parts instead of the field; also gives metalness and roughness.
        progress: called after each of three stages: decimation, unfolding and painting.

    Returns:
        the mesh cut at the seams, with `uvs` and `texture`, without vertex colours. The images of
        its material are dropped unless its uvs are kept: they do not fit new uvs.

    Raises:
        InvalidInput: if the mesh has no triangles, uvs cannot be kept, or as in
            `projection.projected_colors`.
        EnvironmentProblem: as in `meshes.atlas.unfold`.
    """
    source = field if voxels is None else voxels
    below = None if source is None else _colors_of(source)
    if not layers and below is None:
        raise InvalidInput(
            "The model has no colours: take the texture from images that show the mesh."
        )

    def paint(unfolded: Mesh, points: SurfacePoints) -> Tensor:
        places = points.interpolate(unfolded, unfolded.vertices)
        own = None if voxels is None else voxels.at(places, partial(progress, 2, 3))
        if layers:
            colors = projected_colors(unfolded, points, layers, below)
        elif own is not None:
            colors = own[:, :3]
        else:
            assert below is not None
            colors = below(places)
        return colors if own is None else torch.cat([colors, own[:, 3:5]], dim=1)

    painted, others = _painted(mesh, paint, layout, progress)
    return painted if others.shape[2] < 2 else _with_metalness(painted, others)


def _with_metalness(mesh: Mesh, others: Tensor) -> Mesh:
    """Add an image of metalness and roughness (H, W, 2) to a mesh's material."""
    material = mesh.material or Material()
    metalness, roughness = others.split(1, dim=2)
    image = torch.cat([torch.ones_like(metalness), roughness, metalness], dim=2)
    scales = SCALES["metallic_roughness"]
    factors = {name: value for name, value in material.factors.items() if name not in scales}
    return replace(
        mesh,
        material=replace(
            material, metallic_roughness=image, occlusion_in_mr=False, factors=factors
        ),
    )


def size_for(mesh: Mesh, layers: Sequence[PosedImages], limit: int) -> int:
    """Choose a texture size whose texels are as small on the mesh as the pixels of the images.

    Args:
        mesh: the mesh to be painted.
        layers: images and cameras.
        limit: largest size in pixels, 512 to 4096.

    Returns:
        the size in pixels: a power of two, at least 512 and at most `limit`.
    """
    finest = max(
        posed.images.shape[-1]
        * float(camera.intrinsics_normalized[0, 1, 1])
        * float(on_screen(mesh.vertices.cpu(), camera, 1)[:, 2].amax())
        for posed in layers
        for camera in (posed.cameras[[i]] for i in range(len(posed.cameras)))
    )
    needed = finest * float(face_areas(mesh).sum() / _FILLED) ** 0.5
    return min(limit, max(MIN_SIZE, 2 ** math.ceil(math.log2(max(needed, 1)))))


def has_colors(field: Field) -> bool:
    """Return whether a field has colours of its own."""
    return field.colors(torch.zeros(1, 3, device=field.device), CHUNK_SIZE) is not None


def _colors_of(source: Field | VoxelColors) -> Callable[[Tensor], Tensor] | None:
    """Return a function that evaluates colours on the CPU, or None if a field has none."""
    if isinstance(source, VoxelColors):
        return lambda points: source.at(points)[:, :3]
    field = source

    def color_at(points: Tensor) -> Tensor:
        with torch.no_grad():
            found = field.colors(points.to(field.device), CHUNK_SIZE)
        assert found is not None
        return found.cpu()

    return color_at if has_colors(field) else None


def bake_vertex_colors(
    mesh: Mesh,
    layout: TextureLayout = DEFAULT_LAYOUT,
    *,
    source: Mesh | None = None,
    progress: Progress = silent,
) -> Mesh:
    """Bake a mesh's vertex colours, texture or both into a new texture.

    The metalness, roughness and emission images of its material are resampled to the new uvs too.

    Args:
        mesh: the mesh to unfold.
        layout: size and uvs of the texture.
        source: the mesh whose nearest points give the colours; None for the mesh itself.
        progress: see `texture_from_images`.

    Raises:
        InvalidInput: if the mesh has no colours, or as in `texture_from_images`.
        EnvironmentProblem: as in `texture_from_images`.
    """
    source = source or mesh
    if not source.colored:
        raise InvalidInput("The mesh has no vertex colours to paint with, and no texture.")
    uvs, material = source.uvs, source.material
    own = (material or Material()).images if uvs is not None else {}
    moved = {name: image for name, image in own.items() if name != "normal_map"}
    if len(moved) < len(own):
        log.warning("The normal map is dropped: its directions depend on the old uvs.")

    def paint(unfolded: Mesh, points: SurfacePoints) -> Tensor:
        places = points.interpolate(unfolded, unfolded.vertices)
        triangle, weights = nearest_points(source, places)
        corners = source.faces[triangle]
        colors = surface_colors(source, corners, weights)
        if uvs is None:
            return colors
        at = interpolate(uvs, corners, weights)
        others = [texture_colors(image, at) for image in moved.values()]
        return torch.cat([colors, *others], dim=1)

    shape = replace(mesh, material=material)
    baked, others = _painted(shape, paint, layout, progress)
    if not moved or material is None:
        return baked
    images = dict(zip(moved, others.split(3, dim=2), strict=True))
    kept = replace(material, normal_map=None, **images)
    return replace(baked, material=kept.without_base_color())


def _dilated(texture: Tensor, painted: Tensor) -> Tensor:
    """Fill each unpainted pixel of a texture (H, W, C) from the nearest painted one.

    Otherwise seams would show in the texture's mipmaps.
    """
    from scipy.ndimage import distance_transform_edt

    rows, columns = distance_transform_edt(
        ~painted.numpy(), return_distances=False, return_indices=True
    )
    return texture[torch.from_numpy(rows).long(), torch.from_numpy(columns).long()]
