"""Which device and which precision, if the caller does not say."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import nn

from .errors import EnvironmentProblem, InvalidInput

DEVICES = ("auto", "cuda", "mps", "cpu")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def choose_device(name: str = "auto") -> torch.device:
    """Choose the device of a name: one of `DEVICES`, or "cuda:1" for the second GPU.

    "auto" is CUDA (or ROCm, which goes by that name), then MPS, then the CPU.

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
    """Choose the precision of a name.

    "auto" is float16 on CUDA, bfloat16 on CPUs that compute in it, else float32.

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
    """Wait until all work that was given to a device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextmanager
def at_work(module: nn.Module, device: torch.device, offload: bool) -> Iterator[None]:
    """Keep a module on a device while it is needed there.

    With `offload`, it comes there from host memory, and goes back in the end.
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
    """Turn any device's out-of-memory error into one sentence.

    Args:
        advice: ends the sentence "There was not enough memory: ...".

    Raises:
        EnvironmentProblem: in place of what PyTorch, NumPy or Python raise then; any other error
            passes.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # CUDA and MPS say the first, PyTorch's own allocator the second; the class that CUDA's
        # error has came with PyTorch 2.5.
        if not isinstance(error, MemoryError) and not any(
            words in str(error) for words in ("out of memory", "can't allocate memory")
        ):
            raise
        raise EnvironmentProblem(f"There was not enough memory: {advice}") from error


def peak_memory() -> int:
    """Return the bytes that this process held at most; 0 where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text()  # Linux, since `reset_peak_memory`
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
    """Make the system count this process's peak anew, where it can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _cpu_computes_bfloat16() -> bool:
    report = getattr(torch.cpu, "get_capabilities", None)  # PyTorch 2.8 and newer
    capabilities: dict[str, bool] = report() if report else {}
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
