"""Measure one stage in this process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from .limits import operation_counter, operations_per_second
from .stages import Stage, importing

_LONG_S = 30.0  # stages that take longer are measured once


def measure(
    stage: Stage, device: torch.device, repeat: int, dtype: torch.dtype
) -> dict[str, float]:
    """Measure a stage, after one warm-up run, which counting slows down.

    Args:
        stage: prepares its inputs and returns the function to measure.
        device: the device of the stage.
        repeat: number of measured runs, at most one of a long stage; 0 measures only the time and
            memory of the first run.
        dtype: precision of the matrix products that give the limit.

    Returns:
        seconds: median wall time.
        host GiB, process GiB, device GiB: see `memory`.
        GFLOP, points: operations and evaluated points of the first run.
        processor s: on a CPU, the least processor time of all threads. Other processes affect it
            less than the wall time.
        of limit: on a CPU, operations per processor second, as a share of those of matrix products
            measured in this process before and after.
    """
    run = stage(device)
    before = resident()
    if stage is importing:
        return {"seconds": statistics.median(float(run()) for _ in range(repeat))}  # type: ignore
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()  # exclude the memory used to create the models
    if not repeat:
        return {"seconds": timed(run, device)[0], **memory(before, device)}
    rates = [operations_per_second(device, dtype, time.process_time)]
    with operation_counter() as counter, _counting_points() as points:
        first = timed(run, device)
    times = [timed(run, device) for _ in range(1 if first[0] > _LONG_S else repeat)]
    wall, processor_seconds = zip(*times, strict=True)
    rates.append(operations_per_second(device, dtype, time.process_time))
    figures = {"seconds": statistics.median(wall), **memory(before, device)}
    figures["GFLOP"] = counter.get_total_flops() / 1e9
    figures["points"] = sum(points)
    if device.type == "cpu":
        figures["processor s"] = min(processor_seconds)
        figures["of limit"] = figures["GFLOP"] * 1e9 / max(rates) / figures["processor s"]
    return figures


def memory(before: int, device: torch.device) -> dict[str, float]:
    """Return peaks in GiB: of host memory beyond `before`, of the process, and of the device."""
    figures = {
        "host GiB": max(0.0, _resident_peak() - before) / 2**30,
        "process GiB": _resident_peak() / 2**30,
    }
    if device.type == "cuda":
        figures["device GiB"] = torch.cuda.max_memory_allocated() / 2**30
    return figures


@contextmanager
def _counting_points() -> Iterator[list[int]]:
    """Count the points that the fields' MLPs evaluate.

    An MLP is a sequence of only linear layers and ReLUs.
    """
    counts: list[int] = []

    def count(module: nn.Module, inputs: object, output: Tensor) -> None:
        if isinstance(module, nn.Sequential) and all(
            isinstance(layer, nn.Linear | nn.ReLU) for layer in module
        ):
            counts.append(output[..., 0].numel())

    hook = register_module_forward_hook(count)
    try:
        yield counts
    finally:
        hook.remove()


def timed(run: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Run a stage; return its seconds, and the processor seconds of all threads."""
    began, worked = time.perf_counter(), time.process_time()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began, time.process_time() - worked


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def _resident_peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
