"""HTTP that goes only where it may: TLS everywhere, and no private addresses.

The address that was checked is the one that is connected to.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import httpx

from ..errors import BadAnswer, ConnectionFailed

Result = TypeVar("Result")
Resolve = Callable[[str, int], Awaitable[list[str]]]
# The server has not seen a byte of the request.
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
TIMEOUT = httpx.Timeout(60.0, connect=15.0)


@dataclass(frozen=True)
class Timing:
    """Seconds: how long to wait, and how often to ask.

    Attributes:
        overall: for one job, from its start to its files.
        first_poll, longest_poll: between questions; they double from one to the other.
        check: between looks at whether the user has stopped the work.
        first_retry, longest_retry: between attempts.
        appearing: how long a link may answer 404 after the job has ended.
    """

    overall: float = 1200.0
    first_poll: float = 1.0
    longest_poll: float = 10.0
    check: float = 0.25
    first_retry: float = 1.0
    longest_retry: float = 20.0
    appearing: float = 60.0


async def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: str) -> bool:
    """Whether an address is one of the open internet.

    It is not if it is private, loopback, link-local (cloud metadata), multicast or reserved.
    """
    ip = ipaddress.ip_address(address.split("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None)
    return (
        (ip.is_global and not ip.is_multicast and not ip.is_reserved)
        if mapped is None
        else is_public(str(mapped))
    )


class CheckedTransport(httpx.AsyncBaseTransport):
    """Resolves a host and connects to the address that was checked.

    It refuses a host unless all its addresses are public.

    Args:
        allow_loopback: also take http and loopback addresses; for tests.
        resolver: host and port to addresses.
    """

    def __init__(self, *, allow_loopback: bool = False, resolver: Resolve = resolve) -> None:
        self._allow_loopback, self._resolve = allow_loopback, resolver
        self._inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        address = await self.checked_address(request.url)
        pinned = httpx.Request(
            request.method,
            request.url.copy_with(host=address),
            headers=request.headers,  # Host stays the name
            stream=request.stream,
            extensions=request.extensions
            | {"sni_hostname": request.url.host},  # and so does what the certificate must show
        )
        return await self._inner.handle_async_request(pinned)

    async def checked_address(self, url: httpx.URL) -> str:
        """An address of the URL's host.

        Raises:
            BadAnswer: if the URL is not https, or an address is not public.
            ConnectionFailed: if the host has no address.
        """
        if url.scheme != "https" and not (self._allow_loopback and url.scheme == "http"):
            raise BadAnswer(f"An address that is not https is not used: {url.scheme}://{url.host}.")
        try:
            addresses = await self._resolve(
                url.host, url.port or (443 if url.scheme == "https" else 80)
            )
        except OSError as error:
            raise ConnectionFailed(
                f"The host {url.host} cannot be found: check the network connection."
            ) from error
        for address in addresses:
            allowed = (
                self._allow_loopback and ipaddress.ip_address(address.split("%")[0]).is_loopback
            )
            if not allowed and (not is_public(address) or url.scheme != "https"):
                raise BadAnswer(
                    f"{url.host} leads to {address}, which is not an address of the open internet:"
                    " it is not used."
                )
        if not addresses:
            raise ConnectionFailed(
                f"The host {url.host} has no address: check the network connection."
            )
        return addresses[0]

    async def aclose(self) -> None:
        await self._inner.aclose()


def make_client(transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
    """A client that follows no redirect by itself, and takes nothing from the environment.

    A proxy would resolve names unchecked.
    """
    return httpx.AsyncClient(
        transport=transport, timeout=TIMEOUT, follow_redirects=False, trust_env=False
    )


def backoff(attempt: int, first: float, longest: float) -> float:
    """Seconds before a further attempt (1, 2, ...).

    They double, with up to a quarter of jitter either way.
    """
    return min(longest, first * 2.0 ** (attempt - 1)) * random.uniform(0.75, 1.25)


async def stoppable(work: Awaitable[Result], check: Callable[[], None], every: float) -> Result:
    """Await something, and ask `check` several times a second whether to go on.

    What it raises cancels the work.
    """
    task = asyncio.ensure_future(work)
    try:
        while True:
            done, _ = await asyncio.wait({task}, timeout=every)
            if done:
                return task.result()
            check()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
