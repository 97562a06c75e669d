"""Request bodies in all forms that clients send, and the limits of bodies."""

from __future__ import annotations

import asyncio
import json
import time
import tracemalloc
import urllib.parse
from typing import Any

import httpx
import pytest
from fastapi import Request

from pipelines.server.auth import Keys, digest
from pipelines.server.bodies import BodyReader
from pipelines.server.errors import ApiError
from pipelines.server.protocol import ImageTo3DRequest

from .conftest import FETCH, START, image

UPLOAD = "/api/v6/base64_to_url"
FORM = "application/x-www-form-urlencoded"
KEYS = frozenset({digest("one")})


@pytest.mark.parametrize("kind", [None, "application/json", "text/plain", FORM])
def test_json_body_with_any_content_type_is_accepted(serve, kind):
    headers = {} if kind is None else {"Content-Type": kind}
    content = json.dumps({"image": image()}).encode()
    answer = serve(wait=20.0).post(START, content=content, headers=headers)
    assert answer.json()["status"] == "success", answer.text


@pytest.mark.parametrize("quoted", [True, False], ids=["percent-encoded", "plus-as-it-is"])
def test_form_body_is_accepted(serve, quoted):
    source = urllib.parse.quote(image(), safe="") if quoted else image()
    content = f"image={source}&resolution=128&webhook=&remove_bg=yes&seed="
    answer = serve(wait=20.0).post(START, content=content, headers={"Content-Type": FORM})
    assert answer.json()["status"] == "success", answer.text
    assert answer.json()["meta"]["resolution"] == 128
    assert answer.json()["meta"]["remove_bg"] is True


def test_multipart_body_is_refused_with_the_reason(serve):
    answer = serve().post(START, files={"image": b"," * 20_000})
    assert answer.status_code == 400
    assert "multipart/form-data" in answer.json()["message"]


def test_form_body_with_a_list_is_accepted(serve, of_views):
    client = serve(wait=20.0, **of_views)
    fields = [("multi_image", "yes"), *[("image[]", image())] * 6]
    content = urllib.parse.urlencode(fields)
    answer = client.post(START, content=content, headers={"Content-Type": FORM}).json()
    assert answer["status"] == "success", answer


@pytest.mark.parametrize(
    "body", [{"image": image()}, {"init_image": image()}], ids=["image", "init_image"]
)
def test_body_with_null_fields_uses_their_defaults(serve, body):
    answer = serve(wait=20.0).post(START, json=dict.fromkeys(ImageTo3DRequest.model_fields) | body)
    assert answer.json()["status"] == "success", answer.text


def test_body_with_null_in_hunyuan_fields_and_cameras_is_accepted(serve, of_views):
    client = serve(wait=20.0, **of_views)
    fields = dict.fromkeys(("text", "texture", "seed", "octree_resolution", "face_count", "type"))
    assert client.post("/send", json=fields | {"image": image()}).status_code == 200
    camera = {"azimuth": 0, "elevation": 10, "distance": None, "fov": None}
    body = {"image": [image()], "multi_image": True, "cameras": [camera]}
    assert client.post(START, json=body).json()["status"] == "success"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"track_id": "\ud800"}, ""),
        ({"track_id": "x" * 1001}, "track_id"),
        ({"track_id": 10**400}, "track_id"),
        ({"webhook": "http://xn--a/"}, "webhook"),
        ({"webhook": "http://127.0.0.1:99999/"}, "webhook"),
        ({"webhook": "http://[::1/"}, "webhook"),
        ({"webhook": "//host/"}, "webhook"),
        ({"image": "http://127.0.0.1:99999/"}, ""),
        ({"image": "http://xn--a/"}, ""),
        ({"image": "http://[::1/"}, ""),
        ({"image": "http://\ud800/"}, ""),
        ({"model_id": "\ud800"}, ""),
    ],
    ids=str,
)
def test_malformed_text_is_refused_before_a_job_is_queued(serve, change, word):
    client = serve()
    body = json.dumps({"image": image()} | change).encode()
    answer = client.post(START, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert word in answer.json()["message"]
    assert "image_to_3d_jobs_submitted_total 0.0" in client.get("/metrics").text


def _post(app: Any, path: str, chunks: Any, **headers: str) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            return await client.post(path, content=chunks, headers=headers)

    return asyncio.run(run())


class Endless:
    """A request body that counts the bytes that were read."""

    def __init__(self, chunk: bytes, pause_s: float = 0.0) -> None:
        self.chunk, self.pause_s, self.sent = chunk, pause_s, 0

    async def __aiter__(self):
        for _ in range(1000):
            yield self.chunk
            self.sent += len(self.chunk)
            await asyncio.sleep(self.pause_s)


@pytest.mark.parametrize(
    ("path", "most"), [(START, 28 * 2**20), (UPLOAD, 28 * 2**20), (f"{FETCH}/1", 64 * 2**10)]
)
def test_body_over_the_limit_is_413(serve, path, most):
    client = serve()
    answer = client.post(path, content=b" " * (most + 1))
    assert answer.status_code == 413
    assert answer.json()["status"] == "error"
    answer = _post(client.app, path, Endless(b" " * 2**20))
    assert answer.status_code == 413


def test_body_of_many_values_is_refused_with_little_memory(serve):
    client = serve()
    body = b"[" + b"[]," * (9 * 2**20)
    client.get("/health")
    tracemalloc.start()
    answer = client.post(START, content=body, headers={"Content-Type": "application/json"})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert answer.status_code == 413
    assert peak < 40 * 2**20


def test_key_in_the_header_is_checked_before_the_body_is_read(serve):
    client = serve(keys=KEYS)
    body = Endless(b"x" * 1000)
    answer = _post(client.app, START, body, Authorization="Bearer two", Expect="100-continue")
    assert answer.status_code == 401
    assert body.sent <= 1000


def test_key_in_the_body_is_checked_before_the_rest_of_it(serve):
    client = serve(keys=KEYS)
    assert client.post(START, json={"key": "two", "resolution": "many"}).status_code == 401
    assert client.post(START, json={"key": "one", "resolution": "many"}).status_code == 400
    assert client.post(START, json={"key": None, "image": image()}).status_code == 401
    assert client.post(START, json={"key": ["one"], "image": image()}).status_code == 401


def test_key_in_the_header_is_accepted_in_either_case(serve):
    client = serve(keys=KEYS)
    for scheme in ("Bearer", "bearer"):
        headers = {"Authorization": f"{scheme} one"}
        assert client.post(f"{FETCH}/1", headers=headers).status_code == 404
    basic = {"Authorization": "Basic b25lOm9uZQ=="}
    assert client.post(f"{FETCH}/1", headers=basic, json={"key": "one"}).status_code == 404


def test_read_of_too_many_bodies_at_once_refuses_some():
    reader = BodyReader(Keys([]), max_held_bytes=4 * 2**20)
    size, chunk = 2**20, 2**14

    async def read() -> int:
        left = size

        async def receive() -> dict[str, Any]:
            nonlocal left
            await asyncio.sleep(0)
            left -= chunk
            return {"type": "http.request", "body": b" " * chunk, "more_body": left > 0}

        try:
            await reader.read(Request({"type": "http", "headers": []}, receive), ImageTo3DRequest)
        except ApiError as error:
            return error.status
        raise AssertionError

    async def run() -> list[int]:
        return await asyncio.gather(*(read() for _ in range(16)))

    for _ in range(2):
        statuses = asyncio.run(run())
        assert set(statuses) == {400, 503}
        assert statuses.count(400) >= 3, (
            "complete bodies are refused only because they have no image"
        )


def test_body_that_arrives_slowly_is_408(serve):
    client = serve(body_timeout_s=0.2)
    began = time.monotonic()
    answer = _post(client.app, START, Endless(b" ", 0.05))
    assert answer.status_code == 408
    assert time.monotonic() - began < 15
