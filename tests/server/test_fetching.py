"""Images from URLs, data URIs and base64, against a server on this machine."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import urllib.parse
import zlib

import pytest
from PIL import Image, PngImagePlugin

from pipelines.errors import InvalidInput
from pipelines.server import fetching
from pipelines.server.fetching import MAX_BYTES, decode_base64, fetch_image

from ..modelslab.server import Reply, Service
from .conftest import image

PNG = decode_base64(image())
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n{ } loop\n"
ONE_MESSAGE = "must be on the open internet and answer within"


def _fetch(*replies: Reply, path: str = "/a.png", private: bool = True) -> bytes:
    async def run() -> bytes:
        async with Service() as service:
            service.answers["/a.png"] = list(replies)
            service.answers["/moved"] = [Reply(b"", 302, {"Location": f"{service.url}/a.png"})]
            return await fetch_image(f"{service.url}{path}", allow_private=private)

    return asyncio.run(run())


@pytest.mark.parametrize("path", ["/a.png", "/moved"])
def test_fetch_image_returns_the_file(path):
    assert _fetch(Reply(PNG), path=path) == PNG


def test_fetch_image_decodes_gzip_that_was_not_requested():
    assert _fetch(Reply(gzip.compress(PNG), headers={"Content-Encoding": "gzip"})) == PNG


def _bomb(wbits: int) -> bytes:
    compressor = zlib.compressobj(9, wbits=wbits)
    chunk = bytes(2**20)
    return b"".join(compressor.compress(chunk) for _ in range(50)) + compressor.flush()


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(b"", 404), "HTTP 404"),
        (Reply(b"<html>"), "not a readable image"),
        (Reply(EPS), "send one of PNG, JPEG"),
        (Reply(b"", length=10**10, endless=True), "larger than 20 MiB"),
        (Reply(_bomb(31), headers={"Content-Encoding": "gzip"}), "larger than 20 MiB"),
        (Reply(_bomb(15), headers={"Content-Encoding": "deflate"}), "larger than 20 MiB"),
        (Reply(b"x", headers={"Content-Encoding": "br"}), ONE_MESSAGE),
        (Reply(PNG, drip=0.2), ONE_MESSAGE),
        (Reply(PNG, cut_after=5), ONE_MESSAGE),
        (Reply(b"", 302, {"Location": "/moved"}), ONE_MESSAGE),
        (Reply(b"", 302, {"Location": "file:///etc/passwd"}), ONE_MESSAGE),
        (Reply(b"", 302, {"Location": "http://xn--a/"}), ONE_MESSAGE),
        (Reply(b"", 302, {"Location": "http://127.0.0.1:99999/"}), ONE_MESSAGE),
    ],
)
def test_fetch_image_that_fails_raises_one_sentence(monkeypatch, reply, message):
    monkeypatch.setattr(fetching, "TIMEOUT_S", 2.0)
    with pytest.raises(InvalidInput, match=message):
        _fetch(reply)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:99999/", "http://xn--a/", "http://[::1/", "HTTP://", "https://a/\ud800"],
)
def test_fetch_image_malformed_url_is_invalid_input(url):
    with pytest.raises(InvalidInput, match="URL must look like"):
        asyncio.run(fetch_image(url, allow_private=True))


def test_fetch_image_of_private_addresses_has_the_same_message_for_open_and_closed_ports():
    with pytest.raises(InvalidInput) as answers:
        _fetch(Reply(PNG), private=False)
    with pytest.raises(InvalidInput) as refuses:
        asyncio.run(fetch_image("http://127.0.0.1:9/"))
    assert str(answers.value) == str(refuses.value)


def test_fetch_image_ignores_a_proxy_of_the_environment(monkeypatch):
    """A proxy resolves names itself, so it would open private networks."""

    async def run() -> int:
        async with Service() as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            with pytest.raises(InvalidInput):
                await fetch_image("http://files.example/x.png")
            return len(proxy.received)

    assert asyncio.run(run()) == 0


# Base64


def _png_with_all_signs() -> bytes:
    """A PNG whose base64 has + and /, and two = at its end."""
    for extra in range(30):
        info, file = PngImagePlugin.PngInfo(), io.BytesIO()
        info.add_text("comment", "x" * extra)
        Image.effect_noise((24, 24), 90).save(file, "PNG", pnginfo=info)
        text = base64.b64encode(file.getvalue()).decode()
        if text.endswith("==") and "+" in text and "/" in text:
            return file.getvalue()
    raise AssertionError("no such PNG")


CONTENT = _png_with_all_signs()
TEXT = base64.b64encode(CONTENT).decode()


@pytest.mark.parametrize(
    "header", ["", "data:image/png;base64,", "DATA:;x=y; BASE64 ,", "data:;base64,"]
)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param(TEXT, id="plain"),
        pytest.param(TEXT.rstrip("="), id="no-padding"),
        pytest.param(TEXT[:-1], id="half-a-padding"),
        pytest.param(TEXT.replace("+", "-").replace("/", "_"), id="url-safe"),
        pytest.param(urllib.parse.quote(TEXT, safe=""), id="percent-encoded"),
        pytest.param("".join(f"%{ord(c):02x}" for c in TEXT), id="all-percent-encoded"),
        pytest.param("\r\n".join(TEXT[i : i + 76] for i in range(0, len(TEXT), 76)), id="lines"),
        pytest.param(f" {TEXT}\t", id="spaces"),
    ],
)
def test_decode_base64_accepts_what_browsers_do(header, text):
    assert decode_base64(header + text) == CONTENT


@pytest.mark.parametrize(
    "text",
    [
        "data:image/png," + TEXT,
        "data:image/svg+xml;utf8,<svg/>",
        "file:///etc/passwd",
        TEXT[:-3],
        TEXT + "!",
        TEXT + "é",
        "\ud800",
        "%zz",
        "=%3D" * 9,
        "a,b",
    ],
)
def test_decode_base64_refuses_other_text(text):
    with pytest.raises(InvalidInput, match="http\\(s\\) URL, a data URI or base64"):
        decode_base64(text)


@pytest.mark.parametrize(
    "text", ["A" * (MAX_BYTES * 4 // 3 + 8), "A" * MAX_BYTES * 3], ids=["decoded", "encoded"]
)
def test_decode_base64_too_large_is_refused(text):
    with pytest.raises(InvalidInput, match="larger than 20 MiB"):
        decode_base64(text)
