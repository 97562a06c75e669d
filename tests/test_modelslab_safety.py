"""ModelsLab: where the API key and the requests may go."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import traceback

import httpx
import pytest

from pipelines.errors import AuthenticationFailed, BadAnswer
from pipelines.modelslab.client import ModelsLab, Request
from pipelines.modelslab.key import ApiKey, find_key
from pipelines.modelslab.transport import CheckedTransport, is_public

from .modelslab_jobs import FAST, START, a_job, against_service, failure_of
from .modelslab_server import KEY, Reply, Service

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


def test_where_the_key_comes_from(tmp_path, monkeypatch):
    monkeypatch.delenv("MODELSLAB_API_KEY", raising=False)
    file = tmp_path / "modelslab_api_key.txt"
    with pytest.raises(AuthenticationFailed, match="MODELSLAB_API_KEY"):
        find_key(file)
    file.write_text(f"{KEY}\n")
    file.chmod(0o644)
    if os.name == "posix":
        with pytest.raises(AuthenticationFailed, match="chmod 600"):
            find_key(file)
    file.chmod(0o600)
    assert find_key(file).reveal() == KEY
    monkeypatch.setenv("MODELSLAB_API_KEY", "another")
    assert find_key(file).reveal() == "another"


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

    async def resolver(host: str, port: int) -> list[str]:
        return ["93.184.216.34", address]

    with pytest.raises(BadAnswer, match="not an address of the open internet"):
        asyncio.run(
            CheckedTransport(resolver=resolver).checked_address(
                httpx.URL("https://innocent.example/x.obj")
            )
        )


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"])
def test_addresses_of_the_open_internet(address):
    async def resolver(host: str, port: int) -> list[str]:
        return [address]

    assert (
        asyncio.run(
            CheckedTransport(resolver=resolver).checked_address(
                httpx.URL("https://innocent.example/x.obj")
            )
        )
        == address
    )


def test_only_https_and_every_redirect_is_checked_again(tmp_path):
    transport = CheckedTransport()
    for url in ("http://93.184.216.34/x.obj", "ftp://93.184.216.34/x.obj"):
        with pytest.raises(BadAnswer, match="not https"):
            asyncio.run(transport.checked_address(httpx.URL(url)))

    asked: list[str] = []

    async def resolver(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if host == "127.0.0.1" else ["169.254.169.254"]

    async def run() -> None:
        async with Service() as service:
            service.answers[START] = [Reply(service.success("/files/moved.obj"))]
            service.answers["/files/moved.obj"] = [
                Reply(b"", 302, {"Location": "http://metadata.example/x.obj"})
            ]
            async with ModelsLab(
                ApiKey(KEY),
                api=f"{service.url}/api",
                allow_loopback=True,
                resolver=resolver,
                timing=FAST,
            ) as client:
                await client.image_to_3d("https://x.example/", Request(), tmp_path / "m")

    with pytest.raises(BadAnswer, match=r"169\.254\.169\.254"):
        asyncio.run(run())
    assert asked[-1] == "metadata.example"
