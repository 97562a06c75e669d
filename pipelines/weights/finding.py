"""Find files of weights on this machine, or download them.

The caller's folders are searched first, then the Hugging Face cache, then the hub (`HF_ENDPOINT`
sets a mirror, `HF_HUB_OFFLINE=1` forbids the network). Downloads use one fixed revision and are
checked against the SHA-256 that the hub lists for it.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..errors import CheckpointError, EnvironmentProblem
from ..files import atomic_path, sha256
from ..progress import Progress, silent
from ..reachability import is_reachable

_SHA256_DIGITS = 64
_RECORD = "image-to-3d-commit.txt"


@dataclass(frozen=True)
class WeightsFile:
    """A file of a repository on the hub.

    Attributes:
        repository: "owner/name" on the hub.
        names: the file's path in the repository, or several alternatives; the first that exists
            is used.
        revision: the commit to download or find in the Hugging Face cache; if None, that of
            `pinned_revision`.
        digest: expected SHA-256 of a download; if None, the one that the hub lists.
    """

    repository: str
    names: tuple[str, ...]
    revision: str | None = None
    digest: str | None = None

    def here(self, models_dirs: Sequence[Path] = ()) -> Path | None:
        """Return the file's path on this machine, or None if it is missing."""
        from huggingface_hub import try_to_load_from_cache

        for folder in models_dirs:
            for name in self.names:
                if (found := _in_folder(folder, self.repository, name)) is not None:
                    return found
        commit = self.revision or recorded_revision(self.repository, models_dirs)
        for name in self.names:
            cached = try_to_load_from_cache(self.repository, name, revision=commit)
            if isinstance(cached, str):
                return Path(cached)
        return None

    def address(self, models_dirs: Sequence[Path] = ()) -> str:
        """Return a sentence with the file's URL and the path on this machine where to put it."""
        from huggingface_hub import hf_hub_url

        folder = models_dirs[0] if models_dirs else "<folder of --models-dir>"
        url = hf_hub_url(self.repository, self.names[0], revision=self.revision)
        return f"{url} : put it at {folder}/{self.repository.split('/')[1]}/{self.names[0]}."


def find_file(
    file: WeightsFile, models_dirs: Sequence[Path] = (), progress: Progress = silent
) -> Path:
    """Find a repository's file on this machine, or download it.

    Args:
        file: the file.
        models_dirs: folders to search first, for `<repository name>/<file>` and then for the bare
            file name. Downloads go into the first folder, or into the Hugging Face cache if there
            are no folders.
        progress: called with the number of bytes received, if the installed huggingface_hub
            reports it. If it raises, the download stops and resumes from there next time.

    Raises:
        EnvironmentProblem: if the file is missing and cannot be downloaded; the message contains
            its URL and where to put it.
        CheckpointError: if the SHA-256 of a download is wrong; the file is deleted.
    """
    from huggingface_hub.errors import EntryNotFoundError  # takes 0.3 s to import

    if (found := file.here(models_dirs)) is not None:
        return found
    reason: Exception | None = None
    for name in file.names:
        try:
            return _download(file, name, models_dirs, progress)
        except _Stopped as stopped:
            raise stopped.reason from None
        except CheckpointError:
            raise
        except Exception as error:  # hub, HTTP and file errors share no type
            reason = error
            if not isinstance(error, EntryNotFoundError):
                break
    raise not_downloaded(file, models_dirs, type(reason).__name__) from reason


def not_downloaded(file: WeightsFile, models_dirs: Sequence[Path], why: str) -> EnvironmentProblem:
    """Return the error for a file that is missing and could not be downloaded."""
    return EnvironmentProblem(
        f"{file.names[0]} is missing and could not be downloaded ({why}) from"
        f" {file.address(models_dirs)} The model photo needs no download."
    )


def hub_is_reachable() -> bool:
    """Return whether the hub, or its mirror, is reachable and HF_HUB_OFFLINE is not set.

    Takes at most a few seconds.
    """
    from huggingface_hub import constants

    return not constants.HF_HUB_OFFLINE and is_reachable(constants.ENDPOINT)


def pinned_revision(repository: str, name: str, models_dirs: Sequence[Path] = ()) -> str:
    """Return the commit to use for a repository whose preset sets no revision.

    The first download records the commit of `main` next to the files, so that later downloads use
    the same commit.

    Args:
        repository: "owner/name" on the hub.
        name: any file in the repository.
        models_dirs: see `find_file`.

    Raises:
        Exception: whatever huggingface_hub raises if the hub cannot be reached.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    if (recorded := recorded_revision(repository, models_dirs)) is not None:
        return recorded
    commit = get_hf_file_metadata(hf_hub_url(repository, name, revision="main")).commit_hash
    if commit is None:
        raise CheckpointError(f"The hub returned no commit for {repository}: try again.")
    with atomic_path(_record_of(repository, models_dirs)) as path:
        path.write_text(commit, encoding="ascii")
    return commit


def _record_of(repository: str, models_dirs: Sequence[Path]) -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    if models_dirs:
        folder = models_dirs[0] / repository.split("/")[1]
    else:
        folder = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")
    return folder / _RECORD


def recorded_revision(repository: str, models_dirs: Sequence[Path] = ()) -> str | None:
    """Return the commit that the first download of a repository recorded, or None."""
    try:
        commit = _record_of(repository, models_dirs).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return commit if re.fullmatch("[0-9a-f]{40}", commit) else None


def _in_folder(folder: Path, repository: str, name: str) -> Path | None:
    # A bare file name is unambiguous only if the file is at the repository's top level.
    places = [folder / repository.split("/")[1] / name, *([folder / name] * ("/" not in name))]
    for place in places:
        # Version 0.2.0 saved half-precision copies, which may have replaced the originals.
        for file in (place, place.with_name(f"{place.stem}.fp16.safetensors")):
            if file.is_file():
                return file
    return None


class _Stopped(BaseException):
    """Wrapper that carries an exception of `progress` through huggingface_hub.

    huggingface_hub would treat a plain Exception as a failed connection.
    """

    def __init__(self, reason: BaseException) -> None:
        self.reason = reason


def _download(
    file: WeightsFile, name: str, models_dirs: Sequence[Path], progress: Progress
) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.arrived = float(self.n)  # tqdm does not count if the bar is hidden

        def update(self, n: float | None = 1) -> bool | None:
            self.arrived += n or 0
            try:
                progress(int(self.arrived), int(self.total or 0))
            except BaseException as error:
                raise _Stopped(error) from error
            return super().update(n)

    revision = file.revision or pinned_revision(file.repository, name, models_dirs)
    options: dict[str, Any] = {"revision": revision}
    if models_dirs:
        options["local_dir"] = models_dirs[0] / file.repository.split("/")[1]
    if "tqdm_class" in inspect.signature(hf_hub_download).parameters:
        options["tqdm_class"] = Bar
    path = Path(hf_hub_download(file.repository, name, **options))
    wanted = file.digest
    if wanted is None:
        # The ETag of a large file on the hub is its SHA-256, and is fixed for a revision.
        url = hf_hub_url(file.repository, name, revision=revision)
        wanted = get_hf_file_metadata(url).etag or ""
    if len(wanted) == _SHA256_DIGITS and sha256(path) != wanted:
        path.unlink()
        raise CheckpointError(
            f"The download of {name} from {file.repository} does not match SHA-256 {wanted}: try"
            " again."
        )
    return path


@dataclass(frozen=True)
class Repository:
    """The files of one repository on the hub, which may be in different local folders."""

    repository: str
    revision: str | None
    folders: Sequence[Path]
    progress: Progress = silent

    def file(self, *names: str) -> Path:
        """Find or download the first of these files that exists."""
        file = WeightsFile(self.repository, names, self.revision)
        return find_file(file, self.folders, self.progress)

    def json(self, name: str) -> dict[str, Any]:
        path = self.file(name)
        with self.understood(name):
            content = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise TypeError(f"expected an object, got a {type(content).__name__}")
        return content

    @contextmanager
    def understood(self, *names: str) -> Iterator[None]:
        """Convert any error while reading these text files to a `CheckpointError` that names them.

        Raises:
            CheckpointError: in place of the errors of the libraries that read the files.
        """
        try:
            yield
        except (CheckpointError, EnvironmentProblem, MemoryError):
            raise
        except Exception as error:  # json, diffusers and transformers raise different types
            places = " or ".join(str(self.file(name)) for name in names)
            raise CheckpointError(
                f"{places} is damaged or belongs to another model: delete it to download it again."
            ) from error


def weights_names(part: str) -> tuple[str, str]:
    """Return the possible file names of a part's weights in diffusers layout, safetensors first."""
    diffusion = part in ("unet", "vae")
    stem, pickled = ("diffusion_pytorch_model",) * 2 if diffusion else ("model", "pytorch_model")
    return f"{part}/{stem}.safetensors", f"{part}/{pickled}.bin"
