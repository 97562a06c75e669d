"""A field's values on a regular grid, evaluated everywhere or only where its level set can pass."""

from __future__ import annotations

import torch
from torch import Tensor

from ..fields.field import ValueGrid
from ..fields.near_surface import crossed_blocks
from ..fields.plane_networks import points_at_once
from ..progress import Progress, silent

MAX_STRIDE = 4


def sample_volume(
    grid: ValueGrid,
    level: float,
    chunk_size: int,
    *,
    stride: int = MAX_STRIDE,
    exact: bool = False,
    progress: Progress = silent,
) -> tuple[Tensor, Tensor | None]:
    """Evaluate channel 0 of a field on its grid.

    A first pass takes every `stride`-th point along each axis. A block between eight of those is
    evaluated if the level lies between the corners' values, or beyond them by up to a quarter of
    the largest spread of corners among the block and its neighbours. From there the surface is
    followed: a block next to an evaluated one, diagonals included, is evaluated too if points that
    touch it lie on the other side of the level than its own corners. Every other point gets the
    value of a corner of its block, which is on the right side of the level.

    What can be missed: a piece of the inside or of the outside that is connected to no point of an
    evaluated block. It holds no point of the coarse lattice, so it is thinner than `stride` cells,
    and it stands apart: legs, antennae, holes and cracks hang on something larger and are followed
    to their ends. `exact` evaluates every point and misses nothing.

    Args:
        grid: the field and its grid.
        level: whose surface is wanted, in the units of channel 0.
        chunk_size: points evaluated at once, at most (but at least one line of the grid or one
            block); changes no value.
        stride: fine points along an edge of a block; 1 evaluates every point.
        exact: evaluate every point.
        progress: called after each chunk; the total grows while the surface is followed.

    Returns:
        (X, Y, Z) float32, and which of these points were evaluated, (X, Y, Z) bool, or None for
        all: cells between others hold no surface.
    """
    if exact or stride == 1 or min(grid.shape) <= 2 * stride:
        return grid.volume(chunk_size, progress), None
    coarse = grid.coarse(stride).volume(chunk_size)
    corner_inside = coarse > level
    # Every point starts from the lower corner of its block; blocks without the level have corners
    # of one side only.
    volume = _of_blocks(coarse, stride, grid.shape)
    offsets = torch.arange(stride, device=grid.device)
    limits = torch.tensor(grid.shape, device=grid.device) - 1
    at_once = max(1, points_at_once(chunk_size, grid.device) // stride**3)
    # The surface is closed where the grid ends, so the values beside its faces count wherever they
    # are inside.
    wanted = crossed_blocks(coarse, level) | (corner_inside & _border(corner_inside))
    evaluated = torch.zeros_like(wanted)
    done = 0
    while len(new := (wanted & ~evaluated).nonzero()):
        evaluated |= wanted
        total = done + len(new)
        inside = torch.empty(len(new), stride, stride, stride, dtype=torch.bool, device=grid.device)
        for chunk, chunk_inside in zip(new.split(at_once), inside.split(at_once), strict=True):
            corners = chunk[:, None] * stride + offsets[:, None]  # (N, s, 3)
            x, y, z = corners.minimum(limits).unbind(dim=-1)
            values = grid.blocks(x, y, z)[..., 0]
            volume[x[:, :, None, None], y[:, None, :, None], z[:, None, None, :]] = values
            torch.gt(values, level, out=chunk_inside)
            done += len(chunk)
            progress(done, total)
        _follow(inside, new, corner_inside, wanted)
    return volume, _of_blocks(evaluated, stride, grid.shape)


def _of_blocks(values: Tensor, stride: int, shape: tuple[int, int, int]) -> Tensor:
    """Expand one value for each block to each of its points."""
    for axis in (2, 1, 0):  # the last axis first, while there is little to move
        index = (torch.arange(shape[axis], device=values.device) // stride).clamp_max(
            values.shape[axis] - 1
        )
        values = values.index_select(axis, index)
    return values


def stride_for(spacing: float, detail: float) -> int:
    """Choose a stride whose blocks are no larger than the detail of a field.

    Args:
        spacing: between points of the grid.
        detail: length below which the field holds no detail of its own.
    """
    return max(1, min(MAX_STRIDE, int(detail / spacing)))


def _border(blocks: Tensor) -> Tensor:
    """Mark blocks that hold points on the grid's faces or next to them."""
    border = torch.ones_like(blocks)
    border[1:-2, 1:-2, 1:-2] = False
    return border


def _follow(inside: Tensor, blocks: Tensor, corner_inside: Tensor, wanted: Tensor) -> None:
    """Mark in `wanted` the neighbours of blocks (N, 3) that the surface enters.

    Points (N, s, s, s) that touch a neighbour lie on the other side of the level than its corners.
    """
    some_inside, some_outside = inside, ~inside
    # The points that touch the lower neighbours, all, those that touch the upper ones.
    for axis in (3, 2, 1):
        some_inside, some_outside = (
            torch.stack([x.select(axis, 0), x.any(dim=axis), x.select(axis, -1)], dim=axis)
            for x in (some_inside, some_outside)
        )  # (N, 3, 3, 3) in the end, one entry for each neighbour
    step = torch.arange(-1, 2, device=blocks.device)
    limits = torch.tensor(wanted.shape, device=blocks.device) - 1
    x, y, z = (blocks[:, None] + step[:, None]).clamp_min(0).minimum(limits).unbind(dim=-1)
    neighbours = x[:, :, None, None], y[:, None, :, None], z[:, None, None, :]
    differs = torch.where(corner_inside[neighbours], some_outside, some_inside)
    x, y, z = (n.expand_as(differs)[differs] for n in neighbours)
    wanted[x, y, z] = True
