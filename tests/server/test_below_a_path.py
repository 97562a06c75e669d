"""A server behind a proxy that publishes it under a path and strips that path."""

from __future__ import annotations

import pytest

from .conftest import START, image

PUBLIC = "https://meshes.example/3d"


@pytest.fixture
def client(serve):
    return serve(wait=20.0, public_url=f"{PUBLIC}/", no_page=False)


def _stripped(link: str) -> str:
    assert link.startswith(f"{PUBLIC}/")
    return link.removeprefix(PUBLIC)


def test_start_accepts_the_public_link_of_an_upload(client):
    upload = client.post("/api/v6/base64_to_url", json={"base64_string": image()}).json()
    (link,) = upload["output"]
    assert client.get(_stripped(link)).content.startswith(b"\x89PNG")
    answer = client.post(START, json={"image": link}).json()
    assert answer["status"] == "success", answer
    assert client.get(_stripped(answer["output"][0])).status_code == 200


def test_start_with_an_expired_upload_is_refused(client):
    link = f"{PUBLIC}/files/{'0' * 32}/upload"
    answer = client.post(START, json={"image": link})
    assert answer.status_code == 400
    assert "upload it again" in answer.json()["message"]


def test_reference_and_page_link_below_the_path(client):
    assert 'href="/3d/openapi.json"' in client.get("/docs").text
    assert "POST /3d/api/v6/3d/image_to_3d" in client.get("/docs").text
    assert '<base href="/3d/">' in client.get("/").text


def test_requests_that_keep_the_path_are_answered(client):
    assert client.get("/3d/health").status_code == 200
