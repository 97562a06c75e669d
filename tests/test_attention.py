from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from pipelines.attention import attention


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("apart", [True, False], ids=["heads apart", "tokens first"])
def test_attention_matches_pytorch_in_float64(dtype, apart):
    generator = torch.Generator().manual_seed(0)

    def tokens(count: int) -> torch.Tensor:
        drawn = torch.randn(2, count, 3, 16, generator=generator, dtype=torch.float64)
        swapped = drawn.transpose(1, 2).to(dtype)
        return swapped.contiguous() if apart else swapped

    queries, keys, values = tokens(1100), tokens(70), tokens(70)
    found = attention(queries, keys, values)
    exact = F.scaled_dot_product_attention(queries.double(), keys.double(), values.double())
    assert found.dtype == dtype
    error = (found.double() - exact).abs()
    assert float(error.max()) < (1e-5 if dtype == torch.float32 else 0.02)
    assert float(error.mean()) < (1e-6 if dtype == torch.float32 else 0.002)
