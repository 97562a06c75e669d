"""A field's values on a regular grid, evaluated everywhere or only where its level set can pass."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..progress import Progress, silent
from ..reconstruction.fields import FieldGrid, points_at_once

STRIDE = 4  # fine points along an edge of a block
_MARGIN = 0.5  # how far beyond a block's corner values the field may reach inside it, in units of their spread


def sample_volume(
    grid: FieldGrid,
    level: float,
    chunk_size: int,
    *,
    exact: bool = False,
    progress: Progress = silent,
) -> Tensor:
    """Channel 0 of a field on its grid.

    A first pass takes every fourth point along each axis. A block between eight of those is evaluated if the level lies between the
    corners' values stretched by half their spread, or if it touches such a block; every other point gets the value of a corner of its
    block, which is on the right side of the level.

    What can be missed: a part of the surface that lies wholly inside one block, next to no block that the level crosses, where the
    field swings by more than half the spread of the block's corners and comes back; that is detail finer than the coarse lattice.
    `exact` evaluates every point and misses nothing.

    Args:
        grid: the field and its grid.
        level: whose surface is wanted, in the units of channel 0.
        chunk_size: points evaluated at once, at most (but at least one line of the grid or one block); changes no value.
        exact: evaluate every point.
        progress: called after each chunk.

    Returns:
        (X, Y, Z) float32.
    """
    if exact or min(grid.shape) <= 2 * STRIDE:
        return _dense(grid, chunk_size, progress)
    coarse = _dense(grid.coarse(STRIDE), chunk_size, silent)
    active = _active_blocks(coarse, level)
    # Every point starts from the lower corner of its block; blocks without the level have corners of one side only.
    volume = coarse
    for axis, length in enumerate(grid.shape):
        index = (torch.arange(length, device=grid.device) // STRIDE).clamp_max(coarse.shape[axis] - 1)
        volume = volume.index_select(axis, index)
    offsets = torch.arange(STRIDE, device=grid.device)
    limits = torch.tensor(grid.shape, device=grid.device) - 1
    chunks = active.split(max(1, points_at_once(chunk_size, grid.device) // STRIDE**3))
    for done, chunk in enumerate(chunks, start=1):
        corners = chunk[:, None] * STRIDE + offsets[:, None]  # (N, s, 3)
        x, y, z = corners.minimum(limits).unbind(dim=-1)
        volume[x[:, :, None, None], y[:, None, :, None], z[:, None, None, :]] = grid.blocks(x, y, z)[..., 0]
        progress(done, len(chunks))
    return volume


def _dense(grid: FieldGrid, chunk_size: int, progress: Progress) -> Tensor:
    volume = torch.empty(grid.shape, device=grid.device)
    for start, outputs in grid.slabs(chunk_size):
        volume[start : start + len(outputs)] = outputs[..., 0]
        progress(start + len(outputs), grid.shape[0])
    return volume


def _active_blocks(coarse: Tensor, level: float) -> Tensor:
    """(N, 3) indices of the blocks that the level may cross, and of their neighbours."""
    lowest = -F.max_pool3d(-coarse[None, None], 2, stride=1)
    highest = F.max_pool3d(coarse[None, None], 2, stride=1)
    reach = _MARGIN * (highest - lowest)
    crossed = (lowest - reach <= level) & (highest + reach >= level)
    grown = F.max_pool3d(crossed.float(), 3, stride=1, padding=1)
    # The points of the grid's upper faces are in blocks of their own, which go with those before them.
    return F.pad(grown, (0, 1) * 3, mode="replicate")[0, 0].nonzero()
