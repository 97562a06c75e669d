"""Transformer blocks on sets of tokens, shared by TripoSG's networks and TripoSR.

Modules are named as in the checkpoints. Layer norms compute in float32 for any precision.

Source: Zhang et al., 3DShape2VecSet (arXiv 2301.11445); Li et al., TripoSG (arXiv 2502.06608).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..attention import attention, check_heads

#: Keys and values (B, heads, L, D), after their norms.
KeysValues = tuple[Tensor, Tensor]
_TOKENS = 512  # processed at a time on a CPU: their values in the widest layer fit into its cache


class FloatLayerNorm(nn.LayerNorm):
    """A layer norm that computes in float32 and returns the precision of its input."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.float(), self.bias.float()
        wide = x if x.device.type == "cpu" else x.float()  # the CPU's kernel mixes precisions
        return F.layer_norm(wide, self.normalized_shape, weight, bias, self.eps).to(x.dtype)


def in_pieces(function: Callable[..., Tensor], *tokens: Tensor) -> Tensor:
    """Apply a function to tokens, each (B, L, ...), on a CPU to `_TOKENS` at a time."""
    if tokens[0].device.type != "cpu":
        return function(*tokens)
    found, flat = None, [one.flatten(0, 1) for one in tokens]
    for i in range(0, len(flat[0]), _TOKENS):
        piece = function(*(one[i : i + _TOKENS] for one in flat))
        if found is None:
            found = piece.new_empty(len(flat[0]), *piece.shape[1:])
        found[i : i + _TOKENS] = piece
    assert found is not None
    return found.unflatten(0, tokens[0].shape[:2])


class HeadNorm(nn.Module):
    """RMS normalisation of each head, with learnt scales."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps)
        return (wide * scale * self.weight.float()).to(x.dtype)


class SetAttention(nn.Module):
    """Multi-head attention whose keys and values can be computed once and reused.

    Args:
        dim: width of the tokens.
        heads: number of heads.
        context_dim: width of the context that keys and values are computed from; `dim` if None.
        head_norm: whether to normalise queries and keys.
        context_norm: whether to normalise the context.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        context_dim: int | None = None,
        *,
        head_norm: bool = False,
        context_norm: bool = False,
    ) -> None:
        super().__init__()
        check_heads(dim, heads)
        context_dim = context_dim or dim
        self.heads = heads
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_k = nn.Linear(context_dim, dim, bias=False)
        self.to_v = nn.Linear(context_dim, dim, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])
        self.norm_q = HeadNorm(dim // heads) if head_norm else None
        self.norm_k = HeadNorm(dim // heads) if head_norm else None
        self.norm_cross = FloatLayerNorm(context_dim) if context_norm else None

    def queries(self, tokens: Tensor) -> Tensor:
        """Return queries (B, heads, L, D) of tokens (B, L, dim)."""
        return self._by_head(self.to_q, tokens, self.norm_q)

    def keys_values(self, context: Tensor) -> KeysValues:
        """Return keys and values of a context (B, M, context_dim)."""
        if self.norm_cross is not None:
            context = self.norm_cross(context)
        keys = self._by_head(self.to_k, context, self.norm_k)
        return keys, self._by_head(self.to_v, context)

    def forward(self, tokens: Tensor, keys_values: KeysValues | None = None) -> Tensor:
        """Attend from tokens (B, L, dim) to keys and values, or to the tokens themselves."""
        keys, values = self.keys_values(tokens) if keys_values is None else keys_values
        mixed = attention(self.queries(tokens), keys, values).transpose(1, 2).flatten(2)
        attended: Tensor = self.to_out[0](mixed)
        return attended

    def _by_head(self, layer: nn.Module, tokens: Tensor, norm: HeadNorm | None = None) -> Tensor:
        if norm is None:
            return layer(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return in_pieces(
            lambda some: norm(layer(some).unflatten(-1, (self.heads, -1))), tokens
        ).transpose(1, 2)


class _GeluProjection(nn.Module):
    def __init__(self, dim: int, inner: int, gated: bool) -> None:
        super().__init__()
        self.gated = gated
        self.proj = nn.Linear(dim, 2 * inner if gated else inner)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden: Tensor = self.proj(tokens)
        if not self.gated:
            return F.gelu(hidden)
        value, gate = hidden.chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """Two linear layers around a hidden layer four times as wide, with a GELU or a gated GELU."""

    def __init__(self, dim: int, gated: bool = False) -> None:
        super().__init__()
        self.net = nn.Sequential(
            _GeluProjection(dim, 4 * dim, gated), nn.Identity(), nn.Linear(4 * dim, dim)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        return in_pieces(self.net, tokens)


class SelfBlock(nn.Module):
    """Self attention, then the feed-forward layers."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm3 = FloatLayerNorm(dim), FloatLayerNorm(dim)
        self.attn1 = SetAttention(dim, heads)
        self.ff = FeedForward(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn1(self.norm1(tokens))
        return in_pieces(lambda some: some + self.ff.net(self.norm3(some)), tokens)


def plain_heads(tensors: Mapping[str, Tensor], heads: int) -> dict[str, Tensor]:
    """Reorder the rows of query, key and value weights so that each head's rows are contiguous.

    The checkpoints concatenate the rows before splitting them into heads: q, k and v in self
    attention (`attn1`), k and v in cross attention (`attn2`).

    Args:
        tensors: weights by the checkpoint's names.
        heads: number of heads.
    """
    found = dict(tensors)
    for name in tensors:
        stem = name.removesuffix("to_k.weight")
        if stem == name or not stem.endswith((".attn1.", ".attn2.")):
            continue
        parts = ("to_q", "to_k", "to_v") if stem.endswith(".attn1.") else ("to_k", "to_v")
        names = [f"{stem}{part}.weight" for part in parts]
        rows = [tensors[one] for one in names if one in tensors]
        if len({one.shape for one in rows}) != 1 or len(rows[0]) % heads:
            continue  # weights of another model: loading them raises the error
        cut = torch.cat(rows).unflatten(0, (heads, len(rows), -1))
        for i, one in enumerate(names):
            found[one] = cut[:, i].flatten(0, 1)
    return found
