"""Write files whole or not at all, never over somebody else's; find inputs and choose names."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import EnvironmentProblem, InvalidInput

log = logging.getLogger(__name__)

SIGNATURE = "Image to 3D"
#: What systems put beside a user's files, in lower case.
_SYSTEM_NAMES = {"__macosx", "@eadir", "thumbs.db", "desktop.ini", "$recycle.bin", "lost+found"}
_MAX_NAME_BYTES = 200  # leaves room for "-preview.png" within the 255 of most disks
_SIGNATURE_BYTES = 1024  # at a file's beginning and end, where the signature is


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and rename it to `path` if the block succeeds.

    If it fails, remove the temporary file.

    Raises:
        EnvironmentProblem: if the disk is full or read-only, or the name is invalid.
    """
    partial: Path | None = None
    try:
        if "\0" in str(path):
            raise OSError("the name contains a NUL character")
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
        os.close(handle)
        partial = Path(name)
        yield partial
        partial.chmod(0o666 & ~_umask())
        partial.replace(path)
    except OSError as error:
        shown = str(path).encode("unicode_escape").decode()
        raise EnvironmentProblem(
            f"{shown} cannot be written: {error.strerror or error}."
        ) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def check_writable(folder: Path, option: str = "-o") -> None:
    """Make a folder if it is missing, and check that files can be written to it.

    Args:
        folder: absolute or relative.
        option: the command line's option for another folder, for the message.

    Raises:
        EnvironmentProblem: if not.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise EnvironmentProblem(
            f"Nothing can be written to {folder}: {error.strerror}. Choose another folder with"
            f" {option}."
        ) from error


def is_own(path: Path) -> bool:
    """Return whether this library wrote a file, by its signature.

    Materials have it in their first line, PNG files as Software, WebP files in their EXIF.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_SIGNATURE_BYTES)
            file.seek(-min(_SIGNATURE_BYTES, path.stat().st_size), os.SEEK_END)
            end = file.read()
    except OSError:
        return False
    signature = SIGNATURE.encode()
    return (
        head.startswith(b"# " + signature)
        or b"Software\0" + signature in head
        or (head[:4] == b"RIFF" and signature in end)
    )


def free_or_own(path: Path) -> Path:
    """Return the path, with a number if somebody else's file has that name."""
    number, free = 2, path
    while free.exists() and not is_own(free):
        free, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    return free


def is_hidden(path: Path) -> bool:
    """Return whether a part of a path starts with a dot, or is put there by a system."""
    return any(
        (part.startswith(".") and part not in (".", "..")) or part.lower() in _SYSTEM_NAMES
        for part in path.parts
    )


def files_in(folder: Path) -> list[Path]:
    """Return the files in a folder and its subfolders that are not hidden, sorted.

    Each folder is read once: a link to one that is within reach anyway, or to a parent, is
    skipped. So is a folder that cannot be read, with a warning.
    """
    found: list[Path] = []
    visited: set[tuple[int, int]] = set()
    folders, links = [folder], list[Path]()
    while folders or links:
        place = folders.pop() if folders else links.pop(0)
        try:
            status = place.stat()
            identity = (status.st_dev, status.st_ino)
            inside = [] if identity in visited else sorted(place.iterdir())
        except OSError as error:
            log.warning("skipped the folder %s: %s", place, error.strerror)
            continue
        visited.add(identity)
        for path in inside:
            if is_hidden(Path(path.name)):
                continue
            if path.is_dir():
                (links if path.is_symlink() else folders).append(path)
            elif path.is_file():
                found.append(path)
    return sorted(found)


def expand_home(path: Path) -> Path:
    """Replace a leading ~ by the home directory.

    Raises:
        InvalidInput: if there is none.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise InvalidInput(
            f"could not find the home directory for {path}: give the whole path"
        ) from error


def name_key(name: str) -> str:
    """Return a key that two names share if some disk takes them for the same file."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def unique_names(
    names: Iterable[str], is_taken: Callable[[str], bool] = lambda name: False
) -> list[str]:
    """Return the names, shortened to what a disk can hold; where two would be one, with numbers.

    Args:
        names: without folders and suffixes.
        is_taken: whether a name must not be used, whatever the other names are.
    """
    unique: list[str] = []
    keys: set[str] = set()
    for name in names:
        short = _cut(name)
        chosen, number = short, 2
        while name_key(chosen) in keys or is_taken(chosen):
            chosen, number = f"{short}-{number}", number + 1
        unique.append(chosen)
        keys.add(name_key(chosen))
    return unique


def _cut(name: str) -> str:
    """Return as much of a name as fits into `_MAX_NAME_BYTES`."""
    while len(name.encode("utf-8", "surrogatepass")) > _MAX_NAME_BYTES:
        name = name[:-1]
    return name


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**22):
            digest.update(chunk)
    return digest.hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
