"""Colours and material of sparse voxels, as TRELLIS.2 decodes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInput

_CORNERS = 8  # cells around a point
_CHUNK_SIZE = 65536  # points evaluated at once


@dataclass(frozen=True)
class VoxelColors:
    """Values at the centres of some cells of a regular grid.

    Attributes:
        centers: (N, 3) float32, in the library's world.
        values: (N, C) in [0, 1]: sRGB, then metalness and roughness if C >= 5.
        cell: edge length of a cell.

    Raises:
        InvalidInput: if the shapes do not match, or there is no cell.
    """

    centers: Tensor
    values: Tensor
    cell: float

    def __post_init__(self) -> None:
        count = len(self.centers)
        if not count or self.values.ndim != 2 or len(self.values) != count:
            raise InvalidInput(
                f"Voxels need one colour for each cell, got {count} cells and"
                f" {tuple(self.values.shape)} values."
            )
        if self.values.shape[1] < 3:
            raise InvalidInput(f"Voxels need colours (N, 3), got {tuple(self.values.shape)}.")

    def at(self, points: Tensor, check: Callable[[], None] = lambda: None) -> Tensor:
        """Interpolate the values at points (P, 3); returns (P, C).

        The interpolation is trilinear among the cells that exist. Where none is near, the value is
        that of the nearest cell.

        Args:
            points: (P, 3) in the library's world.
            check: called after each chunk; raise in it to stop.
        """
        found = []
        for chunk in points.cpu().split(_CHUNK_SIZE):
            _, index = self._tree.query(
                chunk.numpy(),
                range(1, min(_CORNERS, len(self.centers)) + 1),
                p=torch.inf,
                workers=torch.get_num_threads(),
            )
            distance = (self.centers[index] - chunk[:, None]).abs() / self.cell
            weights = (1 - distance).clamp_min(0).prod(dim=2)
            weights[:, 0] += 1e-9  # the nearest cell
            weights = weights / weights.sum(dim=1, keepdim=True)
            found.append((self.values[index] * weights[..., None]).sum(dim=1))
            check()
        return torch.cat(found)

    @cached_property
    def _tree(self) -> Any:
        from scipy.spatial import cKDTree  # slow to import

        return cKDTree(self.centers.numpy())
