"""Files of weights to tensors, and tensors to models, safely.

Pickles are read with `weights_only=True`, which runs nothing that is in them. Where half precision
is wanted, a half-precision .safetensors copy is kept beside the file, bound to its size and
SHA-256, and used instead.
"""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import CheckpointError, EnvironmentProblem
from ..files import atomic_path, sha256
from .finding import half_copy_of

log = logging.getLogger(__name__)


def read_tensors(
    path: Path,
    *,
    dtype: torch.dtype = torch.float16,
    keep_half_copy: bool = True,
    prefix: str = "",
    precise: tuple[str, ...] = (),
) -> dict[str, Tensor]:
    """Names and tensors of a .safetensors or of a pickle (.ckpt, .bin, .pt).

    Nothing that is in the file is run.

    Args:
        path: the file.
        dtype: precision in which they will be used: in float32, a pickle itself is read, and no
            copy is made.
        keep_half_copy: write a half-precision .safetensors beside a pickle, and read that as long
            as it is that pickle's.
        prefix: is taken off the names. Where some names have it, the others are left out.
        precise: beginnings of the names, after the prefix, of tensors that stay in the copy as they
            are.

    Raises:
        CheckpointError: if the file is damaged, or a pickle that wants to run code.
    """
    _refuse_strangers(path)
    halves = keep_half_copy and dtype != torch.float32
    copy = half_copy_of(path)
    if halves and path.suffix != ".safetensors" and _is_copy_of(copy, path):
        path = copy
    if path.suffix == ".safetensors":
        try:
            return _without_prefix(load_file(path), prefix)
        except (SafetensorError, OSError) as error:
            raise _damaged(path) from error
    tensors = _without_prefix(_read_pickle(path), prefix)
    if not halves:
        return tensors
    halved = {
        name: value.contiguous().clone() if name.startswith(precise) else _halved(value)
        for name, value in tensors.items()
    }
    try:
        with atomic_path(copy) as partial:
            save_file(
                halved, partial, {"source": json.dumps(_identity(path) | {"sha256": sha256(path)})}
            )
        log.info("kept a half-precision copy, which is used from now on: %s", copy)
    except EnvironmentProblem as error:
        log.warning("no half-precision copy could be kept: %s", error)
    return halved


def _identity(path: Path) -> dict[str, int]:
    """What changes when a file is replaced, whatever date the new one bears."""
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "ctime_ns": status.st_ctime_ns}


def _is_copy_of(copy: Path, source: Path) -> bool:
    """Whether a half-precision copy was made from this very file.

    Where a date has changed, its SHA-256 tells.
    """
    if not copy.exists():
        return False
    try:
        with safe_open(copy, "pt") as opened:
            noted = json.loads((opened.metadata() or {}).get("source", "{}"))
    except (SafetensorError, OSError, ValueError):
        return False
    identity = _identity(source)
    if noted.get("size") != identity["size"]:
        return False
    return identity.items() <= noted.items() or sha256(source) == noted.get("sha256")


def _refuse_strangers(path: Path) -> None:
    """Name what often lies there in place of weights, by its first bytes.

    Raises:
        CheckpointError: if it is a Git LFS pointer or a web page.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512).lstrip().lower()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path} is a Git LFS pointer and not the weights: delete it and run 'git lfs pull', or"
            " have it downloaded."
        )
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(
            f"{path} is a web page and not the weights: delete it, and download the file itself."
        )


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} is truncated or damaged: delete it, and it is downloaded again."
    )


def _halved(value: Tensor) -> Tensor:
    half = value.half() if value.is_floating_point() else value
    return (half if bool(torch.isfinite(half).all()) else value).contiguous().clone()


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error).lower() and "unsupported" not in str(error).lower():
            raise _damaged(path) from error
        raise CheckpointError(
            f"{path} holds more than weights, which could run code: it is not loaded. Get it from"
            " its author's page."
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # torch's reader of damaged pickles raises whatever goes wrong in it
        raise _damaged(path) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path} holds no named weights: it is another kind of file.")
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
    """Give a model its weights, frozen.

    Raises:
        CheckpointError: if a name is missing or left over, or a shape is another.
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
