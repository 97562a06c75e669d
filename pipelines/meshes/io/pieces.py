"""Join the pieces of a mesh file into one mesh. A piece has one material."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...errors import InvalidInput
from ...images.colors import multiplied
from ..material import Material
from ..mesh import Mesh
from ..topology import Floats, Indices
from .texture_sheet import one_image
from .textures import TextureImage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Piece:
    """Triangles of one material.

    Attributes:
        vertices: (V, 3) float64, in the file's axes and units.
        faces: (F, 3) int64.
        color: (3,) sRGB in [0, 1], the material's colour, or None.
        vertex_colors: (V, 3) sRGB in [0, 1], or None. They are multiplied by the material's
            colour and image in linear light.
        uvs: (V, 2) with the origin at the lower left, or None. The image repeats outside [0, 1].
        image: the colour texture, or None. It requires `uvs`.
        normals, tangents: (V, 3) and (V, 4) directions in the file's axes, or None.
        alpha: (V,) opacities in [0, 1], or None.
        material: metalness, roughness, normal map and emission, or None. Pieces with the same
            material share one object.
    """

    vertices: Floats
    faces: Indices
    color: Floats | None = None
    vertex_colors: Floats | None = None
    uvs: Floats | None = None
    image: TextureImage | None = None
    normals: Floats | None = None
    tangents: Floats | None = None
    alpha: Floats | None = None
    material: Material | None = None


def mesh_of(pieces: Sequence[Piece]) -> Mesh:
    """Join pieces into one mesh in the file's axes.

    Raises:
        InvalidInput: if there are no triangles, or if `Mesh` rejects the arrays.
    """
    pieces = [
        piece if piece.uvs is not None else replace(piece, image=None)
        for piece in pieces
        if len(piece.faces)
    ]
    if not pieces:
        raise InvalidInput("it has no triangles")
    material = _common_material(pieces)
    merged, moved = one_image(pieces)
    image = merged[0].image
    uvs = _concatenated([piece.uvs for piece in merged])
    if material is not None and (uvs is None or moved):
        if material.images:
            log.warning("Its %s are skipped: not all of it has one texture.", _listed(material))
        material = material.without_images()
    starts = np.cumsum([0] + [len(piece.vertices) for piece in merged[:-1]])
    faces = [piece.faces + start for piece, start in zip(merged, starts, strict=True)]
    return Mesh(
        torch.from_numpy(np.concatenate([piece.vertices for piece in merged])).float(),
        torch.from_numpy(np.concatenate(faces)),
        _vertex_colors(merged),
        uvs,
        None if image is None else image.pixels,
        _concatenated([piece.normals for piece in merged]),
        _concatenated([piece.tangents for piece in merged]),
        _alpha(merged),
        material,
    )


def _common_material(pieces: Sequence[Piece]) -> Material | None:
    """Return the common material of all pieces; if they differ, log a warning and return None."""
    first, *others = {id(piece.material): piece.material for piece in pieces}.values()
    if all(_alike(first or Material(), other or Material()) for other in others):
        return first
    log.warning("Several materials become one: their metal, roughness and relief are skipped.")
    return None


def _alike(one: Material, other: Material) -> bool:
    return (
        not (one.images or other.images)
        and one.unlit == other.unlit
        and dict(one.factors) == dict(other.factors)
    )


def _listed(material: Material) -> str:
    return ", ".join(name.replace("_", " ") for name in material.images)


def _concatenated(parts: Sequence[Floats | None]) -> Tensor | None:
    """Concatenate an attribute of all pieces; return None if a piece lacks it."""
    present = [part for part in parts if part is not None]
    if len(present) < len(parts):
        return None
    return torch.from_numpy(np.concatenate(present)).float()


def _alpha(pieces: Sequence[Piece]) -> Tensor | None:
    """Return the opacities (V,) of all pieces, 1 where a piece has none; None if all lack them."""
    if all(piece.alpha is None for piece in pieces):
        return None
    return _concatenated([np.ones(len(p.vertices)) if p.alpha is None else p.alpha for p in pieces])


def _vertex_colors(pieces: Sequence[Piece]) -> Tensor | None:
    """Return vertex colours times material colours (V, 3), or None if no piece has colours."""
    if all(piece.vertex_colors is None and piece.color is None for piece in pieces):
        return None
    return torch.cat([_piece_colors(piece) for piece in pieces])


def _piece_colors(piece: Piece) -> Tensor:
    shape = piece.vertices.shape
    material = None if piece.color is None else torch.from_numpy(piece.color).float()
    if piece.vertex_colors is None:
        return torch.ones(shape) if material is None else material.expand(shape).clone()
    colors = torch.from_numpy(piece.vertex_colors).float()
    return colors if material is None else multiplied(colors, material)


def triangulated(vertices: Floats, polygon: Sequence[int]) -> list[tuple[int, int, int]]:
    """Triangulate a polygon: a convex one as a fan, a concave one by ear clipping.

    Args:
        vertices: (V, 3).
        polygon: vertex indices of its corners in order.

    Returns:
        Triangles as positions within `polygon`, not as vertex indices.

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
