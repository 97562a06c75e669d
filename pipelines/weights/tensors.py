"""Read files of weights safely, and load them into models.

Pickles are read with `weights_only=True`, which runs no code from the file.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import CheckpointError


def read_tensors(path: Path, *, prefix: str = "") -> dict[str, Tensor]:
    """Read the named tensors of a .safetensors file or of a pickle (.ckpt, .bin, .pt).

    The tensors are memory-mapped if the format allows it. Then only tensors that the caller
    converts occupy memory that the system cannot reclaim.

    Args:
        path: file of the weights.
        prefix: prefix to remove from the names. If any name has it, tensors without it are skipped.

    Raises:
        CheckpointError: if the file is damaged, or is a pickle that would run code.
    """
    _check_file_kind(path)
    if path.suffix != ".safetensors":
        return _without_prefix(_read_pickle(path), prefix)
    try:
        return _without_prefix(load_file(path), prefix)
    except (SafetensorError, OSError) as error:
        raise _damaged(path) from error


def _check_file_kind(path: Path) -> None:
    """Detect files that are often saved in place of weights, by their first bytes.

    Raises:
        CheckpointError: if the file is unreadable, a Git LFS pointer or a web page.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512).lstrip().lower()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path} is a Git LFS pointer and not the weights: run 'git lfs pull', or delete it to"
            " download the weights."
        )
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(
            f"{path} is a web page and not the weights: delete it, and download the file itself."
        )


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} is truncated or damaged: delete it to download it again.")


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        mapped = zipfile.is_zipfile(path)  # files of torch before 1.6 cannot be memory-mapped
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error).lower() and "unsupported" not in str(error).lower():
            raise _damaged(path) from error
        raise CheckpointError(
            f"{path} contains objects that could run code, so it is not loaded: download it from"
            " its author's page."
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # torch raises many types for damaged pickles
        raise _damaged(path) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path} contains no named weights: choose another file.")
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def _without_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    if not prefix or not any(name.startswith(prefix) for name in tensors):
        return tensors
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def load_strictly(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load weights into a model and freeze them.

    Raises:
        CheckpointError: if a name is missing or unexpected, or a shape differs.
    """
    wanted = model.state_dict()
    missing, unexpected = wanted.keys() - tensors.keys(), tensors.keys() - wanted.keys()
    misshapen = {n for n in wanted.keys() & tensors.keys() if wanted[n].shape != tensors[n].shape}
    problems = [
        f"{len(names)} {what} ({', '.join(sorted(names)[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", misshapen),
        )
        if names
    ]
    if problems:
        raise CheckpointError(f"{path} holds the weights of another model: {'; '.join(problems)}.")
    model.load_state_dict(tensors, strict=True, assign=True)
    model.eval().requires_grad_(False)
