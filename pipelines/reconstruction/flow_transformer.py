"""TripoSG's transformer: predict the velocity of noisy latent vectors, given an image.

Modules are named as in the checkpoint.

Source: Li et al., TripoSG (arXiv 2502.06608), section 3.1; Bao et al., U-ViT (arXiv 2209.12152):
long skips; Dehghani et al. (arXiv 2302.05442): normalised queries and keys.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from ..fields.set_transformer import (
    FeedForward,
    FloatLayerNorm,
    KeysValues,
    SetAttention,
    in_pieces,
)


@dataclass(frozen=True)
class FlowConfig:
    """Sizes of the transformer.

    Attributes:
        channels: channels of a latent vector.
        dim: width of the tokens.
        heads: heads of each attention.
        layers: number of blocks.
        context_dim: width of the image tokens.
    """

    channels: PositiveInt = 64
    dim: PositiveInt = 2048
    heads: PositiveInt = 16
    layers: PositiveInt = 21
    context_dim: PositiveInt = 1024


class TimeProjection(nn.Module):
    """Embedding of a time as the token that precedes the latent vectors."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.linear_1, self.linear_2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def sinusoids(self, times: Tensor) -> Tensor:
        """Encode times (B,) as (B, dim) float32: sines, then cosines."""
        half = self.dim // 2
        steps = torch.arange(half, device=times.device, dtype=torch.float32) / half
        angles = times.float()[:, None] * torch.exp(-math.log(10_000) * steps)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def forward(self, times: Tensor) -> Tensor:
        """Embed times (B,) as tokens (B, dim)."""
        hidden = F.gelu(self.linear_1(self.sinusoids(times).to(self.linear_1.weight.dtype)))
        tokens: Tensor = self.linear_2(hidden)
        return tokens


class FlowBlock(nn.Module):
    """A block of self-attention, cross-attention to the image and feed-forward layers.

    Args:
        config: sizes of the transformer.
        skips: whether a skip connection joins the output of an earlier block first.
    """

    def __init__(self, config: FlowConfig, skips: bool) -> None:
        super().__init__()
        dim, heads = config.dim, config.heads
        self.norm1, self.norm2, self.norm3 = (FloatLayerNorm(dim) for _ in range(3))
        self.attn1 = SetAttention(dim, heads, head_norm=True)
        self.attn2 = SetAttention(dim, heads, config.context_dim, head_norm=True)
        self.ff = FeedForward(dim)
        self.skip_linear = nn.Linear(2 * dim, dim) if skips else None
        self.skip_norm = FloatLayerNorm(dim) if skips else None

    def add_cross(self, tokens: Tensor, image: KeysValues) -> None:
        """Add the attention from tokens (B, L, dim) to the images, in place.

        The images belong to the last rows of the batch. Rows before those have no image: attention
        to zero tokens gives zero, so only the output bias remains.
        """
        without = len(tokens) - len(image[0])
        tokens[without:] += self.attn2(self.norm2(tokens[without:]), image)
        if without:
            bias = cast(Tensor, self.attn2.to_out[0].bias)
            tokens[:without] += bias.to(tokens)  # ComfyUI may keep it elsewhere

    def join(self, tokens: Tensor, earlier: Tensor) -> Tensor:
        """Merge the output tokens of an earlier block into these tokens."""
        assert self.skip_linear is not None
        assert self.skip_norm is not None
        joined: Tensor = self.skip_norm(self.skip_linear(torch.cat([earlier, tokens], dim=-1)))
        return joined

    def forward(self, tokens: Tensor, image: KeysValues, earlier: Tensor | None) -> Tensor:
        if earlier is not None:
            tokens = in_pieces(self.join, tokens, earlier)
        tokens = tokens + self.attn1(self.norm1(tokens))
        self.add_cross(tokens, image)
        return in_pieces(lambda some: some + self.ff.net(self.norm3(some)), tokens)


class FlowTransformer(nn.Module):
    """Transformer from noisy latent vectors, a time and an image to velocities."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        self.time_proj = TimeProjection(config.dim)
        self.proj_in = nn.Linear(config.channels, config.dim)
        self.blocks = nn.ModuleList(
            FlowBlock(config, skips=i > config.layers // 2) for i in range(config.layers)
        )
        self.norm_out = FloatLayerNorm(config.dim)
        self.proj_out = nn.Linear(config.dim, config.channels)

    def image_keys_values(self, tokens: Tensor) -> list[KeysValues]:
        """Compute each block's keys and values from image tokens (B, M, context_dim)."""
        tokens = tokens.to(self.proj_in.weight.dtype)
        return [block.attn2.keys_values(tokens) for block in self.blocks]  # type: ignore[operator, union-attr]

    def forward(self, latents: Tensor, times: Tensor, image: Sequence[KeysValues]) -> Tensor:
        """Compute velocities that point from noise to data.

        Args:
            latents: (B, T, channels).
            times: (B,) from 1000 (pure noise) to 0 (data).
            image: result of `image_keys_values` for 1 to B images, which belong to the last rows
                of `latents`. Rows before those have no image.

        Returns:
            (B, T, channels) float32.
        """
        tokens = self.proj_in(latents.to(self.proj_in.weight.dtype))
        tokens = torch.cat([self.time_proj(times)[:, None], tokens], dim=1)
        earlier: list[Tensor] = []
        half = self.config.layers // 2
        for i, (block, keys_values) in enumerate(zip(self.blocks, image, strict=True)):
            tokens = block(tokens, keys_values, earlier.pop() if i > half else None)
            if i < half:
                earlier.append(tokens)
        velocities: Tensor = self.proj_out(self.norm_out(tokens)[:, 1:])
        return velocities.float()
