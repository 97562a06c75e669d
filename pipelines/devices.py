"""Choose devices and precisions, move modules between devices, and measure memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import nn

from .errors import EnvironmentProblem, InvalidInput

CPU = torch.device("cpu")
DEVICES = ("auto", "cuda", "mps", "cpu")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def choose_device(name: str = "auto") -> torch.device:
    """Return the device for a name: one of `DEVICES`, or "cuda:1" for the second GPU.

    "auto" chooses CUDA if available (ROCm is also named "cuda"), then MPS, then the CPU.

    Raises:
        InvalidInput: if the name is unknown.
        EnvironmentProblem: if this machine has no such device.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(device for device, there in available.items() if there))
    kind, colon, number = name.partition(":")
    if kind not in available or (colon and not (kind == "cuda" and number.isdecimal())):
        raise InvalidInput(
            f"The device must be one of {', '.join(DEVICES)}, or cuda:1 and so on, got '{name}'."
        )
    if not available[kind] or (colon and int(number) >= torch.cuda.device_count()):
        raise EnvironmentProblem(
            f"This machine, or its build of PyTorch, has no {name} device: use --device auto."
        )
    return torch.device(name)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the precision for a name: "auto" or one of `DTYPES`.

    "auto" is float16 on CUDA, bfloat16 on CPUs with native support, else float32.

    Raises:
        InvalidInput: if the name is unknown.
    """
    if name == "auto":
        if device.type == "cuda":
            return torch.float16
        return (
            torch.bfloat16 if device.type == "cpu" and _cpu_computes_bfloat16() else torch.float32
        )
    if name not in DTYPES:
        raise InvalidInput(
            f"The precision must be auto or one of {', '.join(DTYPES)}, got '{name}'."
        )
    return DTYPES[name]


def wait_for(device: torch.device) -> None:
    """Wait until a device has finished all its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextmanager
def at_work(module: nn.Module, device: torch.device, offload: bool) -> Iterator[None]:
    """Keep an offloaded module on a device during the block.

    With `offload`, the module is moved to the device, and back to host memory at the end. Without
    it, the module is already on the device.
    """
    if not offload:
        yield
        return
    module.to(device)
    try:
        yield
    finally:
        module.to("cpu")
        if device.type == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def memory_explained(advice: str) -> Iterator[None]:
    """Convert out-of-memory errors of any device to one readable sentence.

    Args:
        advice: end of the sentence "There was not enough memory: ...".

    Raises:
        EnvironmentProblem: instead of an out-of-memory error of PyTorch, NumPy or Python. Other
            errors are not changed.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # The first message is from CUDA and MPS, the second from PyTorch's CPU allocator. The
        # class of CUDA's error exists only since PyTorch 2.5.
        if not isinstance(error, MemoryError) and not any(
            words in str(error) for words in ("out of memory", "can't allocate memory")
        ):
            raise
        raise EnvironmentProblem(f"There was not enough memory: {advice}") from error


def peak_memory() -> int:
    """Return this process's peak memory in bytes; 0 if the system does not provide it."""
    try:
        status = Path("/proc/self/status").read_text()  # Linux: peak since `reset_peak_memory`
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def reset_peak_memory() -> None:
    """Reset this process's peak memory, if the system supports it (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _cpu_computes_bfloat16() -> bool:
    report = getattr(torch.cpu, "get_capabilities", None)  # PyTorch 2.8 and newer
    capabilities: dict[str, bool] = report() if report else {}
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


@contextmanager
def timed(
    stage: str, seconds: dict[str, float], device: torch.device | None = None
) -> Iterator[None]:
    """Record the duration of a stage, including its asynchronous work on a device."""
    began = time.perf_counter()
    yield
    if device is not None:
        wait_for(device)
    seconds[stage] = time.perf_counter() - began
