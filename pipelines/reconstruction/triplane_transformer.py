"""Transformer from image features to a triplane.

Learnt tokens attend to the image features and to each other.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..attention import attention, check_heads
from .parameters import noise_parameter


class Attention(nn.Module):
    """Multi-head attention without biases, with the parameter names of `nn.MultiheadAttention`.

    `nn.MultiheadAttention` itself is slow here: it transposes (B, L, D) to (L, B, D). Without
    gradients, torch then copies the weights once per token.
    """

    def __init__(self, dim: int, heads: int, context_dim: int | None = None) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.heads = heads
        if context_dim is None:
            self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        else:
            self.q_proj_weight = nn.Parameter(torch.empty(dim, dim))
            self.k_proj_weight = nn.Parameter(torch.empty(dim, context_dim))
            self.v_proj_weight = nn.Parameter(torch.empty(dim, context_dim))
        self.out_proj = nn.Linear(dim, dim, bias=False)
        for parameter in self.parameters(recurse=False):
            nn.init.xavier_uniform_(parameter)

    def queries_keys_values(
        self, tokens: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Project tokens (B, L, D) to queries, and the context to keys and values.

        Queries are (B, heads, L, D / heads). Keys and values are (B, heads, M, D / heads), from the
        context (B, M, context_dim), or from the tokens if it is None.
        """
        if context is None:
            q, k, v = F.linear(tokens, self.in_proj_weight).chunk(3, dim=-1)
        else:
            q = F.linear(tokens, self.q_proj_weight)
            k = F.linear(context, self.k_proj_weight)
            v = F.linear(context, self.v_proj_weight)
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q, k, v))
        return q, k, v

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        """Attend from tokens (B, L, D) to a context (B, M, context_dim), or to the tokens."""
        q, k, v = self.queries_keys_values(tokens, context)
        attended: Tensor = self.out_proj(attention(q, k, v).transpose(1, 2).flatten(2))
        return attended


class _Layer(nn.Module):
    def __init__(self, dim: int, heads: int, feature_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn = Attention(dim, heads, feature_dim)
        self.norm2 = nn.LayerNorm(dim)
        self.self_attn = Attention(dim, heads)
        self.norm3 = nn.LayerNorm(dim)
        # The identity replaces the dropout used in training, because the second linear layer has
        # index 3 in the checkpoints.
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(), nn.Identity(), nn.Linear(4 * dim, dim)
        )

    def forward(self, tokens: Tensor, features: Tensor) -> Tensor:
        tokens = tokens + self.cross_attn(self.norm1(tokens), features)
        tokens = tokens + self.self_attn(self.norm2(tokens))
        mlp: Tensor = self.mlp(self.norm3(tokens))
        return tokens + mlp


class TriplaneTransformer(nn.Module):
    """Transformer from image features to a triplane.

    Source: Hong et al., LRM (arXiv 2311.04400), section 3.2.
    """

    def __init__(
        self, dim: int, layers: int, heads: int, feature_dim: int, low_res: int, triplane_dim: int
    ) -> None:
        super().__init__()
        self.low_res = low_res
        self.pos_embed = noise_parameter(1, 3 * low_res**2, dim, std=dim**-0.5)
        self.layers = nn.ModuleList(_Layer(dim, heads, feature_dim) for _ in range(layers))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.deconv = nn.ConvTranspose2d(dim, triplane_dim, kernel_size=2, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        """Compute the triplanes of B objects.

        Args:
            features: (B, T, feature_dim), the tokens of all views.

        Returns:
            (B, 3, triplane_dim, 2 * low_res, 2 * low_res).
        """
        tokens = self.pos_embed.expand(len(features), -1, -1)
        for layer in self.layers:
            tokens = layer(tokens, features)
        planes = (
            self.norm(tokens)
            .reshape(-1, self.low_res, self.low_res, tokens.shape[-1])
            .permute(0, 3, 1, 2)
        )  # (3 B, D, low, low)
        upsampled: Tensor = self.deconv(planes)
        return upsampled.unflatten(0, (-1, 3))
