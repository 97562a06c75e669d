"""Results to files, from the first address that gives the whole of a file of the right kind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import httpx

from ..errors import BadAnswer, ConnectionFailed, ModelsLabError
from ..files import atomic_path
from .transport import Timing, backoff, stoppable

MAX_FILE = 512 * 2**20
# Anything else is left where it is: archives, materials, pages.
_KINDS = {".obj": "mesh", ".glb": "mesh", ".mp4": "video"}
_REDIRECTS, _ATTEMPTS = 5, 6


@dataclass(frozen=True)
class Download:
    """One file and how to get it.

    Attributes:
        http: the client.
        addresses: of the same file, the best first.
        path: of the result, without its ending; nothing that the server says becomes part of it.
        check: called several times a second; what it raises stops the download.
    """

    http: httpx.AsyncClient
    addresses: Sequence[str]
    path: Path
    timing: Timing
    check: Callable[[], None]


class _Gone(Exception):
    """404: the file is not there, or not there yet."""


def kind_of(addresses: Sequence[str]) -> str | None:
    """Whether it is a "mesh" or a "video", by the first ending that is known, or None."""
    return next(
        (_KINDS[suffix] for address in addresses if (suffix := _suffix_of(address)) in _KINDS), None
    )


async def download(wanted: Download) -> Path:
    """Fetch a file and look into it.

    Args:
        wanted: of a known kind, see `kind_of`.

    Returns:
        where it is.

    Raises:
        ConnectionFailed: if no address gives it.
        BadAnswer: if an address is not safe to use, or what it gives is too large or not what its
            ending says.
        EnvironmentProblem: if it cannot be written.
    """
    suffix = next(
        suffix for address in wanted.addresses if (suffix := _suffix_of(address)) in _KINDS
    )
    path = wanted.path.with_name(wanted.path.name + suffix)
    problem: ModelsLabError | None = None
    for address in wanted.addresses:
        try:
            with atomic_path(path) as partial:
                with partial.open("wb") as file:
                    await _fetch(wanted, address, file)
                check_content(partial, path.suffix)
            return path
        except ModelsLabError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _suffix_of(address: str) -> str:
    return PurePosixPath(httpx.URL(address).path).suffix.lower()


async def _fetch(wanted: Download, address: str, file: BinaryIO) -> None:
    """Write the whole file, going on where a connection was cut."""
    began, attempt = time.monotonic(), 0
    while True:
        attempt += 1
        try:
            await stoppable(_receive(wanted, address, file), wanted.check, wanted.timing.check)
            return
        except _Gone:
            if time.monotonic() - began > wanted.timing.appearing:
                raise ConnectionFailed(
                    "The file of ModelsLab's job does not appear at its address (404): take the job"
                    " up again later."
                ) from None
            attempt = min(attempt, 3)
        except (httpx.TransportError, _Again) as error:
            if attempt >= _ATTEMPTS:
                raise ConnectionFailed(
                    f"The file of ModelsLab's job could not be fetched ({type(error).__name__}):"
                    " take the job up again later."
                ) from None
        pause = time.monotonic() + backoff(
            attempt, wanted.timing.first_retry, wanted.timing.longest_retry / 4
        )
        while time.monotonic() < pause:
            wanted.check()
            await asyncio.sleep(min(wanted.timing.check, max(0.0, pause - time.monotonic())))


class _Again(Exception):
    """An answer that another attempt may better: 429, 5xx, or fewer bytes than were promised."""


async def _receive(wanted: Download, address: str, file: BinaryIO) -> None:
    url = httpx.URL(address)
    for _ in range(_REDIRECTS):
        have = file.tell()
        request = wanted.http.build_request(
            "GET",
            url,
            headers={"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {},
        )
        response = await wanted.http.send(request, stream=True)
        try:
            if not response.is_redirect:
                return await _write(response, file, have)
            url = url.join(response.headers["location"])  # the transport checks where it leads
        finally:
            await response.aclose()
    raise BadAnswer("The file of ModelsLab's job is behind too many redirects: it was not fetched.")


async def _write(response: httpx.Response, file: BinaryIO, have: int) -> None:
    if response.status_code == 404:
        raise _Gone
    if response.status_code == 429 or response.status_code >= 500:
        raise _Again
    # The server does not go on: from the start, then.
    if response.status_code == 416 or (have and response.status_code == 200):
        file.seek(0)
        file.truncate()
        have = 0
        if response.status_code == 416:
            raise _Again
    if response.status_code not in (200, 206):
        raise ConnectionFailed(
            f"The file of ModelsLab's job could not be fetched (HTTP {response.status_code}): take"
            " the job up again later."
        )
    expected = response.headers.get("content-length", "")
    _check_size(have + (int(expected) if expected.isdigit() else 0))
    async for part in response.aiter_bytes():
        have += len(part)
        _check_size(have)
        file.write(part)


def _check_size(size: int) -> None:
    if size > MAX_FILE:
        raise BadAnswer(
            f"The file of ModelsLab's job is larger than {MAX_FILE // 2**20} MiB: it was not"
            " fetched."
        )


def check_content(path: Path, suffix: str) -> None:
    """Look whether a file is what its ending says.

    References to other files are taken out of an OBJ.

    Raises:
        BadAnswer: if it is not.
    """
    if suffix == ".obj":
        _check_obj(path)
        return
    with path.open("rb") as file:
        head = file.read(12)
    size = path.stat().st_size
    if suffix == ".glb" and (
        head[:4] != b"glTF"
        or int.from_bytes(head[4:8], "little") != 2
        or int.from_bytes(head[8:12], "little") != size
    ):
        raise BadAnswer("What ModelsLab gave as a GLB file is none: nothing was saved.")
    if suffix == ".mp4" and head[4:8] != b"ftyp":
        raise BadAnswer("What ModelsLab gave as a video is none: nothing was saved.")


def _check_obj(path: Path) -> None:
    """Every vertex has numbers, every face names vertices; lines that name other files go."""
    vertices = faces = 0
    kept: list[bytes] = []
    with path.open("rb") as file:
        for line in file:
            words = line.split()
            kind = words[0] if words else b"#"
            if kind in (
                b"mtllib",
                b"usemtl",
                b"call",
                b"csh",
                b"maplib",
                b"usemap",
                b"shadow_obj",
                b"trace_obj",
            ):
                continue
            try:
                if kind == b"v":
                    [float(word) for word in words[1:4]][2]
                    vertices += 1
                elif kind == b"f":
                    indices = [int(word.split(b"/")[0]) for word in words[1:]]
                    if len(indices) < 3 or not all(0 < abs(i) <= vertices for i in indices):
                        raise ValueError
                    faces += 1
            except (ValueError, IndexError):
                raise BadAnswer(
                    "What ModelsLab gave as an OBJ file is none: nothing was saved."
                ) from None
            kept.append(line)
    if not vertices or not faces:
        raise BadAnswer("What ModelsLab gave as an OBJ file holds no mesh: nothing was saved.")
    path.write_bytes(b"".join(kept))
