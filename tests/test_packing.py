"""Layers whose weights are in oneDNN's layout."""

from __future__ import annotations

import platform

import pytest
import torch
from torch import nn

from benchmarks.limits import operation_counter
from pipelines.packing import packed

needs_bfloat16 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64")
    or not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    reason="the processor has no products in bfloat16",
)


@needs_bfloat16
@torch.no_grad()
def test_packed_layers_give_the_same_values_and_count_the_same_operations():
    layer = nn.Linear(48, 32).to(torch.bfloat16)
    tokens, weight = torch.randn(2, 70, 48).to(torch.bfloat16), layer.weight.clone()
    with operation_counter() as plain:
        expected = layer(tokens)
    with packed(layer), operation_counter() as counter:
        assert not layer.weight.numel()
        torch.testing.assert_close(layer(tokens), expected)
    assert counter.get_total_flops() == plain.get_total_flops() == 2 * 2 * 70 * 48 * 32
    assert torch.equal(layer.weight, weight)


@needs_bfloat16
def test_packed_restores_the_weights_if_the_work_stops():
    layer = nn.Linear(8, 8, bias=False).to(torch.bfloat16)
    weight = layer.weight.clone()
    with pytest.raises(InterruptedError), packed(layer):
        raise InterruptedError
    assert torch.equal(layer.weight, weight)
    assert layer(torch.eye(8).to(torch.bfloat16)).shape == (8, 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_packed_leaves_other_precisions_alone(dtype):
    layer = nn.Linear(8, 8).to(dtype)
    with packed(layer):
        assert layer.weight.shape == (8, 8)
