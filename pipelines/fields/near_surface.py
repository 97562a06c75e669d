"""A costly field's values on a grid: exact beside the surface, interpolated elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..progress import Progress, silent

_MAX_STRIDE = 8
_MIN_CELLS = 32  # along an edge of the coarsest grid
_POINTS_AT_ONCE = 16_384  # seconds of work on two cores; the caller can stop in between
# How far the field may reach inside a block beyond the values of the block's corners, as a share of
# the largest difference between corners there.
_MARGIN = 0.25


def sample_near_surface(
    values: Callable[[Tensor], Tensor],
    axis: Tensor,
    *,
    exact: bool = False,
    progress: Progress = silent,
) -> Tensor:
    """Evaluate a signed distance with as few queries as its surface needs.

    The coarsest grid takes every 8th point or more. The next one, twice as fine, takes all points
    of cells that the surface may cross. Each finer grid starts from interpolated values, and
    evaluates the ends of edges whose signs differ, until both ends of every such edge are exact.
    So all values that place the surface are exact.

    What can be missed: a component or a cavity between the points of the coarsest grid that is
    connected to nothing. `exact` evaluates every point.

    Args:
        values: points (N, 3) to signed distances (N,).
        axis: (R + 1,) coordinates of the grid, the same along x, y and z.
        exact: evaluate every point.
        progress: called after each chunk; the total grows while the surface is followed.

    Returns:
        (R + 1, R + 1, R + 1) float32; where it is interpolated, only the sign is right.
    """
    cells, stride = len(axis) - 1, 1
    while not exact and stride < _MAX_STRIDE and cells // (2 * stride) >= _MIN_CELLS:
        stride *= 2
    queries = _Queries(values, axis, progress)
    places = _places(cells, stride)
    volume = torch.empty((len(places),) * 3, device=axis.device)
    known = torch.ones_like(volume, dtype=torch.bool)
    queries.fill(volume, known.nonzero(), places)
    likely = None if stride == 1 else crossed_blocks(volume, 0.0)[:-1, :-1, :-1]
    while stride > 1:
        stride //= 2
        finer = _places(cells, stride)
        known = _embedded(known, places, finer)
        volume, places = _interpolated(volume, len(finer)), finer
        wanted = _beside_sign_changes(volume > 0)
        if likely is not None:
            wanted |= _points_of_cells(likely, len(finer) - 1)
            likely = None
        new = (wanted & ~known).nonzero()
        while len(new):
            queries.fill(volume, new, places)
            known[new.unbind(1)] = True
            new = _unknown_across(volume, known, new)
    return volume


class _Queries:
    """Evaluates points of a volume in chunks, and reports how many are done."""

    def __init__(
        self, values: Callable[[Tensor], Tensor], axis: Tensor, progress: Progress
    ) -> None:
        self._values, self._axis, self._progress, self._done = values, axis, progress, 0

    def fill(self, volume: Tensor, points: Tensor, places: Tensor) -> None:
        """Evaluate points (N, 3), given by their indices in a volume at these places."""
        total, axis = self._done + len(points), self._axis[places.to(self._axis.device)]
        for some in points.split(_POINTS_AT_ONCE):
            volume[some.unbind(1)] = self._values(axis[some]).float()
            self._done += len(some)
            self._progress(self._done, total)


def crossed_blocks(coarse: Tensor, level: float) -> Tensor:
    """Mark blocks that the level may cross, at their lower corners."""
    lowest, highest = -_highest_of(-coarse, 2), _highest_of(coarse, 2)
    reach = _MARGIN * _highest_of(F.pad(highest - lowest, (1, 1) * 3), 3)
    crossed = (lowest - reach <= level) & (highest + reach >= level)
    # The points of the grid's upper faces are in blocks of their own, which go with those before
    # them.
    return F.pad(crossed[None, None].float(), (0, 1) * 3, mode="replicate")[0, 0] > 0


def _highest_of(values: Tensor, size: int) -> Tensor:
    """Return the highest of `size` ** 3 neighbours (max_pool3d, but on MPS before PyTorch 2.9)."""
    for axis in range(3):
        values = values.unfold(axis, size, 1).amax(dim=-1)
    return values


def _places(cells: int, stride: int) -> Tensor:
    """Return every `stride`-th of 0 to `cells`, and the last."""
    return torch.tensor([*range(0, cells, stride), cells])


def _interpolated(volume: Tensor, size: int) -> Tensor:
    """Interpolate a volume at the places between its points: (size, size, size)."""
    for axis in range(3):
        shape = list(volume.shape)
        shape[axis] = size
        finer = volume.new_empty(shape)
        old, new = volume.movedim(axis, 0), finer.movedim(axis, 0)
        between = new[1 : size - 1 : 2]
        torch.lerp(old[: len(between)], old[1 : len(between) + 1], 0.5, out=between)
        new[0 : size - 1 : 2] = old[:-1]
        new[-1] = old[-1]
        volume = finer
    return volume


def _embedded(known: Tensor, places: Tensor, finer: Tensor) -> Tensor:
    """Mark at finer places the points that are known at coarse ones."""
    index = torch.searchsorted(finer, places).to(known.device)
    found = known.new_zeros((len(finer),) * 3)
    found[index[:, None, None], index[:, None], index] = known
    return found


def _beside_sign_changes(inside: Tensor) -> Tensor:
    """Mark both ends of each edge of the grid whose ends differ.

    The surface is closed where the grid ends, so the two outermost layers count where they are
    inside.
    """
    beside = inside.clone()
    beside[2:-2, 2:-2, 2:-2] = False
    for axis in range(3):
        count = inside.shape[axis] - 1
        differs = inside.narrow(axis, 1, count) != inside.narrow(axis, 0, count)
        beside.narrow(axis, 0, count).logical_or_(differs)
        beside.narrow(axis, 1, count).logical_or_(differs)
    return beside


def _points_of_cells(coarse: Tensor, cells: int) -> Tensor:
    """Mark the points of a grid of so many cells that touch marked cells twice as large."""
    fine = coarse
    for axis in range(3):
        fine = fine.repeat_interleave(2, dim=axis).narrow(axis, 0, cells)
        padding = [0] * (4 - 2 * axis) + [1, 1]
        fine = F.pad(fine, padding)
        fine = fine.narrow(axis, 0, cells + 1) | fine.narrow(axis, 1, cells + 1)
    return fine


def _unknown_across(volume: Tensor, known: Tensor, points: Tensor) -> Tensor:
    """Return unknown neighbours (M, 3) of points (N, 3) that have another sign."""
    steps = torch.cat([torch.eye(3, dtype=torch.long), -torch.eye(3, dtype=torch.long)])
    beside = (points[:, None] + steps.to(points.device)).clamp(0, len(volume) - 1)  # (N, 6, 3)
    differs = (volume[beside.unbind(2)] > 0) != (volume[points.unbind(1)] > 0)[:, None]
    found = beside[differs & ~known[beside.unbind(2)]]
    return torch.unique(found, dim=0)
