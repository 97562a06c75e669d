"""Fields: functions of points in space that describe the shape and colours of an object.

Surface extraction, rendering and texturing use only these interfaces. A field is of one of two
kinds. The surface of a signed distance is its zero level set, where rays stop. The surface of a
density is its level set at a threshold; rays pass through it and accumulate colour.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor

from ..cameras import Cameras
from ..progress import Progress, silent

#: Grey level of fields without colours.
GREY = 0.5
# Bytes of the large models' planes, projected for values and colours, including copies.
_PROJECTED_PLANES = 2 * 3 * 64 * 64 * 64 * 4 * 4


class ValueGrid(Protocol):
    """The values of a field at the points of a regular grid, evaluated on demand.

    Attributes:
        shape: number of points along x, y, z.
    """

    shape: tuple[int, int, int]

    @property
    def device(self) -> torch.device: ...

    def volume(self, chunk_size: int, progress: Progress = silent) -> Tensor:
        """Evaluate all points, `chunk_size` at once; returns (X, Y, Z) values."""

    def at(self, index: Tensor, chunk_size: int) -> Tensor:
        """Evaluate points with indices (N, 3) along x, y and z, `chunk_size` at once.

        Returns:
            (N, C), C >= 1: the value is channel 0.
        """


class AnyField(Protocol):
    """The shape and the colours of one object, in the library's world (z up, front +x).

    Attributes:
        resolution: default number of cells along an edge of the extraction grid.
        half_side: half the side length of the cube around the origin that contains the surface.
        detail: size of the smallest details of the field.
        camera: camera of the framed image that the field was made from; None if unknown.
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

        `DensityField.density` converts raw densities to densities.
        """

    def colors(self, points: Tensor, chunk_size: int) -> Tensor | None:
        """Return (N, 3) sRGB at points (N, 3), at most slightly outside [0, 1].

        Return None if the field has no colours.
        """

    def values_on_grid(self, x: Tensor, y: Tensor, z: Tensor) -> ValueGrid:
        """Prepare to evaluate the field on the regular grid of these coordinates."""


class SignedDistanceField(AnyField, Protocol):
    """A signed distance, optionally with learnt deformations and weights for FlexiCubes.

    Attributes:
        costly: whether points are so slow to evaluate that only those near the surface should be.
    """

    @property
    def costly(self) -> bool: ...

    @property
    def kind(self) -> Literal["signed_distance"]: ...

    def to(self, device: torch.device | str) -> SignedDistanceField:
        """Move the field to another device."""

    def deformation(self, axis: Tensor, chunk_size: int) -> Callable[[Tensor], Tensor] | None:
        """Return a function that computes the offsets of a cubic grid's vertices.

        Args:
            axis: (R + 1,) coordinates of the grid, the same along x, y and z.
            chunk_size: vertices evaluated at once.

        Returns:
            a function from vertex indices (N, 3) to offsets (N, 3); None if the model has no
            deformation.
        """

    def cube_weights(self, axis: Tensor, chunk_size: int) -> Callable[[Tensor], Tensor] | None:
        """Return a function that computes the FlexiCubes weights of a grid's cubes.

        Args:
            axis: as in `deformation`.
            chunk_size: cubes evaluated at once.

        Returns:
            a function from cube indices (N, 3) to weights (N, 21) before normalisation: beta 12,
            alpha 8, gamma 1; None if the model has no weights.
        """


class DensityField(AnyField, Protocol):
    """A density, rendered by volume rendering.

    Attributes:
        threshold: density at the surface.
        samples_per_ray: total number of samples along a ray.
        even_steps: if true, samples are evenly spaced, and each has step length
            1 / `samples_per_ray` regardless of the ray's length. Otherwise half of the samples are
            evenly spaced and half are importance samples, all with their actual step lengths.
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
        """Convert a density to a raw density: the inverse of `density`."""

    def values_and_colors(self, points: Tensor, chunk_size: int) -> tuple[Tensor, Tensor]:
        """Return `values` (N,) and `colors` (N, 3) at points (N, 3) in one evaluation."""


Field = SignedDistanceField | DensityField


def point_memory(chunk_size: int) -> int:
    """Return the bytes needed to evaluate a field at this many points at once.

    This covers about five layers of 64 numbers per point, and the field's planes.
    """
    return chunk_size * 5 * 64 * 4 + _PROJECTED_PLANES  # pragma: no mutate (an estimate)
