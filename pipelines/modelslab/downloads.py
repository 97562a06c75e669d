"""Download result files. Each file may have several URLs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import httpx

from ..errors import AddressRefused, InvalidInput
from ..files import atomic_path
from ..net import HTTP_ERRORS, TooLarge, download, parse_url
from .errors import BadAnswer, ConnectionFailed
from .timing import Timing

MAX_FILE_BYTES = 512 * 2**20
# Other files, such as archives, materials and web pages, are not downloaded.
_MESHES, _VIDEOS = (".obj", ".glb", ".stl", ".ply"), (".mp4", ".webm")
_MIN_ATTEMPTS = 4
_MAX_PAUSE_S = 5.0


def suffix_of(urls: Sequence[str]) -> str | None:
    """Return the suffix of the first URL of a mesh or a video, or None."""
    for url in urls:
        try:
            suffix = PurePosixPath(parse_url(url).path).suffix.lower()
        except InvalidInput:
            continue
        if suffix in _MESHES + _VIDEOS:
            return suffix
    return None


def is_video(suffix: str) -> bool:
    """Return whether a suffix belongs to a video; any other suffix belongs to a mesh."""
    return suffix in _VIDEOS


async def download_first(
    http: httpx.AsyncClient, urls: Sequence[str], path: Path, timing: Timing
) -> None:
    """Download a file from the first URL that works. No partial file remains.

    Args:
        http: from `net.make_client`.
        urls: URLs of the same file, in order of preference.
        path: destination. It must not contain text from the server, apart from a checked suffix.
        timing: gives `appearing`, the minimum time to keep trying, and the pauses.

    Raises:
        ConnectionFailed: if no URL works.
        BadAnswer: if no URL is safe to use, or the file is too large.
        EnvironmentProblem: if the file cannot be written.
    """
    began, attempt = time.monotonic(), 0
    while True:
        attempt += 1
        refused: BadAnswer | None = None
        problem = ""
        for url in urls:
            try:
                await _fetch(http, url, path)
                return
            except (AddressRefused, TooLarge, httpx.TooManyRedirects) as error:
                refused = refused or BadAnswer(f"Could not download the result: {error}.")
            except (*HTTP_ERRORS, _NotThere) as error:
                problem = problem or str(error) or type(error).__name__
        if refused and not problem:
            raise refused
        if attempt >= _MIN_ATTEMPTS and time.monotonic() - began > timing.appearing:
            raise refused or ConnectionFailed(
                f"Could not download the result ({problem}): try again later."
            )
        await asyncio.sleep(min(timing.retry_pause(attempt), _MAX_PAUSE_S))


class _NotThere(Exception):
    """A URL did not return the file, but another attempt may succeed."""


async def _fetch(http: httpx.AsyncClient, url: str, path: Path) -> None:
    with atomic_path(path) as partial:
        with partial.open("wb") as file:
            await download(http, url, file.write, MAX_FILE_BYTES)
        with partial.open("rb") as file:
            start = file.read(100).lstrip().lower()
        if not start or start.startswith((b"<!doctype", b"<html")):
            raise _NotThere("a web page" if start else "an empty file")
