"""Download images and lists from URLs."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from ..errors import ImageTo3DError, UnreadableImage
from ..net import HTTP_ERRORS, Access, download, make_client, parse_url

_ATTEMPTS, _PAUSE_S = 3, 1.0
_READ_TIMEOUT_S = 20.0
_TIMEOUT = httpx.Timeout(_READ_TIMEOUT_S, connect=15.0)
_MAX_BYTES = 2**30
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


@contextmanager
def downloaded(address: str) -> Iterator[Path]:
    """Download a file to a temporary folder, which is deleted after the block.

    Args:
        address: an http(s) URL, which is requested unchanged, or another URL that fsspec reads.

    Raises:
        UnreadableImage: if the download fails; the message contains the status or the reason.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _file_name(address)
        try:
            if address.lower().startswith(("http://", "https://")):
                _fetch(address, path)
            else:
                _copy(address, path)
        except Exception as error:  # every storage system has its own exceptions
            raise UnreadableImage(f"could not download {address}: {_reason(error)}.") from error
        yield path


def _fetch(address: str, path: Path) -> None:
    """Download a file over HTTP, and retry transient errors."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            asyncio.run(_get(address, path))
            return
        except httpx.HTTPError as error:
            if attempt == _ATTEMPTS or not _is_transient(error):
                raise
        time.sleep(attempt * _PAUSE_S)


async def _get(address: str, path: Path) -> None:
    parse_url(address)
    async with make_client(Access(http=True, private=True)) as client:
        with path.open("wb") as file:
            await download(client, address, file.write, _MAX_BYTES, timeout=_TIMEOUT)


def _is_transient(error: httpx.HTTPError) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in _TRANSIENT
    return isinstance(error, httpx.TransportError)


def _reason(error: Exception) -> str:
    """Return why a download failed, as the end of a sentence without a full stop."""
    if isinstance(error, httpx.TimeoutException):
        return f"the server did not answer for {_READ_TIMEOUT_S:.0f} seconds"
    if isinstance(error, httpx.TransportError):
        return f"the connection failed ({first_line(error)})"
    if isinstance(error, (*HTTP_ERRORS, ImageTo3DError)):
        return first_line(error)
    return f"{type(error).__name__}: {first_line(error)}"


def _copy(address: str, path: Path) -> None:
    """Copy a file from a storage system that fsspec supports."""
    import fsspec

    with fsspec.open(address, "rb") as source, path.open("wb") as file:
        shutil.copyfileobj(source, file)


def _file_name(address: str) -> str:
    """Return the last part of a URL's path as a file name."""
    end = address.partition("?")[0].rstrip("/").rpartition("/")[2]
    return re.sub(r"[^\w.-]+", "-", end)[-80:] or "image"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message without a full stop; its class if empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
