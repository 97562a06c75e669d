"""Results to files, from the first address that gives the whole of a file."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import httpx

from ..errors import BadAnswer, ConnectionFailed
from ..files import atomic_path
from .transport import HTTP_ERRORS, Timing

MAX_FILE = 512 * 2**20
# Anything else is left where it is: archives, materials, pages.
_MESHES, _VIDEOS = (".obj", ".glb", ".stl", ".ply"), (".mp4", ".webm")
_ATTEMPTS = 4


def suffix_of(addresses: Sequence[str]) -> str | None:
    """The first ending that is of a mesh or a video, or None."""
    for address in addresses:
        try:
            suffix = PurePosixPath(httpx.URL(address).path).suffix.lower()
        except httpx.InvalidURL:
            continue
        if suffix in _MESHES + _VIDEOS:
            return suffix
    return None


def is_video(suffix: str) -> bool:
    """Whether an ending is of a video, or else of a mesh."""
    return suffix in _VIDEOS


async def download(
    http: httpx.AsyncClient, addresses: Sequence[str], path: Path, timing: Timing
) -> None:
    """Fetch a file, whole or not at all.

    Args:
        http: the client.
        addresses: of the same file, the best first.
        path: where it goes; nothing that the server says becomes part of it.
        timing: `appearing` and the pauses between attempts.

    Raises:
        ConnectionFailed: if no address gives it.
        BadAnswer: if no address is safe to use, or the file is too large.
        EnvironmentProblem: if it cannot be written.
    """
    began, attempt = time.monotonic(), 0
    while True:
        attempt += 1
        refused: BadAnswer | None = None
        problem = ""
        for address in addresses:
            try:
                await _fetch(http, address, path)
                return
            except BadAnswer as error:
                refused = refused or error
            except httpx.TooManyRedirects:
                refused = refused or BadAnswer(
                    "The file of ModelsLab's job is behind too many redirects: it was not fetched."
                )
            except (*HTTP_ERRORS, _NotThere) as error:
                problem = problem or str(error) or type(error).__name__
        if refused and not problem:
            raise refused
        if attempt >= _ATTEMPTS and time.monotonic() - began > timing.appearing:
            raise refused or ConnectionFailed(
                f"The file of ModelsLab's job could not be fetched ({problem}): try again later."
            )
        await asyncio.sleep(min(timing.pause(attempt), timing.longest_retry / 4))


class _NotThere(Exception):
    """An answer that is not the file, which another attempt may better."""


async def _fetch(http: httpx.AsyncClient, address: str, path: Path) -> None:
    async with http.stream(
        "GET", address, headers={"Accept-Encoding": "identity"}, follow_redirects=True
    ) as response:
        if response.status_code != 200:
            raise _NotThere(f"HTTP {response.status_code}")
        size = 0
        with atomic_path(path) as partial, partial.open("wb") as file:
            async for part in response.aiter_bytes():
                if not size and part.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
                    raise _NotThere("a web page")
                size += len(part)
                if size > MAX_FILE:
                    raise BadAnswer(
                        f"The file of ModelsLab's job is larger than {MAX_FILE // 2**20} MiB: it"
                        " was not fetched."
                    )
                file.write(part)
            if not size:
                raise _NotThere("an empty file")
