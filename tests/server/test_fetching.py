"""Images from addresses, against a server on this machine."""

from __future__ import annotations

import asyncio

import pytest

from pipelines.errors import InvalidInput
from pipelines.server import fetching
from pipelines.server.fetching import decoded, fetch_image

from ..modelslab.server import Reply, Service
from .conftest import image

PNG = decoded(image())


def _fetched(*replies: Reply, path: str = "/a.png", private: bool = True) -> bytes:
    async def run() -> bytes:
        async with Service() as service:
            service.answers["/a.png"] = list(replies)
            service.answers["/moved"] = [Reply(b"", 302, {"Location": f"{service.url}/a.png"})]
            return await fetch_image(f"{service.url}{path}", allow_private=private)

    return asyncio.run(run())


@pytest.mark.parametrize("path", ["/a.png", "/moved"])
def test_a_image_is_fetched(path):
    assert _fetched(Reply(PNG), path=path) == PNG


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply(b"", 404), "HTTP 404"),
        (Reply(b"<html>"), "none that can be read"),
        (Reply(b"", length=10**10, endless=True), "larger than 20 MiB"),
        (Reply(PNG, drip=0.2), "answers within"),
        (Reply(PNG, cut_after=5), "answers within"),
        (Reply(b"", 302, {"Location": "/moved"}), "answers within"),
        (Reply(b"", 302, {"Location": "file:///etc/passwd"}), "answers within"),
    ],
)
def test_what_is_not_fetched_is_one_sentence(monkeypatch, reply, says):
    monkeypatch.setattr(fetching, "SECONDS", 2.0)
    with pytest.raises(InvalidInput, match=says):
        _fetched(reply)


def test_private_addresses_say_the_same_whether_they_answer_or_not():
    with pytest.raises(InvalidInput) as answers:
        _fetched(Reply(PNG), private=False)
    with pytest.raises(InvalidInput) as refuses:
        asyncio.run(fetch_image("http://127.0.0.1:9/"))
    assert str(answers.value) == str(refuses.value)
