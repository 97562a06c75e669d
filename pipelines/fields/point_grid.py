"""Evaluate a function of points on a regular grid."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..progress import Progress, silent


class PointGrid:
    """A `field.ValueGrid` of a function of points.

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
        flat, (_, width, depth) = volume.view(-1), self.shape
        for start in range(0, len(flat), chunk_size):
            place = torch.arange(start, min(start + chunk_size, len(flat)), device=self.device)
            index = [place // (width * depth), place // depth % width, place % depth]
            flat[place] = self.at(torch.stack(index, dim=1), chunk_size)[:, 0]
            progress(int(place[-1]) + 1, len(flat))
        return volume

    def at(self, index: Tensor, chunk_size: int) -> Tensor:
        """Return (N, 1) values at points with indices (N, 3), `chunk_size` at once."""
        found = []
        for some in index.split(chunk_size):
            places = zip(self._axes, some.unbind(dim=1), strict=True)
            found.append(self._values(torch.stack([axis[i] for axis, i in places], dim=1)))
        return torch.cat(found)[:, None]
