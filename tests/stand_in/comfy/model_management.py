"""Devices, and a record of what memory was asked for."""

from __future__ import annotations

from typing import Any

import torch

freed: list[int] = []
loaded: list[Any] = []
interrupted = False


class InterruptProcessingException(Exception):
    pass


def get_torch_device() -> torch.device:
    return torch.device("cpu")


def unet_offload_device() -> torch.device:
    return torch.device("cpu")


def unet_dtype(device: torch.device) -> torch.dtype:
    return torch.float32


def free_memory(memory_required: float, device: torch.device) -> list[Any]:
    freed.append(int(memory_required))
    return []


def load_models_gpu(models: list[Any], memory_required: float = 0) -> None:
    loaded.extend(models)


def throw_exception_if_processing_interrupted() -> None:
    if interrupted:
        raise InterruptProcessingException
