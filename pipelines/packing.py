"""Linear layers at the speed of the CPU's matrix products."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

_ROWS = 512  # typical number of rows of an input


@contextmanager
def packed(model: nn.Module) -> Iterator[None]:
    """Keep weights of linear layers in the layout that oneDNN's matrix products use.

    Otherwise, each product rearranges its weights. Only bfloat16 layers on an x86 CPU are packed.
    Their own weights are empty meanwhile, so no memory is added.

    Args:
        model: runs in this context, without gradients; must not be moved or copied.
    """
    layers = [
        layer for layer in model.modules() if isinstance(layer, nn.Linear) and _can_be_packed(layer)
    ]
    weights: list[Tensor] = []
    try:
        for layer in layers:
            weights.append(torch.ops.mkldnn._reorder_linear_weight(layer.weight.data, _ROWS))
            layer.weight.data = layer.weight.new_empty(0)
            layer.__dict__["forward"] = partial(_linear, weights[-1], layer.bias)
        yield
    finally:
        for layer, weight in zip(layers, weights, strict=False):
            layer.weight.data = weight.to_dense()
            layer.__dict__.pop("forward", None)


def _can_be_packed(layer: nn.Linear) -> bool:
    return (
        type(layer) is nn.Linear  # ComfyUI's own layers move their weights
        and layer.weight.device.type == "cpu"
        and layer.weight.dtype == torch.bfloat16
        and platform.machine() in ("x86_64", "AMD64")
        and torch.backends.mkldnn.is_available()
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def _linear(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return found
