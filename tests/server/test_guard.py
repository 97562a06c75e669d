"""Hosts and web pages that the server accepts."""

from __future__ import annotations

import json

import pytest

from .conftest import START, image

FOREIGN = {"Origin": "https://evil.example"}
ALLOWED = "https://shop.example"
PATHS = [START, "/api/v6/base64_to_url", "/generate", "/send", "/api/v6/3d/cancel/1", "/upload"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://testserver:81"])
def test_post_of_a_foreign_page_is_403(serve, path, origin):
    client = serve()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json"):
        body = json.dumps({"image": image(), "base64_string": image()})
        headers = {"Origin": origin, "Content-Type": kind}
        answer = client.post(path, content=body, headers=headers)
        assert answer.status_code == 403
        assert "--cors-origin" in answer.json()["message"]
    assert client.get("/health").json()["queued"] == 0


@pytest.mark.parametrize(
    "config",
    [{}, {"cors_origin": [ALLOWED]}, {"cors_origin": ["*"]}, {"public_url": f"{ALLOWED}/3d"}],
    ids=["own", "cors", "any", "public"],
)
def test_post_of_an_own_or_allowed_page_is_accepted(serve, config):
    client = serve(wait=20.0, **config)
    origin = ALLOWED if config else "http://testserver"
    answer = client.post(START, json={"image": image()}, headers={"Origin": origin})
    assert answer.json()["status"] == "success"


def test_cors_headers_come_with_the_option_only(serve):
    asks = {"Origin": ALLOWED, "Access-Control-Request-Method": "POST"}
    asks["Access-Control-Request-Headers"] = "authorization,content-type"
    assert "access-control-allow-origin" not in serve().options(START, headers=asks).headers


def test_cors_preflight_answer_and_error_are_readable_by_the_page(serve):
    client = serve(wait=20.0, cors_origin=[ALLOWED])
    asks = {"Origin": ALLOWED, "Access-Control-Request-Method": "POST"}
    asks["Access-Control-Request-Headers"] = "authorization,content-type"
    preflight = client.options(START, headers=asks)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == ALLOWED
    origin = {"Origin": ALLOWED}
    answer = client.post(START, json={"image": image()}, headers=origin)
    assert answer.headers["access-control-allow-origin"] == ALLOWED
    mesh = client.get(answer.json()["output"][0], headers=origin)
    assert mesh.headers["access-control-allow-origin"] == ALLOWED
    wrong = client.post(START, json={"image": "x"}, headers=origin)
    assert wrong.status_code == 400
    assert wrong.headers["access-control-allow-origin"] == ALLOWED
    other = client.options(START, headers=asks | FOREIGN)
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]:8001", "LOCALHOST:1"])
def test_host_of_this_machine_is_accepted(serve, host):
    client = serve(host="127.0.0.1")
    assert client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "[::2]", "[", ""])
def test_other_host_is_400(serve, host):
    client = serve(host="127.0.0.1")
    assert client.get("/health", headers={"Host": host}).status_code == 400


def test_host_check_stays_with_a_public_url(serve):
    client = serve(host="127.0.0.1", public_url="https://meshes.example/3d")
    for host, status in (("127.0.0.1", 200), ("meshes.example", 200), ("evil.example", 400)):
        assert client.get("/health", headers={"Host": host}).status_code == status


def test_every_answer_has_security_headers(serve):
    client = serve()
    for answer in (
        client.get("/health"),
        client.get("/nothing"),
        client.post(START, headers=FOREIGN),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/health", "/metrics", "/docs", "/openapi.json"])
def test_head_is_answered_like_get(serve, path):
    answer = serve().head(path)
    assert answer.status_code == 200


def test_head_of_a_file_has_its_length(serve):
    client = serve(wait=20.0)
    link = client.post(START, json={"image": image()}).json()["output"][0]
    assert client.head(link).headers["content-length"] == str(len(client.get(link).content))
    assert client.head(link.replace(".obj", ".mtl")).status_code == 404
