"""HTTP that goes only where it may, and work that ends when it is told to.

Names stay names, so that certificates, proxies and caches mean what they say; where a connection
leads is looked at when it is made, before anything is sent.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import time
import urllib.request
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import TypeVar

import httpcore
import httpx

from ..errors import BadAnswer

Result = TypeVar("Result")
# The server has not seen a byte of the request.
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# What httpx raises for servers and addresses of all kinds.
HTTP_ERRORS = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError)
_TIMEOUT = httpx.Timeout(60.0, connect=15.0)
_REDIRECTS = 5
# Resolvers of some proxies answer with addresses of this range, which leads to the proxy.
_FAKE = ipaddress.ip_network("198.18.0.0/15")


@dataclass(frozen=True)
class Timing:
    """Seconds: how long to wait, and how often to ask.

    Attributes:
        overall: for one job, from its image to its files.
        first_poll, longest_poll: between questions; they grow from one to the other.
        check: between looks at whether the user has stopped the work.
        first_retry, longest_retry: between attempts.
        appearing: how long a link or a job may be missing (404).
    """

    overall: float = 1200.0
    first_poll: float = 1.0
    longest_poll: float = 10.0
    check: float = 0.25
    first_retry: float = 1.0
    longest_retry: float = 20.0
    appearing: float = 60.0

    def pause(self, attempt: int) -> float:
        """Before a further attempt (1, 2, ...): doubling, with up to a quarter of jitter."""
        return min(
            self.longest_retry, self.first_retry * 2.0 ** min(attempt - 1, 30)
        ) * random.uniform(0.75, 1.25)


def is_public(address: str) -> bool:
    """Whether an address is one of the open internet.

    It is not if it is private, loopback, link-local (cloud metadata), multicast or reserved.
    """
    ip = ipaddress.ip_address(address.split("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None)
    if mapped is not None:
        return is_public(str(mapped))
    return (ip.is_global and not ip.is_multicast and not ip.is_reserved) or ip in _FAKE


class _PublicNetwork(httpcore.AnyIOBackend):
    """Connections to public addresses, and to hosts that the user has named, or to all."""

    def __init__(self, named: frozenset[str], private: bool) -> None:
        self._named, self._private = named, private

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        stream = await super().connect_tcp(host, port, timeout, local_address, socket_options)
        address = stream.get_extra_info("server_addr")[0]
        if not (self._private or host in self._named or is_public(address)):
            await stream.aclose()
            raise BadAnswer(
                f"{host} leads to {address}, which is not an address of the open internet: it is"
                " not used."
            )
        return stream


class _Transport(httpx.AsyncBaseTransport):
    """Through the environment's proxy where there is one, else directly and checked."""

    def __init__(self, network: httpcore.AsyncNetworkBackend) -> None:
        self._direct = httpx.AsyncHTTPTransport()
        self._direct._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(), network_backend=network
        )
        self._proxied: dict[str, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        proxy = urllib.request.getproxies().get(request.url.scheme)
        if proxy is None or urllib.request.proxy_bypass(request.url.host):
            return await self._direct.handle_async_request(request)
        if proxy not in self._proxied:
            self._proxied[proxy] = httpx.AsyncHTTPTransport(proxy=proxy)
        return await self._proxied[proxy].handle_async_request(request)

    async def aclose(self) -> None:
        for transport in (self._direct, *self._proxied.values()):
            await transport.aclose()


def make_client(
    named: frozenset[str] = frozenset(), *, http: bool = False, private: bool = False
) -> httpx.AsyncClient:
    """A client that takes https and public addresses alone, at every hop of a redirect.

    Args:
        named: hosts that the user has named, which may be private and speak http.
        http: take http of all hosts.
        private: take private addresses of all hosts.
    """

    async def check(request: httpx.Request) -> None:
        url = request.url
        if url.scheme != "https" and not (url.scheme == "http" and (http or url.host in named)):
            raise BadAnswer(f"An address that is not https is not used: {url.scheme}://{url.host}.")

    return httpx.AsyncClient(
        transport=_Transport(_PublicNetwork(named, private)),
        timeout=_TIMEOUT,
        max_redirects=_REDIRECTS,
        event_hooks={"request": [check]},
    )


async def supervised(
    work: Coroutine[object, object, Result],
    check: Callable[[], None],
    too_late: Callable[[], Exception],
    timing: Timing,
) -> Result:
    """Await something, and ask `check` several times a second whether to go on.

    What it raises ends the work, and so does the end of `timing.overall`.
    """
    task, until = asyncio.ensure_future(work), time.monotonic() + timing.overall
    try:
        while True:
            done, _ = await asyncio.wait({task}, timeout=timing.check)
            if done:
                return task.result()
            check()
            if time.monotonic() > until:
                raise too_late()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=1.0)
