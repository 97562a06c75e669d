"""Where the files of weights are on this machine.

A file is looked for in the caller's folders, then in the Hugging Face cache, then on the hub
(`HF_ENDPOINT` names a mirror, `HF_HUB_OFFLINE=1` forbids the network). A download is of one fixed
revision, and its SHA-256 is held against what the hub says of that revision.
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
        repository: on the hub, "owner/name".
        revision: the commit that is downloaded and looked for in the Hugging Face cache; see
            `pinned_revision` if None.
        digest: SHA-256 that a download must have; what the hub says of the commit if None.
        names: the file's path in the repository, or several of which the first that exists is
            taken.
        models_dirs: looked in first: `<name>/<file>` with the repository's name, then the file's
            own name. A download goes into the first, or into the Hugging Face cache if there is
            none.
        progress: called with the bytes that have arrived, where the installed huggingface_hub can
            say; what it raises stops the download, which goes on from there the next time.

    Raises:
        EnvironmentProblem: if the file is nowhere, with the place where it belongs.
        CheckpointError: if what was downloaded is not what the hub said; the file is gone then.
    """
    from huggingface_hub.errors import EntryNotFoundError  # a third of a second to import

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
        except Exception as error:  # hub, HTTP library and file system each have their own
            reason = error
            if not isinstance(error, EntryNotFoundError):
                break
    raise EnvironmentProblem(
        f"{names[0]} is missing and could not be downloaded ({type(reason).__name__}) from"
        f" {url_of(repository, names, revision)} : put it at"
        f" {place_of(repository, names, models_dirs)}. The model photo needs no download."
    ) from reason


def place_of(repository: str, names: Sequence[str], models_dirs: Sequence[Path] = ()) -> str:
    """Return where a file of a repository belongs on this machine."""
    folder = models_dirs[0] if models_dirs else "<folder of --models-dir>"
    return f"{folder}/{repository.split('/')[1]}/{names[0]}"


def url_of(repository: str, names: Sequence[str], revision: str | None = None) -> str:
    """Return the address of a repository's file on the hub or its mirror."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(repository, names[0], revision=revision)


def hub_is_reachable() -> bool:
    """Return within seconds whether the hub, or its mirror, may be asked and takes connections."""
    from huggingface_hub import constants

    return not constants.HF_HUB_OFFLINE and is_reachable(constants.ENDPOINT)


def local_file(
    repository: str,
    names: Sequence[str],
    models_dirs: Sequence[Path] = (),
    *,
    revision: str | None = None,
) -> Path | None:
    """Find a file as `find_file` does, without a download; None if it is missing."""
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
    """Return the commit of a repository whose preset names none.

    The commit of `main` at the first download is recorded beside the files, so that later files
    are of the same commit.

    Args:
        repository: on the hub, "owner/name".
        name: of any file in it.
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
        raise CheckpointError(f"The hub names no commit of {repository}: try again.")
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
    # A bare file name is unambiguous only where the repository keeps the file on its top level.
    places = [folder / repository.split("/")[1] / name] + (
        [folder / name] if "/" not in name else []
    )
    return next(
        (
            file
            for place in places
            # Version 0.2.0 kept half-precision copies, which may have replaced the originals.
            for file in (place, place.with_name(f"{place.stem}.fp16.safetensors"))
            if file.is_file()
        ),
        None,
    )


class _Stopped(BaseException):
    """Carries what `progress` raised through huggingface_hub.

    An Exception would be taken for a failed connection there.
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
            self.arrived = float(self.n)  # a bar that is not shown does not count

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
        # The hub's tag of a large file is its SHA-256, and the revision fixes it.
        wanted = get_hf_file_metadata(hf_hub_url(repository, name, revision=revision)).etag or ""
    if len(wanted) == _SHA256_DIGITS and sha256(path) != wanted:
        path.unlink()
        raise CheckpointError(
            f"{name} of {repository} did not arrive as it should be (SHA-256 {wanted}): try again."
        )
    return path


class Repository:
    """The files of one model repository, wherever each is."""

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
        """Find the first of these files that exists."""
        return find_file(
            self.repository, names, self.folders, self.progress, revision=self.revision
        )

    def json(self, name: str) -> dict[str, Any]:
        path = self.file(name)
        with self.understood(name):
            content = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise TypeError(f"a {type(content).__name__} in place of an object")
        return content

    @contextmanager
    def understood(self, *names: str) -> Iterator[None]:
        """Turn any error in reading these text files into one sentence that names them.

        Raises:
            CheckpointError: in place of whatever the libraries that read them raise.
        """
        try:
            yield
        except (CheckpointError, EnvironmentProblem, MemoryError):
            raise
        except (
            Exception
        ) as error:  # json, diffusers, transformers and tokenizers each have their own
            places = " or ".join(str(self.file(name)) for name in names)
            raise CheckpointError(
                f"{places} is damaged or of another model: delete it, and it is downloaded again."
            ) from error

    def weights(self, part: str) -> Path:
        """Find the weights of a part, in whichever format the repository has them."""
        return self.file(*weights_names(part))


def weights_names(part: str) -> tuple[str, str]:
    """Return the file names of a part's weights in diffusers layout, safetensors first."""
    diffusion = part in ("unet", "vae")
    stem, pickled = ("diffusion_pytorch_model",) * 2 if diffusion else ("model", "pytorch_model")
    return f"{part}/{stem}.safetensors", f"{part}/{pickled}.bin"
