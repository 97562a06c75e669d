"""Write files atomically without replacing other programs' files; find inputs; choose names."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import secrets
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import EnvironmentProblem, InvalidInput

log = logging.getLogger(__name__)

SIGNATURE = "Image to 3D"
#: Names of files and folders that operating systems create, in lower case.
_SYSTEM_NAMES = {"__macosx", "@eadir", "thumbs.db", "desktop.ini", "$recycle.bin", "lost+found"}
_MAX_NAME_BYTES = 200  # most disks allow 255; leaves room for suffixes such as "-preview.png"
_SIGNATURE_BYTES = 1024  # read from a file's start and end to find the signature


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and rename it to `path` if the block succeeds.

    If it fails, remove the temporary file.

    Raises:
        EnvironmentProblem: if the disk is full or read-only, or the name is invalid.
    """
    shown = str(path).encode("unicode_escape").decode()
    if "\0" in str(path):
        raise EnvironmentProblem(f"{shown} cannot be written: the name contains a NUL character.")
    # Not from `tempfile`, whose files only their owner can read.
    partial = path.with_name(f".{secrets.token_hex(8)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        if not partial.exists():
            raise FileNotFoundError("nothing was written")
        partial.replace(path)
    except OSError as error:
        raise EnvironmentProblem(
            f"{shown} cannot be written: {error.strerror or error}."
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def check_writable(folder: Path, option: str = "-o") -> None:
    """Create a folder if it is missing, and check that it is writable.

    Args:
        folder: absolute or relative path.
        option: command-line option for another folder, which the error message mentions.

    Raises:
        EnvironmentProblem: if the folder cannot be created or is not writable.
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
    """Return whether a file has the signature of this library.

    The signature is in the first line of materials, in the Software field of PNG files, and in the
    EXIF data of WebP files.
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
    """Return a path; append a number to its name if another program's file is there."""
    number, free = 2, path
    while free.exists() and not is_own(free):
        free, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    return free


def is_hidden(path: Path) -> bool:
    """Return whether a part of a path starts with a dot, or is a name from `_SYSTEM_NAMES`."""
    return any(
        (part.startswith(".") and part not in (".", "..")) or part.lower() in _SYSTEM_NAMES
        for part in path.parts
    )


def files_in(folder: Path) -> list[Path]:
    """Return the visible files in a folder and its subfolders, sorted.

    Each folder is read only once, even if several links point to it. Unreadable folders are skipped
    with a warning.
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


def matching(pattern: Path) -> list[Path]:
    """Return the paths that match a pattern; skip hidden ones that the pattern does not name."""
    # Path.glob does not accept absolute patterns.
    found = [Path(p) for p in sorted(glob.glob(str(pattern), recursive=True))]  # noqa: PTH207
    hidden = {part for path in found for part in path.parts if is_hidden(Path(part))}
    return [path for path in found if not hidden.intersection(path.parts).difference(pattern.parts)]


def expand_home(path: Path) -> Path:
    """Replace a leading ~ by the home directory.

    Raises:
        InvalidInput: if the home directory is unknown.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise InvalidInput(
            f"could not find the home directory for {path}: give the whole path"
        ) from error


def name_key(name: str) -> str:
    """Return a key that is equal for names that some file system treats as the same file."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def unique_names(
    names: Iterable[str], is_taken: Callable[[str], bool] = lambda name: False
) -> list[str]:
    """Shorten names to a valid length, and append numbers to names that would collide.

    Args:
        names: names without folders and suffixes.
        is_taken: returns True for names that must not be used.
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
    """Truncate a name to `_MAX_NAME_BYTES`."""
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
