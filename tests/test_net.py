"""The HTTP client: which addresses it reaches, and how much it reads."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import socket
import tracemalloc
import zlib

import httpx
import pytest

from pipelines.errors import AddressRefused, InvalidInput
from pipelines.net import (
    FAKE_IP_NETWORK,
    Access,
    TooLarge,
    is_public,
    make_client,
    parse_url,
    read_chunks,
    stream,
)

from .modelslab.server import Reply, Service

EVERYWHERE = Access(http=True, private=True)
TEXT = b"hello " * 1000


def fetch(url: str, access: Access = EVERYWHERE, *, max_bytes: int = 10**6) -> bytes:
    async def run() -> bytes:
        async with make_client(access) as client, stream(client, "GET", url, redirects=True) as r:
            return b"".join([piece async for piece in read_chunks(r, max_bytes)])

    return asyncio.run(run())


def fetch_from(*replies: Reply, access: Access = EVERYWHERE, max_bytes: int = 10**6) -> bytes:
    """Fetch from a server on this machine, which answers each request in turn."""

    async def run() -> bytes:
        async with Service() as service:
            service.answers["/x"] = list(replies)
            url = f"{service.url}/x"
            async with (
                make_client(access) as client,
                stream(client, "GET", url, redirects=True) as response,
            ):
                return b"".join([piece async for piece in read_chunks(response, max_bytes)])

    return asyncio.run(run())


# Addresses


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.7",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
    ],
)
def test_is_public_of_a_special_address_is_false(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_is_public_of_an_internet_address_is_true(address):
    assert is_public(address)


def test_access_networks_allow_a_special_range():
    assert not Access().allows("x.example", "198.18.0.7")
    assert Access(networks=(FAKE_IP_NETWORK,)).allows("x.example", "198.18.0.7")
    assert not Access(networks=(FAKE_IP_NETWORK,)).allows("x.example", "10.0.0.1")


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:99999/",
        "http://xn--a/",
        "http://[::1/",
        "http://[",
        "http://a]/",
        "http://",
        "https:///path",
        "file:///etc/passwd",
        "ftp://a.example/x",
        "//a.example/x",
        "http://a.example/\ud800",
        "http://\ud800.example/",
        "http://a.example:x/",
        "http://a.example/\0",
        "hello",
        "",
    ],
)
def test_parse_url_refuses_malformed_text(text):
    with pytest.raises(InvalidInput, match="URL must look like"):
        parse_url(text)


def test_stream_sends_the_address_as_it_was_written():
    async def run() -> str:
        async with Service() as service:
            url = f"{service.url}/a%20b.png?X-Amz-Credential=AK%2F2025&s=a+b%3D"
            async with make_client(EVERYWHERE) as client, stream(client, "GET", url):
                return service.received[0].path

    assert asyncio.run(run()) == "/a%20b.png?X-Amz-Credential=AK%2F2025&s=a+b%3D"


@pytest.mark.parametrize("url", ["http://93.184.216.34/x.obj", "ftp://93.184.216.34/x.obj"])
def test_stream_refuses_all_but_https(url):
    with pytest.raises(AddressRefused, match="only https"):
        fetch(url, Access())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"])
def test_stream_refuses_a_private_address_before_it_connects(host):
    async def run() -> None:
        async with Service() as service:
            url = service.url.replace("http://127.0.0.1", f"http://{host}")
            async with make_client(Access(http=True)) as client:
                with pytest.raises(AddressRefused, match="not a public address"):
                    async with stream(client, "GET", url):
                        pass
            assert service.connections == 0

    asyncio.run(run())


def test_stream_connects_to_the_address_that_was_checked(monkeypatch):
    """The name resolves to another address the second time, which must not be used."""
    answers = iter(["127.0.0.1", "127.0.0.2"])

    def resolve(host: str, port: object, *_: object, **__: object) -> list:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port or 0))]

    async def run() -> bytes:
        async with Service() as service:
            service.answers["/x"] = [Reply(TEXT)]
            monkeypatch.setattr(socket, "getaddrinfo", resolve)
            url = service.url.replace("127.0.0.1", "rebinding.example") + "/x"
            access = Access(http=True, networks=(ipaddress.ip_network("127.0.0.1/32"),))
            async with make_client(access) as client, stream(client, "GET", url) as response:
                return b"".join([piece async for piece in read_chunks(response, 10**6)])

    assert asyncio.run(run()) == TEXT
    assert next(answers) == "127.0.0.2"


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("file:///etc/x", AddressRefused),
        ("http://metadata.example/x", AddressRefused),
        ("https://localhost:9/x", AddressRefused),
        ("https://example.com:99999/", AddressRefused),
        ("https://xn--a/", httpx.InvalidURL),
        ("http://[::1/", httpx.HTTPError),
        ("/x", httpx.TooManyRedirects),
    ],
)
def test_stream_checks_every_redirect(location, error):
    access = Access(named_hosts=frozenset({"127.0.0.1"}))
    with pytest.raises(error):
        fetch_from(Reply(b"", 302, {"Location": location}), access=access)


def test_stream_skips_an_address_without_a_server_and_keeps_the_host_name():
    """`localhost` has two addresses, and the server listens on one of them."""

    async def run() -> None:
        async with Service() as service:
            service.answers["/x"] = [Reply(TEXT)]
            url = service.url.replace("127.0.0.1", "localhost") + "/x"
            async with (
                make_client(Access(named_hosts=frozenset({"localhost"}))) as client,
                stream(client, "GET", url) as response,
            ):
                assert b"".join([p async for p in read_chunks(response, 10**6)]) == TEXT
            assert service.received[0].headers["host"] in url

    asyncio.run(run())


# Proxies


@pytest.fixture
def proxied(monkeypatch):
    """Return a function that fetches a URL through a proxy, and returns the body."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    def fetch_through(url: str, access: Access, scheme: str = "http://") -> bytes:
        async def run() -> bytes:
            async with Service() as proxy:
                monkeypatch.setenv("http_proxy", proxy.url.replace("http://", scheme))
                proxy.answers[url] = [Reply(b"through")]
                async with make_client(access) as client, stream(client, "GET", url) as response:
                    return b"".join([p async for p in read_chunks(response, 10**6)])

        return asyncio.run(run())

    return fetch_through


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_proxy_of_the_environment_is_used(proxied, scheme):
    assert proxied("http://files.example/x", Access(http=True), scheme) == b"through"


def test_proxy_is_not_used_for_hosts_in_no_proxy(proxied, monkeypatch):
    monkeypatch.setenv("no_proxy", "files.example")
    with pytest.raises(httpx.HTTPError):
        proxied("http://files.example/x", Access(http=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "169.254.169.254", "[::1]"])
def test_proxy_does_not_open_private_addresses(proxied, host):
    with pytest.raises(AddressRefused):
        proxied(f"http://{host}/x", Access(http=True))


def test_proxy_is_ignored_if_access_forbids_proxies(proxied):
    with pytest.raises(httpx.HTTPError):
        proxied("http://files.example/x", Access(http=True, proxies=False))


# Bodies


def _deflate(content: bytes, wbits: int) -> bytes:
    compressor = zlib.compressobj(wbits=wbits)
    return compressor.compress(content) + compressor.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("identity", TEXT),
        ("gzip", gzip.compress(TEXT, mtime=0)),
        ("x-gzip", gzip.compress(TEXT, mtime=0)),
        (" GZIP ", gzip.compress(TEXT[:999], mtime=0) + gzip.compress(TEXT[999:], mtime=0)),
        ("deflate", _deflate(TEXT, zlib.MAX_WBITS)),
        ("deflate", _deflate(TEXT, -zlib.MAX_WBITS)),
    ],
)
def test_read_chunks_decodes_compressed_bodies(encoding, body):
    assert fetch_from(Reply(body, headers={"Content-Encoding": encoding})) == TEXT


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(TEXT, mtime=0)[:-9]),
        ("gzip", gzip.compress(TEXT, mtime=0)[:-1]),
        ("gzip", TEXT),
        ("gzip", b""),
        ("deflate", _deflate(TEXT, zlib.MAX_WBITS)[:-5]),
        ("deflate", b"\xff" * 99),
        ("br", b"anything"),
        ("zstd", b"anything"),
        ("gzip, gzip", gzip.compress(gzip.compress(TEXT, mtime=0), mtime=0)),
    ],
)
def test_read_chunks_refuses_damaged_cut_off_and_unsupported_encodings(encoding, body):
    with pytest.raises(httpx.DecodingError):
        fetch_from(Reply(body, headers={"Content-Encoding": encoding}))


@pytest.mark.parametrize("status", [200, 302])
@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate", "br"])
def test_read_chunks_bounds_memory_by_the_limit_for_every_encoding(encoding, status):
    """Send a decompression bomb, also as the body of a redirect, which httpx itself would read."""
    wbits = {"gzip": zlib.MAX_WBITS | 16}.get(encoding, zlib.MAX_WBITS)
    body = _deflate(bytes(200 * 2**20), wbits)
    headers = {"Content-Encoding": encoding} | ({"Location": "/x"} if status == 302 else {})
    reply = (
        Reply(b"", status, headers, length=10**12, endless=True)
        if encoding == "identity"
        else Reply(body, status, headers)
    )
    tracemalloc.start()
    with pytest.raises((TooLarge, httpx.HTTPError)):
        fetch_from(reply, max_bytes=2**20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_make_client_keeps_no_cookies():
    async def run() -> None:
        async with Service() as service, make_client(EVERYWHERE) as client:
            service.answers["/x"] = [Reply(TEXT, headers={"Set-Cookie": "a=b"})]
            for _ in range(2):
                async with stream(client, "GET", f"{service.url}/x"):
                    pass
            assert "cookie" not in service.received[1].headers

    asyncio.run(run())
