"""Files of weights: where each is on this machine, and the tensors in it.

A file is looked for in the caller's folders, then in the Hugging Face cache, then on the hub (`HF_ENDPOINT` names a mirror, `HF_HUB_OFFLINE=1`
forbids the network). A download is of one fixed revision, and its SHA-256 is held against what the hub says of that revision. Pickles are
read with `weights_only=True`, which runs nothing that is in them; where half precision is wanted, a half-precision .safetensors copy is kept
beside the file, bound to its size and SHA-256, and used instead.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from .errors import CheckpointError, EnvironmentProblem
from .files import atomic_path
from .progress import Progress, silent

log = logging.getLogger(__name__)

_SHA256_DIGITS = 64


def find_file(
    repository: str,
    names: str | Sequence[str],
    models_dirs: Sequence[Path] = (),
    progress: Progress = silent,
    *,
    revision: str | None = None,
) -> Path:
    """Where a file of a repository is on this machine, after a download if need be.

    Args:
        repository: on the hub, "owner/name".
        revision: the commit that is downloaded and looked for in the Hugging Face cache; the newest if None.
        names: the file's path in the repository, or several of which the first that exists is taken.
        models_dirs: looked in first: `<name>/<file>` with the repository's name, then the file's own name. A download goes into the first, or
            into the Hugging Face cache if there is none.
        progress: called with the bytes that have arrived, where the installed huggingface_hub can say; what it raises stops the download,
            which goes on from there the next time.

    Raises:
        EnvironmentProblem: if the file is nowhere, with the place where it belongs.
        CheckpointError: if what was downloaded is not what the hub said; the file is gone then.
    """
    from huggingface_hub import try_to_load_from_cache  # takes a third of a second to import

    names = (names,) if isinstance(names, str) else names
    pin = {} if revision is None else {"revision": revision}
    for folder in models_dirs:
        for name in names:
            if (found := _in_folder(folder, repository, name)) is not None:
                return found
    for name in names:
        cached = try_to_load_from_cache(repository, name, **pin)
        if isinstance(cached, str):
            return Path(cached)
    home = models_dirs[0] / repository.split("/")[1] if models_dirs else None
    reason: Exception | None = None
    for name in names:
        try:
            return _download(repository, name, revision, home, progress)
        except _Stopped as stopped:
            raise stopped.reason from None
        except CheckpointError:
            raise
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


def _download(repository: str, name: str, revision: str | None, folder: Path | None, progress: Progress) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

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
    options |= {} if revision is None else {"revision": revision}
    if "tqdm_class" in inspect.signature(hf_hub_download).parameters:
        options["tqdm_class"] = Bar
    path = Path(hf_hub_download(repository, name, **options))
    if revision is not None:
        announced = get_hf_file_metadata(hf_hub_url(repository, name, revision=revision)).etag or ""
        # The hub's tag of a large file is its SHA-256, and the revision fixes it.
        if len(announced) == _SHA256_DIGITS and _sha256(path) != announced:
            path.unlink()
            raise CheckpointError(f"{name} of {repository} did not arrive as the hub has it (SHA-256 {announced}): try again.")
    return path


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**22):
            digest.update(chunk)
    return digest.hexdigest()


def read_tensors(
    path: Path, *, dtype: torch.dtype = torch.float16, keep_half_copy: bool = True, prefix: str = "", precise: str = ""
) -> dict[str, Tensor]:
    """Names and tensors of a .safetensors, or of a pickle (.ckpt, .bin, .pt), without running anything that is in it.

    Args:
        path: the file.
        dtype: precision in which they will be used: in float32, a pickle itself is read, and no copy is made.
        keep_half_copy: write a half-precision .safetensors beside a pickle, and read that as long as it is that pickle's.
        prefix: is taken off the names; where some have it, those that have not are left out.
        precise: beginning of the names, after the prefix, of tensors that stay in the copy as they are; none if empty.

    Raises:
        CheckpointError: if the file is damaged, or a pickle that wants to run code.
    """
    _refuse_strangers(path)
    halves = keep_half_copy and dtype != torch.float32
    copy = _half_copy_of(path)
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
    halved = {name: value.contiguous().clone() if precise and name.startswith(precise) else _halved(value) for name, value in tensors.items()}
    try:
        with atomic_path(copy) as partial:
            save_file(halved, partial, {"source": json.dumps(_identity(path) | {"sha256": _sha256(path)})})
        log.info("kept a half-precision copy, which is used from now on: %s", copy)
    except EnvironmentProblem as error:
        log.warning("no half-precision copy could be kept: %s", error)
    return halved


def _identity(path: Path) -> dict[str, int]:
    """What changes when a file is replaced, whatever date the new one bears."""
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "ctime_ns": status.st_ctime_ns}


def _is_copy_of(copy: Path, source: Path) -> bool:
    """Whether a half-precision copy was made from this very file; where a date has changed, its SHA-256 tells."""
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
    return identity.items() <= noted.items() or _sha256(source) == noted.get("sha256")


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
        raise CheckpointError(f"{path} is a Git LFS pointer and not the weights: delete it and run 'git lfs pull', or have it downloaded.")
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(f"{path} is a web page and not the weights: delete it, and download the file itself.")


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} is truncated or damaged: delete it, and it is downloaded again.")


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
            raise _damaged(path) from error
        raise CheckpointError(f"{path} holds more than weights, which could run code: it is not loaded. Get it from its author's page.") from error
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
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
