"""Files are written whole or not at all, and never over what somebody else put there."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import EnvironmentProblem

SIGNATURE = "Image to 3D"
_LOOKED_AT = 1024  # bytes at a file's head and end in which the signature stands


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its name if the block ends well.

    If not, it vanishes.

    Raises:
        EnvironmentProblem: if the disk refuses.
    """
    partial: Path | None = None
    try:
        if "\0" in str(path):
            raise OSError("the name holds a NUL character")
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem[:100]}-", suffix=path.suffix
        )
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


def check_writable(folder: Path) -> None:
    """Make a folder if it is not there, and see that files can be written to it.

    Raises:
        EnvironmentProblem: if not.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise EnvironmentProblem(
            f"Nothing can be written to {folder}: {error.strerror}. Choose another folder with -o."
        ) from error


def is_own(path: Path) -> bool:
    """Whether a file bears this library's signature.

    Materials have it in their first line, PNG files as Software, WebP files likewise in their EXIF.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_LOOKED_AT)
            file.seek(-min(_LOOKED_AT, path.stat().st_size), os.SEEK_END)
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
    """The path itself where nothing is there or a file of this library's.

    Else the next free one with a number.
    """
    number, free = 2, path
    while free.exists() and not is_own(free):
        free, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    return free


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**22):
            digest.update(chunk)
    return digest.hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
