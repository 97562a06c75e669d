"""Files of weights: where each is on this machine, and the tensors in it.

A file is looked for in the caller's folders, then in the Hugging Face cache, then on the hub (`HF_ENDPOINT` names a mirror, `HF_HUB_OFFLINE=1`
forbids the network). Pickles are read with `weights_only=True`, which runs nothing that is in them; after that a half-precision .safetensors
copy is kept beside the file and used instead.
"""

from __future__ import annotations

import inspect
import logging
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from .errors import CheckpointError, EnvironmentProblem
from .files import atomic_path
from .progress import Progress, silent

log = logging.getLogger(__name__)


def find_file(repository: str, names: str | Sequence[str], models_dirs: Sequence[Path] = (), progress: Progress = silent) -> Path:
    """Where a file of a repository is on this machine, after a download if need be.

    Args:
        repository: on the hub, "owner/name".
        names: the file's path in the repository, or several of which the first that exists is taken.
        models_dirs: looked in first: `<name>/<file>` with the repository's name, then the file's own name. A download goes into the first, or
            into the Hugging Face cache if there is none.
        progress: called with the bytes that have arrived, where the installed huggingface_hub can say; what it raises stops the download,
            which goes on from there the next time.

    Raises:
        EnvironmentProblem: if the file is nowhere, with the place where it belongs.
    """
    from huggingface_hub import try_to_load_from_cache  # takes a third of a second to import

    names = (names,) if isinstance(names, str) else names
    for folder in models_dirs:
        for name in names:
            if (found := _in_folder(folder, repository, name)) is not None:
                return found
    for name in names:
        cached = try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached)
    home = models_dirs[0] / repository.split("/")[1] if models_dirs else None
    reason: Exception | None = None
    for name in names:
        try:
            return _download(repository, name, home, progress)
        except _Stopped as stopped:
            raise stopped.reason from None
        except Exception as error:  # hub, HTTP library and file system each have their own
            reason = error
            if type(error).__name__ not in ("EntryNotFoundError", "RemoteEntryNotFoundError", "LocalEntryNotFoundError"):
                break
    place = home or f"<folder of --models-dir>/{repository.split('/')[1]}"
    raise EnvironmentProblem(
        f"{names[0]} of {repository} is not on this machine and could not be downloaded ({type(reason).__name__}): put it at {place}/{names[0]}."
    ) from reason


def _in_folder(folder: Path, repository: str, name: str) -> Path | None:
    # A bare file name is unambiguous only where the repository keeps the file on its top level.
    places = [folder / repository.split("/")[1] / name] + ([folder / name] if "/" not in name else [])
    return next((file for place in places for file in (place, _half_copy_of(place)) if file.is_file()), None)


class _Stopped(BaseException):
    """Carries what `progress` raised through huggingface_hub, which would take an Exception for a failed connection."""

    def __init__(self, reason: BaseException) -> None:
        self.reason = reason


def _download(repository: str, name: str, folder: Path | None, progress: Progress) -> Path:
    from huggingface_hub import hf_hub_download

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.arrived = float(self.n)  # a bar that is not shown does not count

        def update(self, n: float | None = 1) -> bool | None:
            self.arrived += n or 0
            try:
                progress(int(self.arrived), int(self.total or 0))
            except BaseException as error:
                raise _Stopped(error) from error
            return super().update(n)

    options: dict[str, Any] = {} if folder is None else {"local_dir": folder}
    if "tqdm_class" in inspect.signature(hf_hub_download).parameters:
        options["tqdm_class"] = Bar
    return Path(hf_hub_download(repository, name, **options))


def read_tensors(path: Path, *, keep_half_copy: bool = True, prefix: str = "") -> dict[str, Tensor]:
    """Names and tensors of a .safetensors, or of a pickle (.ckpt, .bin, .pt), without running anything that is in it.

    Args:
        path: the file.
        keep_half_copy: write a half-precision .safetensors beside a pickle, and read that if it is there and newer.
        prefix: is taken off the names; where some have it, those that have not are left out.

    Raises:
        CheckpointError: if the file is damaged, or a pickle that wants to run code.
    """
    copy = _half_copy_of(path)
    if keep_half_copy and path.suffix != ".safetensors" and copy.exists() and copy.stat().st_mtime >= path.stat().st_mtime:
        path = copy
    if path.suffix == ".safetensors":
        try:
            return _without_prefix(load_file(path), prefix)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is truncated or damaged: delete it, and it is downloaded again.") from error
    tensors = _without_prefix(_read_pickle(path), prefix)
    if not keep_half_copy:
        return tensors
    halved = {name: _halved(value) for name, value in tensors.items()}
    try:
        with atomic_path(copy) as partial:
            save_file(halved, partial)
        log.info("kept a half-precision copy, which is used from now on: %s", copy)
    except EnvironmentProblem as error:
        log.warning("no half-precision copy could be kept: %s", error)
    return halved


def _half_copy_of(path: Path) -> Path:
    return path.with_name(f"{path.stem}.fp16.safetensors")


def _halved(value: Tensor) -> Tensor:
    half = value.half() if value.is_floating_point() else value
    return (half if bool(torch.isfinite(half).all()) else value).contiguous().clone()


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error).lower() and "unsupported" not in str(error).lower():
            raise CheckpointError(f"{path} is truncated or damaged: delete it, and it is downloaded again.") from error
        raise CheckpointError(f"{path} holds more than weights, which could run code: it is not loaded. Get it from its author's page.") from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is truncated or damaged: delete it, and it is downloaded again.") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path} holds no named weights: it is another kind of file.")
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def _without_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    if not prefix or not any(name.startswith(prefix) for name in tensors):
        return tensors
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
