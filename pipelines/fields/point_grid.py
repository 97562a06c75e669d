"""Evaluate a function of points on a regular grid."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..progress import Progress, silent


class PointGrid:
    """A `field.ValueGrid` of a function of points.

    Args:
        level: function from points (N, 3) to values (N,), for any N.
        x: (X,) coordinates of the grid along x.
        y: (Y,) coordinates along y.
        z: (Z,) coordinates along z.
    """

    def __init__(self, level: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, z: Tensor) -> None:
        self._values, self._axes = level, (x, y, z)
        self.shape = (len(x), len(y), len(z))

    @property
    def device(self) -> torch.device:
        return self._axes[0].device

    def coarse(self, stride: int) -> PointGrid:
        """Return the grid of every `stride`-th point along each axis, plus the last point."""
        kept = (axis[[*range(0, len(axis) - 1, stride), len(axis) - 1]] for axis in self._axes)
        return PointGrid(self._values, *kept)

    def volume(self, chunk_size: int, progress: Progress = silent) -> Tensor:
        """Return (X, Y, Z) values at all points, in whole layers of about `chunk_size` points."""
        volume = torch.empty(self.shape, device=self.device)
        x, y, z = self._axes
        layers = max(1, chunk_size // (len(y) * len(z)))
        for start in range(0, len(x), layers):
            points = torch.cartesian_prod(x[start : start + layers], y, z)
            volume[start : start + layers] = self._values(points).view(-1, len(y), len(z))
            progress(min(start + layers, len(x)), len(x))
        return volume

    def blocks(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Return (N, s, s, s, 1) values in N boxes of the grid, given by indices (N, s)."""
        across, along, above = (axis[i] for axis, i in zip(self._axes, (x, y, z), strict=True))
        shape = (*x.shape, y.shape[1], z.shape[1])
        points = torch.stack(
            [
                across[:, :, None, None].expand(shape),
                along[:, None, :, None].expand(shape),
                above[:, None, None, :].expand(shape),
            ],
            dim=-1,
        )
        return self._values(points.reshape(-1, 3)).view(*shape, 1)
