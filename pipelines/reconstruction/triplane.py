"""The triplane of one object, and what can be asked of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from .fields import Field, cube_field
from .model import MeshDecoder, NerfDecoder, ReconstructionConfig

# Colours reach a little past [0, 1], as in mip-NeRF (arXiv 2103.13415), so that black and white need no infinite logits.
_COLOR_MARGIN = 0.001
_PROJECTED_PLANES = 2 * 3 * 64 * 64 * 64 * 4 * 4  # bytes, of the large models: projected for the level and the colour, and copies on the way


@dataclass(frozen=True)
class Triplane:
    """One object as its reconstruction model sees it.

    Attributes:
        planes: (3, C, H, W) float32.
        decoder: the model's MLPs, float32 and on the planes' device.
        config: the model's sizes.
    """

    planes: Tensor
    decoder: MeshDecoder | NerfDecoder
    config: ReconstructionConfig

    def to(self, device: torch.device | str) -> Triplane:
        """The same triplane on another device."""
        return Triplane(self.planes.to(device), copy.deepcopy(self.decoder).to(device), self.config)

    @cached_property
    def level_field(self) -> Field:
        """The signed distance, positive inside, or the raw density: one channel."""
        return Field(self.planes, self.decoder.net_sdf if isinstance(self.decoder, MeshDecoder) else self.decoder.net, outputs=1)

    @cached_property
    def _color_field(self) -> Field:
        """Its last three channels are raw colours; a NeRF model's first one is the raw density."""
        return Field(self.planes, self.decoder.net_rgb if isinstance(self.decoder, MeshDecoder) else self.decoder.net)

    def colors(self, points: Tensor, chunk_size: int) -> Tensor:
        """(N, 3) colours at points (N, 3), a little beyond [0, 1] at most."""
        return color_of(self._color_field.at(points, chunk_size)[:, -3:])

    def density_and_colors(self, points: Tensor, chunk_size: int) -> tuple[Tensor, Tensor]:
        """(N,) raw density and (N, 3) colours at points (N, 3), of a NeRF model."""
        outputs = self._color_field.at(points, chunk_size)
        return outputs[:, 0], color_of(outputs[:, 1:])

    def deformation(self, axis: Tensor, chunk_size: int) -> Callable[[Tensor], Tensor]:
        """How far the vertices of a cubic grid move, for a mesh model.

        Args:
            axis: (R + 1,) coordinates of the grid, the same along x, y and z.
            chunk_size: vertices evaluated at once.

        Returns:
            a function of vertices (N, 3), given by their numbers, to (N, 3): at most a quarter of a cube of a unit grid.
        """
        assert isinstance(self.decoder, MeshDecoder)
        field = Field(self.planes, self.decoder.net_deformation).on_grid(axis, axis, axis)
        return lambda index: field.at(index, chunk_size).tanh() / (4 * (len(axis) - 1))

    def cube_weights(self, axis: Tensor, chunk_size: int) -> Callable[[Tensor], Tensor]:
        """FlexiCubes weights of the cubes of a grid, for a mesh model.

        Args:
            axis, chunk_size: as in `deformation`.

        Returns:
            a function of cubes (N, 3) to (N, 21): beta 12, alpha 8, gamma 1, before normalisation.
        """
        assert isinstance(self.decoder, MeshDecoder)
        field = cube_field(self.planes, self.decoder.net_weight, axis)
        return lambda cubes: field.at(cubes, chunk_size) * 0.1


def point_memory(chunk_size: int) -> int:
    """Bytes that are at most needed to evaluate so many points at once, beside the planes: some five layers of 64 numbers each."""
    return chunk_size * 5 * 64 * 4 + _PROJECTED_PLANES  # pragma: no mutate (an estimate)


def color_of(raw: Tensor) -> Tensor:
    """Raw decoder outputs as colour."""
    return raw.sigmoid() * (1 + 2 * _COLOR_MARGIN) - _COLOR_MARGIN


def density_of(raw: Tensor) -> Tensor:
    """Raw decoder outputs as density."""
    return F.softplus(raw - 1)


def raw_density_of(density: float) -> float:
    """The raw output whose density is the given one: the inverse of `density_of`."""
    value = torch.tensor(density, dtype=torch.float64)
    return float(value + torch.log(-torch.expm1(-value)) + 1)
