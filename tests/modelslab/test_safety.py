"""ModelsLab: where the API key and the requests may go."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import traceback
from pathlib import Path

import httpx
import pytest

from pipelines.errors import AuthenticationFailed, BadAnswer, ConnectionFailed, InvalidInput
from pipelines.modelslab.client import ModelsLab
from pipelines.modelslab.request import Request
from pipelines.modelslab.servers import ApiKey, find_server, server_names
from pipelines.modelslab.transport import is_public, make_client

from .jobs import START, a_job, against_service, failure_of
from .server import KEY, Reply, Service

# The key


def test_the_key_is_nowhere_but_in_requests_to_the_api(tmp_path, caplog, capsys):
    """The server echoes the key in its error, its meta and its text; everything is logged at every
    level.
    """
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "pipelines", "asyncio"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    result, service = against_service(
        a_job(tmp_path, lambda s: s.success(message=f"thanks, {KEY}"))
    )
    assert KEY not in repr(result)
    assert all(
        KEY.encode() not in r.body for r in service.received if not r.path.startswith("/api/")
    )
    assert all(KEY not in f"{r.path}{r.headers}" for r in service.received)
    for reply in (
        Reply({"status": "error", "message": f"key {KEY} is not welcome"}),
        Reply({"status": "error", "message": {KEY: [f"{KEY}"]}}, 401),
        Reply({"status": "failed", "message": f"{KEY}"}),
        Reply({"status": KEY}),
        Reply(
            b'{"status": "error", "message": "'
            + "".join(f"\\u{ord(c):04x}" for c in KEY).encode()
            + b'"}'
        ),
        Reply(f"<html>{KEY}".encode(), 500),
        Reply(b"", cut_after=0, length=50),
    ):
        error = failure_of(a_job(tmp_path, reply))
        assert KEY not in "".join(traceback.format_exception(error))
        seen: BaseException | None = error
        while seen is not None:
            assert KEY not in f"{seen!r}{seen.args}"
            seen = seen.__cause__ or seen.__context__
    assert "POST" in caplog.text, "the HTTP library does log"
    assert KEY not in caplog.text
    assert KEY not in "".join(capsys.readouterr())
    assert all(KEY.encode() not in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


def test_a_key_does_not_show_itself():
    key = ApiKey(KEY)
    assert KEY not in f"{key} {key!r}"
    with pytest.raises(TypeError):
        pickle.dumps(key)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Of a user, with nothing in the environment."""
    monkeypatch.delenv("MODELSLAB_API_KEY", raising=False)
    monkeypatch.delenv("MODELSLAB_API_URL", raising=False)
    return tmp_path


def _secret(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def test_where_the_key_comes_from(folder, monkeypatch):
    with pytest.raises(AuthenticationFailed, match="MODELSLAB_API_KEY"):
        find_server("modelslab.com", folder)
    file = _secret(folder / "modelslab_api_key.txt", f"{KEY}\n".encode())
    assert find_server("modelslab.com", folder).key.reveal() == KEY
    monkeypatch.setenv("MODELSLAB_API_KEY", "another")
    assert find_server("modelslab.com", folder).key.reveal() == "another"
    monkeypatch.delenv("MODELSLAB_API_KEY")
    if os.name == "posix":
        file.chmod(0o644)
        with pytest.raises(AuthenticationFailed, match="chmod 600"):
            find_server("modelslab.com", folder)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_key_file_of_any_editor(folder, encoding):
    _secret(folder / "modelslab_api_key.txt", f"{KEY}\r\n".encode(encoding))
    assert find_server("modelslab.com", folder).key.reveal() == KEY


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"two words", KEY.encode() + b"\xe4\n", b"\0"]
)
def test_a_key_file_with_something_else_is_one_sentence_without_it(folder, content):
    _secret(folder / "modelslab_api_key.txt", content)
    with pytest.raises(AuthenticationFailed) as caught:
        find_server("modelslab.com", folder)
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_a_key_goes_to_the_server_that_it_was_stored_for(folder, monkeypatch):
    assert server_names(folder) == ["modelslab.com"]
    _secret(
        folder / "modelslab_servers.txt",
        b"# mine\nhttp://192.168.1.20:8000/api/v6/ key-of-mine\nhttp://127.0.0.1:1/api/v6\n",
    )
    _secret(folder / "modelslab_api_key.txt", KEY.encode())
    mine = "http://192.168.1.20:8000/api/v6"
    assert server_names(folder) == ["modelslab.com", mine, "http://127.0.0.1:1/api/v6"]
    assert find_server(mine, folder).key.reveal() == "key-of-mine"
    assert find_server("http://127.0.0.1:1/api/v6", folder).key.reveal() == ""
    with pytest.raises(InvalidInput, match=r"not in .*modelslab_servers\.txt"):
        find_server("https://evil.example/api/v6", folder)
    monkeypatch.setenv("MODELSLAB_API_URL", "https://other.example/api/v6")
    other = find_server("modelslab.com", folder)
    assert (other.host, other.key.reveal()) == ("other.example", "")
    for wrong in ("file:///etc", "https://", "http://user:pass@host/", "http://[", "hello"):
        monkeypatch.setenv("MODELSLAB_API_URL", wrong)
        with pytest.raises(InvalidInput, match="MODELSLAB_API_URL"):
            find_server("modelslab.com", folder)


# Addresses


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "2002:7f00:0001::",
        "::",
    ],
)
def test_addresses_that_are_not_of_the_open_internet(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "198.18.0.7"]
)
def test_addresses_of_the_open_internet_and_of_proxies_that_answer_for_it(address):
    assert is_public(address)


async def _get(url: str, named: frozenset[str] = frozenset()) -> httpx.Response:
    async with make_client(named) as client:
        return await client.get(url, follow_redirects=True)


@pytest.mark.parametrize("url", ["http://93.184.216.34/x.obj", "ftp://93.184.216.34/x.obj"])
def test_only_https(url):
    with pytest.raises(BadAnswer, match="not https"):
        asyncio.run(_get(url))


def test_a_private_address_is_let_go_before_a_byte_is_sent():
    async def run() -> None:
        async with Service() as service:
            with pytest.raises(BadAnswer, match=r"leads to 127\.0\.0\.1, which is not an address"):
                await _get(service.url.replace("http://127.0.0.1", "https://localhost"))
            assert not service.received

    asyncio.run(run())


def test_every_redirect_is_checked_again(tmp_path):
    for target in ("http://metadata.example/x.obj", "https://localhost:9/x.obj", "file:///etc/x"):

        async def run(service: Service, client: ModelsLab, target: str = target) -> None:
            service.answers[START] = [Reply(service.success("/files/moved.obj"))]
            service.answers["/files/moved.obj"] = [Reply(b"", 302, {"Location": target})]
            await client.image_to_3d("https://x.example/", Request(), tmp_path / "m")

        error = failure_of(run)
        assert isinstance(error, (BadAnswer, ConnectionFailed)), error
        assert not list(tmp_path.iterdir())


def test_a_name_stays_a_name_and_a_dead_address_beside_a_living_one_does_no_harm(monkeypatch):
    """`localhost` has two addresses, of which only one is listened on."""

    async def run() -> None:
        async with Service() as service:
            service.answers["/x"] = [Reply(b"hello")]
            address = service.url.replace("127.0.0.1", "localhost")
            found = await _get(f"{address}/x", frozenset({"localhost"}))
            assert found.content == b"hello"
            assert service.received[0].headers["host"] == address.removeprefix("http://")

    asyncio.run(run())


def test_a_proxy_of_the_environment_is_used(monkeypatch):
    async def run() -> None:
        async with Service() as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            monkeypatch.delenv("no_proxy", raising=False)
            proxy.answers["http://files.example/x"] = [Reply(b"through")]
            found = await _get("http://files.example/x", frozenset({"files.example"}))
            assert found.content == b"through"
            monkeypatch.setenv("no_proxy", "files.example")
            with pytest.raises(httpx.HTTPError):
                await _get("http://files.example/x", frozenset({"files.example"}))

    asyncio.run(run())
