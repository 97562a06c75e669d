"""Download images and lists from addresses."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from ..errors import UnreadableImage

_ATTEMPTS, _PAUSE_S = 3, 1.0
_READ_TIMEOUT_S = 20.0
_TIMEOUT = httpx.Timeout(_READ_TIMEOUT_S, connect=15.0)
_MAX_BYTES = 2**30
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


@contextmanager
def downloaded(address: str) -> Iterator[Path]:
    """Download a file for the length of the block.

    Args:
        address: http(s), sent as it is written, or another kind that fsspec reads.

    Raises:
        UnreadableImage: if it could not be downloaded, with the status or the reason.
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
    """A reason, as the end of a sentence."""


def _fetch(address: str, path: Path) -> None:
    """Download over HTTP, and retry transient errors."""
    for attempt in range(1, _ATTEMPTS + 1):
        last = attempt == _ATTEMPTS
        try:
            with httpx.stream(
                "GET",
                address,
                headers={"Accept-Encoding": "identity"},
                follow_redirects=True,
                timeout=_TIMEOUT,
            ) as response:
                if not (response.status_code in _TRANSIENT and not last):
                    _save(response, path)
                    return
        except httpx.TimeoutException as error:
            if last:
                reason = f"the server did not answer for {_READ_TIMEOUT_S:.0f} seconds"
                raise _Failed(reason) from error
        except httpx.TransportError as error:
            if last:
                raise _Failed(f"the connection failed ({first_line(error)})") from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise _Failed(first_line(error)) from error
        time.sleep(attempt * _PAUSE_S)


def _save(response: httpx.Response, path: Path) -> None:
    if not response.is_success:
        raise _Failed(f"the server answered {response.status_code} {response.reason_phrase}")
    # Not decoded: a few kilobytes can decode to gigabytes.
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise _Failed("the server compresses the file, although it was asked not to")
    size = 0
    with path.open("wb") as file:
        for part in response.iter_raw():
            size += len(part)
            if size > _MAX_BYTES:
                raise _Failed(f"it is larger than {_MAX_BYTES // 2**20} MiB")
            file.write(part)


def _copy(address: str, path: Path) -> None:
    """Copy from a store that fsspec knows."""
    import fsspec

    try:
        with fsspec.open(address, "rb") as source, path.open("wb") as file:
            shutil.copyfileobj(source, file)
    except Exception as error:  # each kind of store has its own
        raise _Failed(f"{type(error).__name__}: {first_line(error)}") from error


def _file_name(address: str) -> str:
    """Return the end of an address as a file name."""
    end = address.partition("?")[0].rstrip("/").rpartition("/")[2]
    return re.sub(r"[^\w.-]+", "-", end)[-80:] or "image"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its class, without a full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
