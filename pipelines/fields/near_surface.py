"""Sample a costly field on a grid: exactly near the surface, interpolated elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..progress import Progress, silent

_MAX_STRIDE = 8
_MIN_CELLS = 32  # along an edge of the coarsest grid
_POINTS_AT_ONCE = 16_384  # takes seconds on two cores; the caller can stop in between
# How far values inside a block may exceed the range of its corners, as a share of the largest
# difference between corners in the block and its neighbours.
_MARGIN = 0.25


def sample_near_surface(
    values: Callable[[Tensor], Tensor],
    axis: Tensor,
    *,
    exact: bool = False,
    progress: Progress = silent,
) -> Tensor:
    """Evaluate a signed distance with as few queries as its surface needs.

    The coarsest grid uses every 8th point, or more of them if it would have too few cells. In the
    next grid, twice as fine, all points of cells that the surface may cross are evaluated. Each
    finer grid starts with interpolated values. Then both ends of edges whose signs differ are
    evaluated, until all such ends are exact. So all values that determine the surface are exact.

    A separate component or cavity that fits between the points of the coarsest grid may be missed.
    `exact` evaluates every point and misses nothing.

    Args:
        values: function from points (N, 3) to signed distances (N,).
        axis: (R + 1,) coordinates of the grid, the same along x, y and z.
        exact: evaluate every point.
        progress: called after each chunk; the total grows while the surface is followed.

    Returns:
        (R + 1, R + 1, R + 1) float32; of interpolated values, only the sign is correct.
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
    """Evaluates points of a volume in chunks, and reports progress."""

    def __init__(
        self, values: Callable[[Tensor], Tensor], axis: Tensor, progress: Progress
    ) -> None:
        self._values, self._axis, self._progress, self._done = values, axis, progress, 0

    def fill(self, volume: Tensor, points: Tensor, places: Tensor) -> None:
        """Evaluate points and write them into a volume.

        Args:
            volume: (P, P, P); updated in place.
            points: (N, 3) indices into the volume.
            places: (P,) indices into the axis of the volume's points.
        """
        total, axis = self._done + len(points), self._axis[places.to(self._axis.device)]
        for some in points.split(_POINTS_AT_ONCE):
            volume[some.unbind(1)] = self._values(axis[some]).float()
            self._done += len(some)
            self._progress(self._done, total)


def crossed_blocks(coarse: Tensor, level: float) -> Tensor:
    """Mark blocks that the level may cross, at the index of their lower corner."""
    lowest, highest = -_highest_of(-coarse, 2), _highest_of(coarse, 2)
    reach = _MARGIN * _highest_of(F.pad(highest - lowest, (1, 1) * 3), 3)
    crossed = (lowest - reach <= level) & (highest + reach >= level)
    # Points on the grid's upper faces form blocks of their own, which copy the mark of the block
    # before them.
    return F.pad(crossed[None, None].float(), (0, 1) * 3, mode="replicate")[0, 0] > 0


def _highest_of(values: Tensor, size: int) -> Tensor:
    """Return the maximum of `size` ** 3 neighbours; unlike max_pool3d, works on older MPS."""
    for axis in range(3):
        values = values.unfold(axis, size, 1).amax(dim=-1)
    return values


def _places(cells: int, stride: int) -> Tensor:
    """Return every `stride`-th index from 0 to `cells`, and the last one."""
    return torch.tensor([*range(0, cells, stride), cells])


def _interpolated(volume: Tensor, size: int) -> Tensor:
    """Interpolate a volume to twice the resolution: (size, size, size)."""
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
    """Transfer the marks of known points from coarse places to a finer grid."""
    index = torch.searchsorted(finer, places).to(known.device)
    found = known.new_zeros((len(finer),) * 3)
    found[index[:, None, None], index[:, None], index] = known
    return found


def _beside_sign_changes(inside: Tensor) -> Tensor:
    """Mark both ends of each grid edge whose ends differ.

    Inside points of the two outermost layers are marked too, since the surface is closed at the
    border of the grid.
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
    """Mark the points of a grid with `cells` cells that touch marked cells of twice the size."""
    fine = coarse
    for axis in range(3):
        fine = fine.repeat_interleave(2, dim=axis).narrow(axis, 0, cells)
        padding = [0] * (4 - 2 * axis) + [1, 1]
        fine = F.pad(fine, padding)
        fine = fine.narrow(axis, 0, cells + 1) | fine.narrow(axis, 1, cells + 1)
    return fine


def _unknown_across(volume: Tensor, known: Tensor, points: Tensor) -> Tensor:
    """Return the unknown neighbours (M, 3) whose sign differs from that of points (N, 3)."""
    steps = torch.cat([torch.eye(3, dtype=torch.long), -torch.eye(3, dtype=torch.long)])
    beside = (points[:, None] + steps.to(points.device)).clamp(0, len(volume) - 1)  # (N, 6, 3)
    differs = (volume[beside.unbind(2)] > 0) != (volume[points.unbind(1)] > 0)[:, None]
    found = beside[differs & ~known[beside.unbind(2)]]
    return torch.unique(found, dim=0)
