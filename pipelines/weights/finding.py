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
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..errors import CheckpointError, EnvironmentProblem
from ..files import atomic_path, sha256
from ..progress import Progress, silent
from ..reachability import is_reachable

_SHA256_DIGITS = 64
_RECORD = "image-to-3d-commit.txt"


def find_file(
    repository: str,
    names: str | Sequence[str],
    models_dirs: Sequence[Path] = (),
    progress: Progress = silent,
    *,
    revision: str | None = None,
    digest: str | None = None,
) -> Path:
    """Find a repository's file on this machine, or download it.

    Args:
        repository: "owner/name" on the hub.
        revision: the commit to download or find in the Hugging Face cache; if None, that of
            `pinned_revision`.
        digest: expected SHA-256 of a download; if None, the one that the hub lists.
        names: the file's path in the repository, or several alternatives; the first that exists
            is used.
        models_dirs: folders to search first, for `<repository name>/<file>` and then for the bare
            file name. Downloads go into the first folder, or into the Hugging Face cache if there
            are no folders.
        progress: called with the number of bytes received, if the installed huggingface_hub
            reports it. If it raises, the download stops and resumes from there next time.

    Raises:
        EnvironmentProblem: if the file is missing and cannot be downloaded; the message says where
            to put it.
        CheckpointError: if the SHA-256 of a download is wrong; the file is deleted.
    """
    from huggingface_hub.errors import EntryNotFoundError  # takes 0.3 s to import

    names = (names,) if isinstance(names, str) else names
    if (found := local_file(repository, names, models_dirs, revision=revision)) is not None:
        return found
    home = models_dirs[0] / repository.split("/")[1] if models_dirs else None
    reason: Exception | None = None
    for name in names:
        try:
            commit = revision or pinned_revision(repository, name, models_dirs)
            return _download(repository, name, commit, digest, home, progress)
        except _Stopped as stopped:
            raise stopped.reason from None
        except CheckpointError:
            raise
        except Exception as error:  # hub, HTTP and file errors share no type
            reason = error
            if not isinstance(error, EntryNotFoundError):
                break
    raise EnvironmentProblem(
        f"{names[0]} is missing and could not be downloaded ({type(reason).__name__}) from"
        f" {url_of(repository, names, revision)} : put it at"
        f" {place_of(repository, names, models_dirs)}. The model photo needs no download."
    ) from reason


def place_of(repository: str, names: Sequence[str], models_dirs: Sequence[Path] = ()) -> str:
    """Return the path on this machine where a repository's file should be put."""
    folder = models_dirs[0] if models_dirs else "<folder of --models-dir>"
    return f"{folder}/{repository.split('/')[1]}/{names[0]}"


def url_of(repository: str, names: Sequence[str], revision: str | None = None) -> str:
    """Return the URL of a repository's file on the hub or its mirror."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(repository, names[0], revision=revision)


def hub_is_reachable() -> bool:
    """Check within seconds whether the hub or its mirror is allowed and reachable."""
    from huggingface_hub import constants

    return not constants.HF_HUB_OFFLINE and is_reachable(constants.ENDPOINT)


def local_file(
    repository: str,
    names: Sequence[str],
    models_dirs: Sequence[Path] = (),
    *,
    revision: str | None = None,
) -> Path | None:
    """Find a file as `find_file` does, but without downloading; return None if it is missing."""
    from huggingface_hub import try_to_load_from_cache

    for folder in models_dirs:
        for name in names:
            if (found := _in_folder(folder, repository, name)) is not None:
                return found
    commit = revision or _recorded(_record_of(repository, models_dirs))
    for name in names:
        cached = try_to_load_from_cache(repository, name, revision=commit)
        if isinstance(cached, str):
            return Path(cached)
    return None


def pinned_revision(repository: str, name: str, models_dirs: Sequence[Path] = ()) -> str:
    """Return the commit to use of a repository whose preset sets no revision.

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

    record = _record_of(repository, models_dirs)
    if (recorded := _recorded(record)) is not None:
        return recorded
    commit = get_hf_file_metadata(hf_hub_url(repository, name, revision="main")).commit_hash
    if commit is None:
        raise CheckpointError(f"The hub returned no commit for {repository}: try again.")
    with atomic_path(record) as path:
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


def _recorded(record: Path) -> str | None:
    try:
        commit = record.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return commit if re.fullmatch("[0-9a-f]{40}", commit) else None


def _in_folder(folder: Path, repository: str, name: str) -> Path | None:
    # A bare file name is unambiguous only if the file is at the repository's top level.
    places = [folder / repository.split("/")[1] / name] + (
        [folder / name] if "/" not in name else []
    )
    return next(
        (
            file
            for place in places
            # Version 0.2.0 saved half-precision copies, which may have replaced the originals.
            for file in (place, place.with_name(f"{place.stem}.fp16.safetensors"))
            if file.is_file()
        ),
        None,
    )


class _Stopped(BaseException):
    """Wrapper that carries an exception of `progress` through huggingface_hub.

    huggingface_hub would treat a plain Exception as a failed connection.
    """

    def __init__(self, reason: BaseException) -> None:
        self.reason = reason


def _download(
    repository: str,
    name: str,
    revision: str,
    digest: str | None,
    folder: Path | None,
    progress: Progress,
) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.arrived = float(self.n)  # a hidden bar does not count

        def update(self, n: float | None = 1) -> bool | None:
            self.arrived += n or 0
            try:
                progress(int(self.arrived), int(self.total or 0))
            except BaseException as error:
                raise _Stopped(error) from error
            return super().update(n)

    options: dict[str, Any] = {} if folder is None else {"local_dir": folder}
    options["revision"] = revision
    if "tqdm_class" in inspect.signature(hf_hub_download).parameters:
        options["tqdm_class"] = Bar
    path = Path(hf_hub_download(repository, name, **options))
    wanted = digest or ""
    if digest is None:
        # The ETag of a large file on the hub is its SHA-256, and is fixed for a revision.
        wanted = get_hf_file_metadata(hf_hub_url(repository, name, revision=revision)).etag or ""
    if len(wanted) == _SHA256_DIGITS and sha256(path) != wanted:
        path.unlink()
        raise CheckpointError(
            f"The download of {name} from {repository} does not match SHA-256 {wanted}: try again."
        )
    return path


class Repository:
    """The files of one model repository, which may be in different folders."""

    def __init__(
        self,
        repository: str,
        revision: str | None,
        folders: Sequence[Path],
        progress: Progress = silent,
    ) -> None:
        self.repository = repository
        self.revision = revision
        self.folders = folders
        self.progress = progress

    def file(self, *names: str) -> Path:
        """Find or download the first of these files that exists."""
        return find_file(
            self.repository, names, self.folders, self.progress, revision=self.revision
        )

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
        except (
            Exception
        ) as error:  # json, diffusers, transformers and tokenizers raise different types
            places = " or ".join(str(self.file(name)) for name in names)
            raise CheckpointError(
                f"{places} is damaged or of another model: delete it, and it is downloaded again."
            ) from error

    def weights(self, part: str) -> Path:
        """Find the weights of a part, in any of the formats of diffusers."""
        return self.file(*weights_names(part))


def weights_names(part: str) -> tuple[str, str]:
    """Return the possible file names of a part's weights in diffusers layout, safetensors first."""
    diffusion = part in ("unet", "vae")
    stem, pickled = ("diffusion_pytorch_model",) * 2 if diffusion else ("model", "pytorch_model")
    return f"{part}/{stem}.safetensors", f"{part}/{pickled}.bin"
