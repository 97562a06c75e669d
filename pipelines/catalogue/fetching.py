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
from ..net import Access, TooLarge, make_client, parse_url, read_chunks, stream

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
        except _Failed as error:
            raise UnreadableImage(f"could not download {address}: {error}.") from error
        yield path


class _Failed(Exception):
    """A download failed; the message is the reason, which completes a sentence."""


class _Transient(_Failed):
    """A download failed, but another attempt may succeed."""


def _fetch(address: str, path: Path) -> None:
    """Download a file over HTTP, and retry transient errors."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            asyncio.run(_get(address, path))
            return
        except _Transient:
            if attempt == _ATTEMPTS:
                raise
        time.sleep(attempt * _PAUSE_S)


async def _get(address: str, path: Path) -> None:
    try:
        parse_url(address)
        async with (
            make_client(Access(http=True, private=True)) as client,
            stream(client, "GET", address, redirects=True, timeout=_TIMEOUT) as response,
        ):
            if not response.is_success:
                kind = _Transient if response.status_code in _TRANSIENT else _Failed
                answer = f"{response.status_code} {response.reason_phrase}"
                raise kind(f"the server answered {answer}")
            with path.open("wb") as file:
                async for piece in read_chunks(response, _MAX_BYTES):
                    file.write(piece)
    except httpx.TimeoutException as error:
        raise _Transient(f"the server did not answer for {_READ_TIMEOUT_S:.0f} seconds") from error
    except httpx.TransportError as error:
        raise _Transient(f"the connection failed ({first_line(error)})") from error
    except (httpx.HTTPError, httpx.InvalidURL, ImageTo3DError) as error:
        raise _Failed(first_line(error)) from error
    except TooLarge as error:
        raise _Failed(f"it is larger than {_MAX_BYTES // 2**20} MiB") from error


def _copy(address: str, path: Path) -> None:
    """Copy a file from a storage system that fsspec supports."""
    import fsspec

    try:
        with fsspec.open(address, "rb") as source, path.open("wb") as file:
            shutil.copyfileobj(source, file)
    except Exception as error:  # every storage system has its own exceptions
        raise _Failed(f"{type(error).__name__}: {first_line(error)}") from error


def _file_name(address: str) -> str:
    """Return the last part of a URL's path as a file name."""
    end = address.partition("?")[0].rstrip("/").rpartition("/")[2]
    return re.sub(r"[^\w.-]+", "-", end)[-80:] or "image"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message without a full stop; its class if empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
