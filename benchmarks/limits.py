"""Measure the machine's peak performance, and count the operations of a computation."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

_SIDE = 2048  # rows and columns of the matrices that are multiplied


def operations_per_second(
    device: torch.device, dtype: torch.dtype, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Measure operations per second of a product of square matrices: the best of several runs.

    With the clock `time.process_time`, the seconds are those of all threads together.
    """
    if (
        device.type == "cpu"
        and dtype == torch.bfloat16
        and not torch.backends.mkldnn.is_available()
    ):
        return 0.0
    a, b = (torch.randn(_SIDE, _SIDE, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        began = clock()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, clock() - began)
    return 2 * _SIDE**3 / best


def operation_counter() -> FlopCounterMode:
    """Return a context that counts the operations of matrix products and attention.

    Unlike torch's own counter, it includes attention and packed layers on CPUs.
    """

    def attention(
        query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object
    ) -> int:
        return int(sdpa_flop_count(query, key, value))

    def linear(x: torch.Size, weight: torch.Size, *_: object, **__: object) -> int:
        return 2 * x.numel() * weight[0]

    counts = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    if torch.backends.mkldnn.is_available():
        counts[torch.ops.mkldnn._linear_pointwise] = linear
    return FlopCounterMode(display=False, custom_mapping=counts)


def processor() -> str:
    """Return the processor's name, as the system reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
