"""Evaluate a field on a regular grid: everywhere, or only near its level set."""

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

    The first pass evaluates every `stride`-th point along each axis. Eight neighbouring points are
    the corners of a block. All points of a block are evaluated if the level may cross it: if it
    is within the range of the corner values, widened by a margin. The margin is a quarter of the
    largest spread of corner values in the block and its neighbours.

    Then the surface is followed from block to block, diagonals included. A neighbour of an
    evaluated block is evaluated too if points next to it are on the other side of the level than
    its corners. All other points get the value of a corner of their block. That value is on the
    correct side of the level.

    A part of the inside or outside is missed if it is connected to no point of an evaluated block.
    Such a part is separate and thinner than `stride` cells. Legs, antennae, holes and cracks are
    connected to something larger, so they are followed to their ends. `exact` misses nothing.

    Args:
        grid: the field on its grid.
        level: value of the level set, in the units of channel 0.
        chunk_size: largest number of points evaluated at once, but at least one line of the grid or
            one block; does not change the result.
        stride: side length of a block in cells; 1 evaluates every point.
        exact: evaluate every point.
        progress: called after each chunk; the total grows while the surface is followed.

    Returns:
        values: (X, Y, Z) float32.
        blocks: (X', Y', Z') bool, which blocks of `stride` points were evaluated; None if all were.
            Cells whose lower corner is in no such block contain no surface.
    """
    if exact or stride == 1 or min(grid.shape) <= 2 * stride:
        return grid.volume(chunk_size, progress), None
    coarse = grid.coarse(stride).volume(chunk_size)
    corner_inside = coarse > level
    # Initialise every point with the lower corner of its block: in blocks that are not crossed, all
    # corners are on the same side.
    volume = _of_blocks(coarse, stride, grid.shape)
    offsets = torch.arange(stride, device=grid.device)
    limits = torch.tensor(grid.shape, device=grid.device) - 1
    at_once = max(1, points_at_once(chunk_size, grid.device) // stride**3)
    # The surface is closed at the border of the grid, so blocks there are evaluated if they are
    # inside.
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
    return volume, evaluated


def _of_blocks(values: Tensor, stride: int, shape: tuple[int, int, int]) -> Tensor:
    """Expand values of blocks to all their points; returns an array of the given shape."""
    for axis in (2, 1, 0):  # the last axis first, while there is little to move
        index = (torch.arange(shape[axis], device=values.device) // stride).clamp_max(
            values.shape[axis] - 1
        )
        values = values.index_select(axis, index)
    return values


def stride_for(spacing: float, detail: float) -> int:
    """Choose a stride whose blocks are no larger than the detail of the field.

    Args:
        spacing: distance between neighbouring points of the grid.
        detail: size of the smallest details of the field.
    """
    return max(1, min(MAX_STRIDE, int(detail / spacing)))


def _border(blocks: Tensor) -> Tensor:
    """Mark blocks with points on the grid's faces or next to them."""
    border = torch.ones_like(blocks)
    border[1:-2, 1:-2, 1:-2] = False
    return border


def _follow(inside: Tensor, blocks: Tensor, corner_inside: Tensor, wanted: Tensor) -> None:
    """Mark in `wanted` the neighbours of blocks into which the surface continues.

    These are neighbours whose corners are on the other side of the level than adjacent points of
    the block.

    Args:
        inside: (N, s, s, s) whether the points of the blocks are inside.
        blocks: (N, 3) indices of the blocks.
        corner_inside: (X, Y, Z) whether the lower corner of each block is inside.
        wanted: (X, Y, Z) bool; updated in place.
    """
    some_inside, some_outside = inside, ~inside
    # Along each axis: the points next to the lower neighbours, all points, those next to the upper.
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
