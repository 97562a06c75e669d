"""Join the pieces of a mesh file into one mesh."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...errors import InvalidInput
from ...images.colors import multiplied
from ..material import Material
from ..mesh import Mesh
from ..topology import Floats
from .pieces import Piece
from .texture_sheet import one_image

log = logging.getLogger(__name__)


def mesh_of(pieces: Sequence[Piece]) -> Mesh:
    """Join pieces into one mesh in the file's axes.

    Raises:
        InvalidInput: if there are no triangles, or if `Mesh` rejects the arrays.
    """
    pieces = [p if p.uvs is not None else replace(p, image=None) for p in pieces if len(p.faces)]
    if not pieces:
        raise InvalidInput("it has no triangles")
    material = _common_material(pieces)
    merged, moved = one_image(pieces)
    image = merged[0].image
    uvs = _concatenated([piece.uvs for piece in merged])
    if material is not None and (uvs is None or moved):
        if material.images:
            names = ", ".join(material.images).replace("_", " ")
            log.warning("Skipped the material's %s: the parts do not share one texture.", names)
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
    log.warning("Several materials become one: only their colours are kept.")
    return None


def _alike(one: Material, other: Material) -> bool:
    return (
        not (one.images or other.images)
        and one.unlit == other.unlit
        and dict(one.factors) == dict(other.factors)
    )


def _concatenated(parts: Sequence[Floats | None]) -> Tensor | None:
    """Concatenate an attribute of all pieces; return None if a piece lacks it."""
    present = [part for part in parts if part is not None]
    if len(present) < len(parts):
        return None
    return torch.from_numpy(np.concatenate(present)).float()


def _alpha(pieces: Sequence[Piece]) -> Tensor | None:
    """Return the opacities (V,) of all pieces; None if no piece has any. The default is 1."""
    if all(piece.alpha is None for piece in pieces):
        return None
    return _concatenated([np.ones(len(p.vertices)) if p.alpha is None else p.alpha for p in pieces])


def _vertex_colors(pieces: Sequence[Piece]) -> Tensor | None:
    """Return vertex colours times material colours (V, 3), or None if no piece has colours."""
    if all(piece.vertex_colors is None and piece.color is None for piece in pieces):
        return None
    return torch.cat([_piece_colors(piece) for piece in pieces])


def _piece_colors(piece: Piece) -> Tensor:
    own = np.ones(piece.vertices.shape) if piece.vertex_colors is None else piece.vertex_colors
    colors = torch.from_numpy(own)
    if piece.color is not None:
        colors = multiplied(colors, torch.from_numpy(piece.color))
    return colors.float()
