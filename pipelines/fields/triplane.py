"""Triplanes: three planes of features of one object, and the MLPs that decode them.

Source: Chan et al., EG3D (CVPR 2022), section 4.1; Xu et al., InstantMesh (arXiv 2404.07191),
section 3.2. The decoders' parameters are named as in InstantMesh's checkpoints.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .plane_networks import NetworkGrid, PlaneNetwork, cube_network, plane_mlp

# Colours extend slightly beyond [0, 1], as in mip-NeRF (arXiv 2103.13415), so that black and white
# need no infinite logits.
_COLOR_MARGIN = 0.001


class SignedDistanceDecoder(nn.Module):
    """Decodes signed distance, colour, and the deformation and weights for FlexiCubes.

    Args:
        features: number of features of a point, from all planes together.
        resolution: cells along an edge of the FlexiCubes grid.
        side: side length of the grid.
    """

    def __init__(self, features: int, resolution: int = 128, side: float = 2.1) -> None:
        super().__init__()
        self.net_sdf = plane_mlp(features, 1)
        self.net_rgb = plane_mlp(features, 3)
        self.net_deformation = plane_mlp(features, 3)
        self.net_weight = plane_mlp(8 * features, 21)
        self.resolution, self.side = resolution, side

    def triplane(self, planes: Tensor) -> SignedDistanceTriplane:
        """Wrap planes (3, C, H, W) with a float32 copy of this decoder.

        The model itself may move to another device or have another precision.
        """
        return SignedDistanceTriplane(planes.float(), _copy_for(self, planes))


@dataclass(frozen=True, kw_only=True)
class DensityOptions:
    """Options of a density's extraction and rendering.

    Attributes:
        resolution: cells along an edge of the marching cubes' grid.
        threshold: density at the surface.
        samples_per_ray: total number of samples along a ray.
        half_side: half the side length of the cube that the planes span.
        even_steps: see `field.DensityField`.
    """

    resolution: int
    threshold: float
    samples_per_ray: int
    half_side: float = 1.0
    even_steps: bool = False


class DensityDecoder(nn.Module):
    """Base class of decoders to raw density (the MLP's output 0) and raw colour (1 to 3).

    Args:
        options: see `DensityOptions`.
    """

    mlp: nn.Sequential

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = DensityOptions(**options)

    def triplane(self, planes: Tensor) -> DensityTriplane:
        """Wrap planes (3, C, H, W) with a float32 copy of this decoder.

        The model itself may move to another device or have another precision.
        """
        own = _copy_for(self, planes)
        return DensityTriplane(planes.float(), own, **vars(self.options))

    def density(self, raw: Tensor) -> Tensor:
        """See `field.DensityField.density`."""
        raise NotImplementedError

    def raw_density(self, density: float) -> float:
        """See `field.DensityField.raw_density`."""
        raise NotImplementedError

    def srgb(self, raw: Tensor) -> Tensor:
        """Convert raw colours to sRGB (..., 3)."""
        raise NotImplementedError


class SoftplusDecoder(DensityDecoder):
    """InstantMesh's density decoder.

    Args:
        features: number of features of a point, from all planes together.
        options: see `DensityOptions`.
    """

    def __init__(self, features: int, **options: Any) -> None:
        super().__init__(**options)
        self.net = plane_mlp(features, 4)

    @property
    def mlp(self) -> nn.Sequential:  # type: ignore[override]
        return self.net

    def density(self, raw: Tensor) -> Tensor:
        return F.softplus(raw - 1)

    def raw_density(self, density: float) -> float:
        value = torch.tensor(density, dtype=torch.float64)
        return float(value + torch.log(-torch.expm1(-value)) + 1)

    def srgb(self, raw: Tensor) -> Tensor:
        return srgb_from_raw(raw)


class ExponentialDecoder(DensityDecoder):
    """TripoSR's density decoder.

    Args:
        features: number of features of a point, from all planes together.
        hidden: width of the hidden layers.
        hidden_layers: number of hidden layers.
        options: see `DensityOptions`.

    Source: Tochilkin et al., TripoSR (arXiv 2403.02151).
    """

    def __init__(self, features: int, hidden: int, hidden_layers: int, **options: Any) -> None:
        super().__init__(**options)
        self.layers = plane_mlp(features, 4, hidden, hidden_layers, nn.SiLU)

    @property
    def mlp(self) -> nn.Sequential:  # type: ignore[override]
        return self.layers

    def triplane(self, planes: Tensor) -> DensityTriplane:
        """Wrap planes after transposing the third from TripoSR's (y, z) to the library's (z, y)."""
        first, second, third = planes
        return super().triplane(torch.stack([first, second, third.transpose(1, 2)]))

    def density(self, raw: Tensor) -> Tensor:
        return torch.exp(raw - 1)

    def raw_density(self, density: float) -> float:
        return math.log(density) + 1

    def srgb(self, raw: Tensor) -> Tensor:
        return raw.sigmoid()


Decoder = SignedDistanceDecoder | DensityDecoder
_D = TypeVar("_D", bound=nn.Module)


def _copy_for(decoder: _D, planes: Tensor) -> _D:
    copied = copy.deepcopy(decoder).to(planes.device, torch.float32)
    return copied.eval().requires_grad_(False)


@dataclass(frozen=True)
class _Triplane:
    """Base class of triplanes: float32 planes (3, C, H, W) that span [-1, 1]."""

    planes: Tensor

    def _comfy_cache_tensors(self) -> list[Tensor]:
        """Return all tensors: ComfyUI's cache uses them to measure an output's memory."""
        return [value for value in vars(self).values() if isinstance(value, Tensor)]

    @property
    def device(self) -> torch.device:
        return self.planes.device

    @property
    def detail(self) -> float:
        """The distance between two texels of a plane."""
        return 2 / self.planes.shape[-1]

    @property
    def camera(self) -> None:
        """None: the field was made from several views, or from an image with an unknown camera."""


@dataclass(frozen=True)
class SignedDistanceTriplane(_Triplane):
    """A triplane that holds a signed distance: a `field.SignedDistanceField`.

    Attributes:
        planes: (3, C, H, W) float32.
        decoder: float32, on the planes' device.
    """

    decoder: SignedDistanceDecoder
    kind: Literal["signed_distance"] = "signed_distance"
    costly: bool = False

    @property
    def resolution(self) -> int:
        return self.decoder.resolution

    @property
    def half_side(self) -> float:
        return self.decoder.side / 2

    def to(self, device: torch.device | str) -> SignedDistanceTriplane:
        decoder = copy.deepcopy(self.decoder).to(device)
        return SignedDistanceTriplane(self.planes.to(device), decoder)

    @cached_property
    def _values(self) -> PlaneNetwork:
        return PlaneNetwork(self.planes, self.decoder.net_sdf)

    @cached_property
    def _colors(self) -> PlaneNetwork:
        return PlaneNetwork(self.planes, self.decoder.net_rgb)

    def values(self, points: Tensor, chunk_size: int) -> Tensor:
        return self._values.at(points, chunk_size)[:, 0]

    def values_on_grid(self, x: Tensor, y: Tensor, z: Tensor) -> NetworkGrid:
        return self._values.on_grid(x, y, z)

    def colors(self, points: Tensor, chunk_size: int) -> Tensor:
        return srgb_from_raw(self._colors.at(points, chunk_size))

    def deformation(self, axis: Tensor, chunk_size: int) -> Callable[[Tensor], Tensor]:
        """See `SignedDistanceField`; offsets are at most 1 / (4 R) for R cubes along an edge."""
        network = PlaneNetwork(self.planes, self.decoder.net_deformation).on_grid(axis, axis, axis)
        return lambda index: network.at(index, chunk_size).tanh() / (4 * (len(axis) - 1))

    def cube_weights(self, axis: Tensor, chunk_size: int) -> Callable[[Tensor], Tensor]:
        network = cube_network(self.planes, self.decoder.net_weight, axis)
        return lambda cubes: network.at(cubes, chunk_size) * 0.1


@dataclass(frozen=True)
class DensityTriplane(DensityOptions, _Triplane):
    """A triplane that holds a density: a `field.DensityField`.

    Attributes:
        planes: (3, C, H, W) float32.
        decoder: float32, on the planes' device.
    """

    decoder: DensityDecoder
    kind: Literal["density"] = "density"

    @property
    def detail(self) -> float:
        return super().detail * self.half_side

    def to(self, device: torch.device | str) -> DensityTriplane:
        decoder = copy.deepcopy(self.decoder).to(device)
        return replace(self, planes=self.planes.to(device), decoder=decoder)

    @cached_property
    def _values(self) -> PlaneNetwork:
        return PlaneNetwork(self.planes, self.decoder.mlp, outputs=1)

    @cached_property
    def _density_and_colors(self) -> PlaneNetwork:
        return PlaneNetwork(self.planes, self.decoder.mlp)

    def values(self, points: Tensor, chunk_size: int) -> Tensor:
        return self._values.at(points / self.half_side, chunk_size)[:, 0]

    def values_on_grid(self, x: Tensor, y: Tensor, z: Tensor) -> NetworkGrid:
        return self._values.on_grid(*(axis / self.half_side for axis in (x, y, z)))

    def colors(self, points: Tensor, chunk_size: int) -> Tensor:
        return self.values_and_colors(points, chunk_size)[1]

    def values_and_colors(self, points: Tensor, chunk_size: int) -> tuple[Tensor, Tensor]:
        outputs = self._density_and_colors.at(points / self.half_side, chunk_size)
        return outputs[:, 0], self.decoder.srgb(outputs[:, 1:])

    def density(self, raw: Tensor) -> Tensor:
        return self.decoder.density(raw)

    def raw_density(self, density: float) -> float:
        return self.decoder.raw_density(density)


Triplane = SignedDistanceTriplane | DensityTriplane


def srgb_from_raw(raw: Tensor) -> Tensor:
    """Convert raw outputs to sRGB (..., 3)."""
    return raw.sigmoid() * (1 + 2 * _COLOR_MARGIN) - _COLOR_MARGIN
