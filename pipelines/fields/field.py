"""What stands at each point of space: all that surfaces, orbits and textures ask of an object.

A field is of one of two kinds. Of a signed distance, the surface is where it passes 0, and rays
stop there. Of a density, the surface is where it passes a threshold, and rays gather light on their
way through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor

from ..cameras import Cameras
from ..progress import Progress, silent

#: Of every part of a field without colours.
GREY = 0.5
# Bytes, of the large models: projected for the level and the colour, and copies.
_PROJECTED_PLANES = 2 * 3 * 64 * 64 * 64 * 4 * 4


class ValueGrid(Protocol):
    """The level of a field at the points of a regular grid, evaluated on demand.

    Attributes:
        shape: points along x, y, z.
    """

    shape: tuple[int, int, int]

    @property
    def device(self) -> torch.device: ...

    def coarse(self, stride: int) -> ValueGrid:
        """Return the grid of every `stride`-th point along each axis, and the last."""

    def volume(self, chunk_size: int, progress: Progress = silent) -> Tensor:
        """Evaluate all points, `chunk_size` at once; returns (X, Y, Z) values."""

    def blocks(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Evaluate N boxes of the grid; returns (N, s, s, s, 1 or more), the value first.

        The boxes are given by indices (N, s) along each axis.
        """


class AnyField(Protocol):
    """The shape and the colours of one object, in the library's world (z up, front +x).

    Attributes:
        resolution: cells along an edge of the grid that suits the field.
        half_side: of the cube around the origin in which the surface is looked for.
        detail: length below which the field holds no detail of its own.
        camera: that of the framed image which the field was made from, where it is known.
    """

    @property
    def resolution(self) -> int: ...

    @property
    def half_side(self) -> float: ...

    @property
    def detail(self) -> float: ...

    @property
    def camera(self) -> Cameras | None: ...

    @property
    def device(self) -> torch.device: ...

    def values(self, points: Tensor, chunk_size: int) -> Tensor:
        """Return (N,) signed distances, positive inside, or raw densities at points (N, 3).

        `DensityField.density` makes densities of raw ones.
        """

    def colors(self, points: Tensor, chunk_size: int) -> Tensor | None:
        """Return (N, 3) sRGB at points (N, 3), at most slightly outside [0, 1].

        None if the field has no colours.
        """

    def values_on_grid(self, x: Tensor, y: Tensor, z: Tensor) -> ValueGrid:
        """Prepare to evaluate the field on the regular grid of these coordinates."""


class SignedDistanceField(AnyField, Protocol):
    """A signed distance, perhaps with what its model learnt about the FlexiCubes grid.

    Attributes:
        costly: a point costs so much that only those beside the surface are worth it.
    """

    @property
    def costly(self) -> bool: ...

    @property
    def kind(self) -> Literal["signed_distance"]: ...

    def to(self, device: torch.device | str) -> SignedDistanceField:
        """Move the field to another device."""

    def deformation(self, axis: Tensor, chunk_size: int) -> Callable[[Tensor], Tensor] | None:
        """Return how far the vertices of a cubic grid move.

        Args:
            axis: (R + 1,) coordinates of the grid, the same along x, y and z.
            chunk_size: vertices evaluated at once.

        Returns:
            a function of vertices (N, 3), given by their numbers, to (N, 3); None where the model
            learnt none.
        """

    def cube_weights(self, axis: Tensor, chunk_size: int) -> Callable[[Tensor], Tensor] | None:
        """Return the FlexiCubes weights of the cubes of a grid.

        Args:
            axis: as in `deformation`.
            chunk_size: cubes evaluated at once.

        Returns:
            a function of cubes (N, 3) to (N, 21): beta 12, alpha 8, gamma 1, before normalisation;
            None where the model learnt none.
        """


class DensityField(AnyField, Protocol):
    """A density.

    Attributes:
        threshold: density of the surface.
        samples_per_ray: all samples together when the density is rendered.
        even_steps: samples are evenly spaced and each counts as a step of 1 / `samples_per_ray`,
            whatever a ray's length. Else half of them are spaced evenly, the others where the
            density is, and each counts for its own length.
    """

    @property
    def kind(self) -> Literal["density"]: ...

    @property
    def even_steps(self) -> bool: ...

    @property
    def threshold(self) -> float: ...

    @property
    def samples_per_ray(self) -> int: ...

    def to(self, device: torch.device | str) -> DensityField:
        """Move the field to another device."""

    def colors(self, points: Tensor, chunk_size: int) -> Tensor:
        """Return (N, 3) sRGB at points (N, 3), at most slightly outside [0, 1]."""

    def density(self, raw: Tensor) -> Tensor:
        """Convert raw densities to densities, at least 0."""

    def raw_density(self, density: float) -> float:
        """Convert a density to a raw one: the inverse of `density`."""

    def values_and_colors(self, points: Tensor, chunk_size: int) -> tuple[Tensor, Tensor]:
        """Return (N,) `values` and (N, 3) `colors` at points (N, 3) at the cost of one."""


Field = SignedDistanceField | DensityField


def point_memory(chunk_size: int) -> int:
    """Return the bytes needed to evaluate a field at this many points at once.

    These are some five layers of 64 numbers for each point, and the field's planes.
    """
    return chunk_size * 5 * 64 * 4 + _PROJECTED_PLANES  # pragma: no mutate (an estimate)
