"""Evaluate a function of points on a regular grid."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..progress import Progress, silent


class PointGrid:
    """Evaluate a function of points on a grid; implements `field.ValueGrid`.

    Args:
        values: function from points (N, 3) to values (N,), for any N.
        x: (X,) coordinates of the grid along x.
        y: (Y,) coordinates along y.
        z: (Z,) coordinates along z.
    """

    def __init__(self, values: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, z: Tensor) -> None:
        self._values, self._axes = values, (x, y, z)
        self.shape = (len(x), len(y), len(z))

    @property
    def device(self) -> torch.device:
        return self._axes[0].device

    def volume(self, chunk_size: int, progress: Progress = silent) -> Tensor:
        """Return (X, Y, Z) values at all points."""
        volume = torch.empty(self.shape, device=self.device)
        x, y, z = self._axes
        lines, flat = torch.cartesian_prod(x, y), volume.view(-1, len(z))
        done = 0
        for some in lines.split(max(1, chunk_size // len(z))):
            place = torch.cat([some.repeat_interleave(len(z), 0), z.repeat(len(some))[:, None]], 1)
            values = torch.cat([self._values(points) for points in place.split(chunk_size)])
            flat[done : done + len(some)] = values.view(-1, len(z))
            done += len(some)
            progress(done * len(z), volume.numel())
        return volume

    def at(self, index: Tensor, chunk_size: int) -> Tensor:
        """Return (N, 1) values at points with indices (N, 3), `chunk_size` at once."""
        found = []
        for some in index.split(chunk_size):
            places = zip(self._axes, some.unbind(dim=1), strict=True)
            found.append(self._values(torch.stack([axis[i] for axis, i in places], dim=1)))
        return torch.cat(found)[:, None]
