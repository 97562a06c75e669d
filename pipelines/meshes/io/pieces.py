"""From what a file holds to one mesh.

Pieces of one material each become triangles with one texture, or with colours at their vertices.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...errors import InvalidInput
from ...images.colors import multiplied
from ...images.reading import to_tensor
from ..material import Material
from ..mesh import Mesh
from ..topology import Floats, Indices, by_corner

log = logging.getLogger(__name__)

MAX_SIDE = 8192  # pixels of the image in which those of several materials lie side by side
_SWATCH = 8  # pixels of a side of a colour among images
_MARGIN = 4  # pixels around each image that repeat its border
_ON_BORDER = 1e-4  # how far coordinates may stray from an image without repeating it


@dataclass(frozen=True, eq=False)
class EmbeddedImage:
    """A texture as a material uses it.

    Attributes:
        pixels: (H, W, 3) float32 sRGB in [0, 1], rows from the top. Pieces that share an image
            share this very object.
    """

    pixels: Tensor


@dataclass(frozen=True)
class Piece:
    """Triangles of one material.

    Attributes:
        vertices: (V, 3) float64, in the file's axes and units.
        faces: (F, 3) int64.
        color: (3,) sRGB in [0, 1] of the material, or None where the file says nothing.
        vertex_colors: (V, 3) sRGB in [0, 1], or None. They are multiplied with the material's
            colour and image, as light.
        uvs: (V, 2) from the lower left, repeating outside [0, 1], or None.
        image: the texture, or None; it needs `uvs`.
        normals, tangents: (V, 3) and (V, 4) directions in the file's axes, or None.
        alpha: (V,) opacities, or None.
        material: what stands beside the colour, or None. Pieces of one material share this object.
    """

    vertices: Floats
    faces: Indices
    color: Floats | None = None
    vertex_colors: Floats | None = None
    uvs: Floats | None = None
    image: EmbeddedImage | None = None
    normals: Floats | None = None
    tangents: Floats | None = None
    alpha: Floats | None = None
    material: Material | None = None


def read_embedded_image(image: Image.Image) -> EmbeddedImage:
    """A decoded image file as a texture; its alpha is left out."""
    return EmbeddedImage(to_tensor(image.convert("RGB"))[0].permute(1, 2, 0).contiguous())


def mesh_of(pieces: Sequence[Piece]) -> Mesh:
    """One mesh of all pieces, in the axes of the file.

    Raises:
        InvalidInput: if there are no triangles, or as `Mesh` does.
    """
    pieces = [piece for piece in pieces if len(piece.faces)]
    if not pieces:
        raise InvalidInput("it holds no triangles")
    pieces = [replace(p, image=None) if p.uvs is None else p for p in pieces]
    materials = {id(p.material): p.material for p in pieces}
    material = pieces[0].material if len(materials) == 1 else None
    if len(materials) > 1:
        log.warning("Several materials become one: their metal, roughness and relief are left out.")
    images = {id(p.image): p.image for p in pieces if p.image is not None}
    if images and (len(images) > 1 or any(p.image is None for p in pieces)):
        pieces = _side_by_side(pieces)
    elif images and any(p.color is not None for p in pieces):
        pieces = _painted_over(pieces)
    textured = pieces[0].image is not None
    starts = np.cumsum([0] + [len(p.vertices) for p in pieces])
    colors = None
    if any(p.vertex_colors is not None or (p.color is not None and not textured) for p in pieces):
        colors = torch.cat([_vertex_colors(p, with_material=not textured) for p in pieces])
    uvs = _joined([p.uvs for p in pieces])
    if material is not None and uvs is None:
        material = material.without_images()
    alpha = None
    if any(p.alpha is not None for p in pieces):
        alpha = _joined([np.ones(len(p.vertices)) if p.alpha is None else p.alpha for p in pieces])
    return Mesh(
        torch.from_numpy(np.concatenate([p.vertices for p in pieces])).float(),
        torch.from_numpy(
            np.concatenate([p.faces + start for p, start in zip(pieces, starts, strict=False)])
        ),
        colors,
        uvs,
        pieces[0].image.pixels if pieces[0].image is not None else None,
        _joined([p.normals for p in pieces]),
        _joined([p.tangents for p in pieces]),
        alpha,
        material,
    )


def _joined(parts: Sequence[Floats | None]) -> Tensor | None:
    """An attribute of all pieces one after the other; None where one has none."""
    there = [part for part in parts if part is not None]
    return torch.from_numpy(np.concatenate(there)).float() if len(there) == len(parts) else None


def triangulated(vertices: Floats, polygon: Sequence[int]) -> list[tuple[int, int, int]]:
    """Places in a polygon, three for each of its triangles; a concave one is cut by its ears.

    Args:
        vertices: (V, 3).
        polygon: numbers of its n corners, in order.

    Source: Newell's normal (Sutherland et al., 1974); ear clipping by mapbox_earcut.
    """
    count = len(polygon)
    fan = [(0, i, i + 1) for i in range(1, count - 1)]
    corners = vertices[list(polygon)]
    following = np.roll(corners, -1, axis=0)
    normal = np.cross(corners - corners[0], following - corners[0]).sum(axis=0)
    turns = np.cross(following - corners, np.roll(corners, -2, axis=0) - following) @ normal
    if count < 4 or not normal.any() or (turns >= 0).all():
        return fan
    import mapbox_earcut

    kept = np.delete(np.arange(3), np.abs(normal).argmax())
    flat = corners[:, kept]
    triangles = (
        mapbox_earcut.triangulate_float64(flat, np.array([count], dtype=np.uint32))
        .reshape(-1, 3)
        .astype(np.int64)
    )
    if not len(triangles):
        return fan
    a, b, c = (corners[triangles[:, i]] for i in range(3))
    against = (np.cross(b - a, c - a) @ normal) < 0
    triangles[against] = triangles[against][:, ::-1]
    return [(int(i), int(j), int(k)) for i, j, k in triangles]


def _vertex_colors(piece: Piece, with_material: bool) -> Tensor:
    """(V, 3) float32: what the vertices say times what the material says, white where none does."""
    colors = (
        torch.ones(len(piece.vertices), 3)
        if piece.vertex_colors is None
        else torch.from_numpy(piece.vertex_colors).float()
    )
    if not with_material or piece.color is None:
        return colors
    material = torch.from_numpy(piece.color).float()
    return (
        material.expand_as(colors).clone()
        if piece.vertex_colors is None
        else multiplied(colors, material)
    )


def _painted_over(pieces: Sequence[Piece]) -> list[Piece]:
    """Pieces of one image with their materials' colours in it.

    Each has a copy of its own where the colours differ.
    """
    images: dict[tuple[float, ...], EmbeddedImage] = {}
    painted = []
    for piece in pieces:
        assert piece.image is not None
        color = (1.0, 1.0, 1.0) if piece.color is None else tuple(piece.color.tolist())
        if color not in images:
            white = min(color) >= 1.0
            images[color] = (
                piece.image
                if white
                else EmbeddedImage(multiplied(piece.image.pixels, torch.tensor(color)))
            )
        painted.append(replace(piece, color=None, image=images[color]))
    return painted if len(images) == 1 else _side_by_side(painted)


def _side_by_side(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces with one image, in which all their images and colours lie.

    An image that repeats lies there as often as it is used.
    """
    moved = [_in_first_tile(piece) for piece in pieces]
    repeats = [_repeats(piece) for piece in moved]
    keys = [
        (id(piece.image), None if piece.color is None else tuple(piece.color.tolist()), times)
        for piece, times in zip(moved, repeats, strict=True)
    ]
    different = dict(zip(keys, zip(moved, repeats, strict=True), strict=True))
    area = sum(
        _SWATCH**2 if p.image is None else p.image.pixels[..., 0].numel() * r[0] * r[1]
        for p, r in different.values()
    )
    tiles = {
        key: _tile(*found, scale=min(1.0, MAX_SIDE / 2 / area**0.5))
        for key, found in different.items()
    }
    places, (height, width) = _shelves([tile.shape[:2] for tile in tiles.values()])
    sheet = torch.ones(height, width, 3)
    place_of = {}
    for (key, tile), (top, left) in zip(tiles.items(), places, strict=True):
        h, w = tile.shape[:2]
        sheet[top : top + h, left : left + w] = tile
        place_of[key] = (top + _MARGIN, left + _MARGIN, h - 2 * _MARGIN, w - 2 * _MARGIN)
    image = EmbeddedImage(sheet)
    placed = []
    for piece, key, (across, up) in zip(moved, keys, repeats, strict=True):
        top, left, h, w = place_of[key]
        uvs = (
            np.full((len(piece.vertices), 2), 0.5)
            if piece.image is None or piece.uvs is None
            else piece.uvs / (across, up)
        )
        u = (left + uvs[:, 0] * w) / width
        v = 1 - (top + (1 - uvs[:, 1]) * h) / height
        placed.append(replace(piece, color=None, uvs=np.stack([u, v], axis=1), image=image))
    return placed


def _in_first_tile(piece: Piece) -> Piece:
    """The piece with each triangle's coordinates moved by whole images, to start in the first."""
    if piece.image is None or piece.uvs is None:
        return piece
    if piece.uvs.min() >= -_ON_BORDER and piece.uvs.max() <= 1 + _ON_BORDER:
        return replace(piece, uvs=piece.uvs.clip(0, 1))
    corners = piece.uvs[piece.faces]  # (F, 3, 2)
    low, high = corners.min(axis=1, keepdims=True), corners.max(axis=1, keepdims=True)
    there = (low >= -_ON_BORDER) & (high <= 1 + _ON_BORDER)  # the upper border stays the upper one
    corners = corners - np.where(there, 0, np.floor(low + _ON_BORDER))
    table = corners.reshape(-1, 2)
    own = np.arange(len(table)).reshape(-1, 3)
    kept = ("vertex_colors", "normals", "tangents", "alpha")
    values = [getattr(piece, name) for name in kept]
    vertices, faces, (uvs, *found) = by_corner(
        piece.vertices,
        piece.faces,
        (own, table),
        *(None if value is None else (piece.faces, value) for value in values),
    )
    changed: dict[str, Any] = dict(zip(kept, found, strict=True))
    return replace(piece, vertices=vertices, faces=faces, uvs=uvs, **changed)


def _repeats(piece: Piece) -> tuple[int, int]:
    """How often a piece's image lies across and above itself."""
    if piece.image is None or piece.uvs is None:
        return 1, 1
    across, up = np.maximum(np.ceil(piece.uvs.max(axis=0) - _ON_BORDER), 1)
    return int(across), int(up)


def _tile(piece: Piece, repeats: tuple[int, int], scale: float) -> Tensor:
    """(H, W, 3) the piece's image as often as it repeats, in its colour, its border continued."""
    pixels = torch.ones(_SWATCH, _SWATCH, 3) if piece.image is None else piece.image.pixels
    if piece.color is not None:
        pixels = multiplied(pixels, torch.from_numpy(piece.color).float())
    across, up = repeats
    if scale < 1 and piece.image is not None:
        size = (max(1, int(pixels.shape[0] * scale)), max(1, int(pixels.shape[1] * scale)))
        small = torch.nn.functional.interpolate(
            pixels.permute(2, 0, 1)[None], size=size, mode="bilinear", antialias=True
        )
        pixels = small[0].permute(1, 2, 0)
    repeated = pixels.repeat(up, across, 1).permute(2, 0, 1)[None]
    return torch.nn.functional.pad(repeated, (_MARGIN,) * 4, mode="replicate")[0].permute(1, 2, 0)


def _shelves(sizes: Sequence[Sequence[int]]) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Row and column of each rectangle (height, width), and the size of the sheet.

    The tallest come first, row after row.
    """
    area = sum(h * w for h, w in sizes)
    limit = max(int(area**0.5 * 1.1), *(w for _, w in sizes))
    places: dict[int, tuple[int, int]] = {}
    top = left = shelf = widest = 0
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i][0]):
        height, width = sizes[i]
        if left + width > limit:
            top, left, shelf = top + shelf, 0, 0
        places[i] = (top, left)
        left, shelf = left + width, max(shelf, height)
        widest = max(widest, left)
    return [places[i] for i in range(len(sizes))], (top + shelf, widest)
