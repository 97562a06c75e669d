"""An HTTP client that refuses private addresses and limits the size of responses.

Requests keep the host name, so certificates and proxies keep working. Each new connection resolves
the host once, checks all its addresses, and connects to one of them. A DNS answer that changes
after the check therefore has no effect.
"""

from __future__ import annotations

import ipaddress
import urllib.request
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from socket import AF_INET, SOCK_STREAM
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpcore
import httpx

from .errors import AddressRefused, InvalidInput

# Errors that mean the request was not sent.
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, AddressRefused)
# All errors that httpx raises for unreachable servers, invalid responses and malformed URLs.
HTTP_ERRORS = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError)
#: Some VPNs and proxies resolve every name to an address in this range, and forward from it.
FAKE_IP_NETWORK = ipaddress.ip_network("198.18.0.0/15")

_TIMEOUT = httpx.Timeout(60.0, connect=15.0)
_MAX_REDIRECTS = 5
_MAX_CONNECTIONS, _MAX_IDLE_CONNECTIONS, _IDLE_S = 100, 20, 5.0
_CHUNK_BYTES = 65_536
#: Arguments of zlib by Content-Encoding. Requests ask for uncompressed bodies, but some servers
#: send gzip or deflate anyway.
_WINDOW_BITS = {
    "gzip": zlib.MAX_WBITS | 16,
    "x-gzip": zlib.MAX_WBITS | 16,
    "deflate": zlib.MAX_WBITS,
}

# Source: IANA's registries of special-purpose addresses (RFC 6890 and its updates). Python's own
# `is_global` differs between versions. 224.0.0.0/3 is multicast and reserved; 168.63.129.16 has
# Azure's services for virtual machines, in a public range.
_SPECIAL_V4 = tuple(map(ipaddress.IPv4Network, (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32",
    "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24",
    "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
)))  # fmt: skip
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")  # all other ranges are reserved, local or multicast
_SPECIAL_V6 = tuple(
    map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # the last 32 bits are an IPv4 address


@dataclass(frozen=True)
class Access:
    """Rules for which addresses a client may reach.

    The defaults allow public addresses over https, directly or through a proxy.

    Attributes:
        http: allow http for every host.
        private: allow private addresses for every host.
        named_hosts: hosts that the user configured, which may be private and use http.
        networks: networks to allow although they are not public.
        proxies: use the proxies of the environment. A proxy resolves names itself, so private
            addresses are only reliably refused without one.
    """

    http: bool = False
    private: bool = False
    named_hosts: frozenset[str] = frozenset()
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    proxies: bool = True

    def allows(self, host: str, address: str) -> bool:
        """Return whether a client may connect to a host at an IP address."""
        if self.private or host in self.named_hosts or is_public(address):
            return True
        ip = ipaddress.ip_address(address.partition("%")[0])
        return any(ip in network for network in self.networks)


def is_public(address: str) -> bool:
    """Return whether an IP address is public.

    Private, loopback, link-local (cloud metadata), multicast, reserved, documentation and
    benchmarking addresses are not public. Neither are IPv6 addresses that embed such an IPv4
    address.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in _SPECIAL_V4)
    if ip.ipv4_mapped is not None:
        return is_public(str(ip.ipv4_mapped))
    if ip in _NAT64:
        return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
    return ip in _GLOBAL_V6 and not any(ip in network for network in _SPECIAL_V6)


def parse_url(text: str) -> httpx.URL:
    """Parse an http or https URL.

    Raises:
        InvalidInput: if the URL is malformed.
    """
    try:
        url = httpx.URL(text)
        urlsplit(text)  # stricter about brackets
        usable = url.scheme in ("http", "https") and url.host and _is_port(url.port)
    except (httpx.InvalidURL, ValueError):  # idna's errors are ValueErrors
        usable = False
    if not usable:
        raise InvalidInput(
            f"A URL must look like https://example.com/image.png, got {text!r:.100}."
        )
    return url


def _is_port(port: int | None) -> bool:
    return port is None or 0 < port < 65_536


def make_client(access: Access) -> httpx.AsyncClient:
    """Make a client that connects only to addresses that `access` allows, also after redirects.

    Open responses with `stream` and read them with `read_chunks`, because httpx decodes bodies
    without a size limit.
    """

    async def check(request: httpx.Request) -> None:
        url = request.url
        http = access.http or url.host in access.named_hosts
        if url.scheme != "https" and not (url.scheme == "http" and http):
            raise AddressRefused(f"Refused {url.scheme}://{url.host}: only https is allowed.")
        if not _is_port(url.port):
            raise AddressRefused(
                f"Refused {url.host}: the port must be from 1 to 65535, got {url.port}."
            )

    client = httpx.AsyncClient(
        transport=_Transport(access),
        timeout=_TIMEOUT,
        headers={"Accept-Encoding": "identity"},
        event_hooks={"request": [check]},
    )
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return client


@asynccontextmanager
async def stream(
    client: httpx.AsyncClient, method: str, url: str, *, redirects: bool = False, **options: Any
) -> AsyncIterator[httpx.Response]:
    """Open a response whose body has not been read.

    Args:
        client: from `make_client`.
        method: HTTP method.
        url: URL of the request.
        redirects: whether to follow redirects. Their bodies are not read.
        options: passed to `httpx.AsyncClient.build_request`.

    Raises:
        AddressRefused: if the URL or a redirect leads to an address that is not allowed.
        httpx.HTTPError, httpx.InvalidURL: if the request or a redirect fails.
    """
    request = client.build_request(method, url, **options)
    for _ in range(_MAX_REDIRECTS + 1):
        response = await _send(client, request)
        try:
            if not (redirects and response.next_request):
                yield response
                return
            request = response.next_request
        finally:
            await response.aclose()
    raise httpx.TooManyRedirects(f"more than {_MAX_REDIRECTS} redirects", request=request)


async def download(
    client: httpx.AsyncClient,
    url: str,
    write: Callable[[bytes], object],
    max_bytes: int,
    **options: Any,
) -> None:
    """Follow redirects to a file and write its content piece by piece.

    Args:
        client: from `make_client`.
        url: URL of the file.
        write: called with each piece.
        max_bytes: largest size of the content.
        options: passed to `httpx.AsyncClient.build_request`.

    Raises:
        httpx.HTTPStatusError: if the server answers with an error; the message is the status.
        AddressRefused, httpx.HTTPError, httpx.InvalidURL: as `stream` and `read_chunks`.
    """
    async with stream(client, "GET", url, redirects=True, **options) as response:
        if not response.is_success:
            code = response.status_code
            message = f"HTTP {code} {httpx.codes.get_reason_phrase(code)}".rstrip()
            raise httpx.HTTPStatusError(message, request=response.request, response=response)
        async for piece in read_chunks(response, max_bytes):
            write(piece)


async def read_chunks(response: httpx.Response, max_bytes: int) -> AsyncIterator[bytes]:
    """Decode a response's body and yield it in pieces of at most 64 KiB.

    Memory use does not depend on the decoded size.

    Raises:
        TooLarge: as soon as the decoded size exceeds `max_bytes`.
        httpx.HTTPError: if the connection breaks, or the compressed body is unsupported, damaged
            or cut off.
    """
    encoding = response.headers.get("content-encoding", "").strip().lower()
    inflate = None
    if encoding not in ("", "identity"):
        if encoding not in _WINDOW_BITS:
            raise httpx.DecodingError(f"unsupported Content-Encoding {encoding!r:.40}")
        inflate = _Inflate(_WINDOW_BITS[encoding])
    size = 0
    async for raw in response.aiter_raw():
        for piece in [raw] if inflate is None else inflate.decode(raw):
            size += len(piece)
            if size > max_bytes:
                raise TooLarge(f"it is larger than {max_bytes // 2**20} MiB")
            yield piece
    if inflate is not None and not inflate.stream.eof:
        raise httpx.DecodingError("the compressed body is cut off")


class TooLarge(httpx.HTTPError):
    """A decoded body is larger than allowed."""


class _Inflate:
    """Decoder of gzip (one or more members) and deflate (with or without a zlib header)."""

    def __init__(self, wbits: int) -> None:
        self._wbits, self._begun = wbits, False
        self.stream = zlib.decompressobj(wbits)

    def decode(self, data: bytes) -> Iterator[bytes]:
        while True:
            piece = self._inflated(data)
            if piece:
                yield piece
            data = self.stream.unconsumed_tail
            if self.stream.eof:
                data = self.stream.unused_data
                if not data:
                    return
                self.stream = zlib.decompressobj(self._wbits)
            elif not data and len(piece) < _CHUNK_BYTES:
                return

    def _inflated(self, data: bytes) -> bytes:
        try:
            piece = self.stream.decompress(data, _CHUNK_BYTES)
        except zlib.error as error:
            if self._begun or self._wbits != zlib.MAX_WBITS:
                raise httpx.DecodingError(f"damaged encoding: {error}") from error
            self._wbits = -zlib.MAX_WBITS  # some servers send deflate without a header
            self.stream = zlib.decompressobj(self._wbits)
            return self._inflated(data)
        self._begun = self._begun or bool(piece)
        return piece


async def _send(client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    try:
        return await client.send(request, stream=True, follow_redirects=False)
    except UnicodeError as error:  # from idna: the host of the request or a redirect is malformed
        raise httpx.InvalidURL(f"malformed host name: {error}") from error


class _GuardedNetwork(httpcore.AnyIOBackend):
    """Network backend that connects only to allowed addresses."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def connect_tcp(  # type: ignore[override]
        self, host: str, port: int, timeout: float | None = None, **options: Any
    ) -> httpcore.AsyncNetworkStream:
        try:
            addresses = await _allowed_addresses(self._access, host, timeout)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"{host} was not resolved in time") from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        failure: Exception | None = None
        for address in addresses:
            try:
                return await super().connect_tcp(address, port, timeout, **options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = failure or error
        raise failure or httpcore.ConnectError(f"{host} has no address")


class _Transport(httpx.AsyncBaseTransport):
    """Transport that uses the environment's proxy if there is one, or connects directly."""

    def __init__(self, access: Access) -> None:
        self._access = access
        ssl_context = httpx.create_ssl_context()
        self._direct = httpx.AsyncHTTPTransport(verify=ssl_context)
        self._direct._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context,
            max_connections=_MAX_CONNECTIONS,
            max_keepalive_connections=_MAX_IDLE_CONNECTIONS,
            keepalive_expiry=_IDLE_S,
            network_backend=_GuardedNetwork(access),
        )
        self._proxied: dict[str, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        proxy = _proxy_for(request.url) if self._access.proxies else None
        if proxy is None:
            return await self._direct.handle_async_request(request)
        with suppress(OSError, UnicodeError):  # the proxy may know the name
            await _allowed_addresses(self._access, request.url.host, _TIMEOUT.connect)
        if proxy not in self._proxied:
            self._proxied[proxy] = httpx.AsyncHTTPTransport(proxy=proxy)
        return await self._proxied[proxy].handle_async_request(request)

    async def aclose(self) -> None:
        for transport in (self._direct, *self._proxied.values()):
            await transport.aclose()


def _proxy_for(url: httpx.URL) -> str | None:
    proxy = urllib.request.getproxies().get(url.scheme)
    if not proxy or urllib.request.proxy_bypass(url.host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


async def _allowed_addresses(access: Access, host: str, timeout: float | None) -> list[str]:
    """Resolve a host to its addresses, IPv4 first, because broken IPv6 often ends in a timeout.

    Raises:
        AddressRefused: if one of the addresses is not allowed.
        TimeoutError: if resolving takes longer than `timeout`, in seconds.
        OSError, UnicodeError: if the host cannot be resolved.
    """
    with anyio.fail_after(timeout):
        found = await anyio.getaddrinfo(host, None, type=SOCK_STREAM)
    found.sort(key=lambda each: each[0] != AF_INET)
    addresses = [str(address) for *_, (address, *_) in found]
    for address in addresses:
        if not access.allows(host, address):
            raise AddressRefused(f"Refused {host}: it resolves to {address}, not a public address.")
    return addresses
