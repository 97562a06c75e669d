"""Shapes as sets of latent vectors, and the decoder that computes signed distances.

Source: Zhang et al., 3DShape2VecSet (arXiv 2301.11445); Li et al., TripoSG (arXiv 2502.06608),
section 3.2.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from .point_grid import PointGrid
from .set_transformer import FeedForward, FloatLayerNorm, KeysValues, SelfBlock, SetAttention

_POINTS_AT_ONCE = 8192
_POINTS_AT_ONCE_ON_CPU = 2048  # their hidden layers fit into a CPU's cache
_HALF_SIDE = 1.005


@dataclass(frozen=True)
class LatentSetConfig:
    """Sizes of the decoder.

    Attributes:
        channels: size of a latent vector.
        dim: width of the transformer.
        heads: number of attention heads.
        layers: number of self-attention layers, without the cross attention for points.
        frequencies: number of frequencies per coordinate, powers of two.
        include_pi: whether the frequencies are multiplied by pi.
    """

    channels: PositiveInt = 64
    dim: PositiveInt = 1024
    heads: PositiveInt = 8
    layers: PositiveInt = 16
    frequencies: PositiveInt = 8
    include_pi: bool = False


class PointBlock(nn.Module):
    """Cross attention from points to the context, then the feed-forward layers.

    Points are float32 between the layers, regardless of the precision of the weights.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm2, self.norm3 = FloatLayerNorm(dim), FloatLayerNorm(dim)
        self.attn2 = SetAttention(dim, heads, context_norm=True)
        self.ff = FeedForward(dim)

    def forward(self, points: Tensor, keys_values: KeysValues) -> Tensor:
        precision = keys_values[0].dtype
        points = points + self.attn2(self.norm2(points).to(precision), keys_values).float()
        return points + self.ff(self.norm3(points).to(precision)).float()


class PointDecoder(nn.Module):
    """The part of the decoder that processes query points."""

    def __init__(self, config: LatentSetConfig) -> None:
        super().__init__()
        self.config = config
        self.proj_query = nn.Linear(3 + 6 * config.frequencies, config.dim)
        self.block = PointBlock(config.dim, config.heads)
        self.norm_out = FloatLayerNorm(config.dim)
        self.proj_out = nn.Linear(config.dim, 1)

    def embed(self, points: Tensor) -> Tensor:
        """Embed points (N, 3) as points, sines and cosines: (N, 3 + 6 * frequencies)."""
        scale = math.pi if self.config.include_pi else 1.0
        factors = scale * 2.0 ** torch.arange(self.config.frequencies, device=points.device)
        angles = (points[:, :, None] * factors).flatten(1)
        return torch.cat([points, angles.sin(), angles.cos()], dim=-1)

    def forward(self, points: Tensor, keys_values: KeysValues) -> Tensor:
        """Return (N,) signed distances at points (N, 3) in the checkpoint's axes."""
        # The first and last layers run in float32: the position of the surface depends on them.
        hidden = _in_float32(self.proj_query, self.embed(points))[None]
        hidden = self.norm_out(self.block(hidden, keys_values))
        return _in_float32(self.proj_out, hidden)[0, :, 0]


def _in_float32(layer: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight.float(), layer.bias.float())


class LatentSetDecoder(nn.Module):
    """Decode latent vectors to a field."""

    def __init__(self, config: LatentSetConfig) -> None:
        super().__init__()
        self.post_quant = nn.Linear(config.channels, config.dim)
        self.blocks = nn.ModuleList(
            SelfBlock(config.dim, config.heads) for _ in range(config.layers)
        )
        self.points = PointDecoder(config)

    def context(self, latents: Tensor) -> Tensor:
        """Return the context (B, T, dim) that points attend to, for latents (B, T, channels)."""
        tokens = self.post_quant(latents.to(self.post_quant.weight.dtype))
        for block in self.blocks:
            tokens = block(tokens)
        return tokens

    def field(self, latents: Tensor) -> LatentSet:
        """Build the field of one shape's latents (1, T, channels).

        The field gets a copy of the point layers, since the model may move to another device.
        """
        keys_values = self.points.block.attn2.keys_values(self.context(latents))
        points = copy.deepcopy(self.points).to(latents.device)
        return LatentSet(keys_values, points.eval().requires_grad_(False))


@dataclass(frozen=True)
class LatentSet:
    """A set of latent vectors: a `field.SignedDistanceField` without colours.

    The distance is truncated, and not measured in world units.

    Attributes:
        keys_values: keys and values of the context, (1, heads, T, D) each.
        decoder: decoder of points, on the same device.
        sign: 1, or -1 if the decoder's values are negative inside.
    """

    keys_values: KeysValues
    decoder: PointDecoder
    sign: float = 1.0
    kind: Literal["signed_distance"] = "signed_distance"
    resolution: int = 256
    half_side: float = _HALF_SIDE
    detail: float = 2 * _HALF_SIDE / 512
    costly: bool = True

    @property
    def device(self) -> torch.device:
        return self.keys_values[0].device

    @property
    def camera(self) -> None:
        """None: the shape is upright and faces front, regardless of the camera."""

    def to(self, device: torch.device | str) -> LatentSet:
        keys, values = self.keys_values
        moved = copy.deepcopy(self.decoder).to(device)
        return replace(self, keys_values=(keys.to(device), values.to(device)), decoder=moved)

    @torch.no_grad()
    def values(self, points: Tensor, chunk_size: int) -> Tensor:
        # The checkpoint's axes are y up and front +z.
        official = points[:, [1, 2, 0]]
        at_once = _POINTS_AT_ONCE_ON_CPU if points.device.type == "cpu" else _POINTS_AT_ONCE
        chunks = official.split(min(chunk_size, at_once))
        found = [self.decoder(some, self.keys_values) for some in chunks]
        return torch.cat(found) * self.sign

    def colors(self, points: Tensor, chunk_size: int) -> None:
        """Return None: the model has no colours."""

    def values_on_grid(self, x: Tensor, y: Tensor, z: Tensor) -> PointGrid:
        return PointGrid(lambda points: self.values(points, _POINTS_AT_ONCE), x, y, z)

    def deformation(self, axis: Tensor, chunk_size: int) -> None:
        """Return None: the model has no deformation."""

    def cube_weights(self, axis: Tensor, chunk_size: int) -> None:
        """Return None: the model has no FlexiCubes weights."""
