import pytest
import torch
from torch.nn import functional as F

from benchmarks.limits import operation_counter


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_operations_of_attention_count_on_cpus(dtype: torch.dtype) -> None:
    query, key = torch.randn(2, 3, 48, 16, dtype=dtype), torch.randn(2, 3, 32, 16, dtype=dtype)
    with operation_counter() as counter:
        F.scaled_dot_product_attention(query, key, key)
    # Two products; a multiplication and an addition each.
    assert counter.get_total_flops() == 2 * 3 * 2 * (2 * 48 * 32 * 16)


def test_products_of_matrices_count_once() -> None:
    with operation_counter() as counter:
        torch.randn(8, 4) @ torch.randn(4, 2)
    assert counter.get_total_flops() == 2 * 8 * 4 * 2
