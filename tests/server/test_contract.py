"""The requests of ModelsLab's documentation get answers with the documented keys and types.

Source: ModelsLab's public documentation of the v6 API.
"""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..comfyui.browser import CHROMIUM
from .conftest import START, Running, ended, image

REQUEST = {
    "key": "your_api_key",
    "model_id": "photo",  # "instantmesh" in the documentation; that model needs weights
    "image": image(),
    "render": False,
    "foreground_ratio": 0.85,
    "remove_bg": True,
    "resolution": 256,
    "chunk_size": 8192,
    "seed": 0,
    "temp": "no",
}
NEWER_REQUEST = {
    "key": "your_api_key",
    "init_image": image(),
    "multi_image": False,
    "ss_guidance_strength": 7.5,
    "ss_sampling_steps": 12,
    "slat_guidance_strength": 3.0,
    "slat_sampling_steps": 12,
    "mesh_simplify": 0.9,
    "output_format": "glb",
    "resolution": 256,
    "webhook": None,
    "track_id": None,
    "temp": "no",
}
META = {
    "chunk_size": 8192,
    "file_prefix": "...",
    "foreground_ratio": ".85",
    "image": "https://...",
    "remove_bg": True,
    "render": False,
    "resolution": 256,
    "seed": 3480183101,
    "temp": "no",
}
SUCCESS = {
    "status": "success",
    "generationTime": 10.62,
    "id": 109655545,
    "output": ["https://.../x.obj"],
    "proxy_links": ["https://.../x.obj"],
    "meta": META,
}
QUEUED = {
    "status": "processing",
    "tip": "...",
    "eta": 10.0,
    "message": "...",
    "fetch_result": "https://...",
    "id": 1,
    "output": [],
    "meta": META,
}
UPLOADED = {"status": "success", "id": 1, "output": ["https://..."]}


def assert_same_form(answer: dict[str, Any], documented: dict[str, Any]) -> None:
    assert documented.keys() <= answer.keys()
    for name, value in documented.items():
        assert type(answer[name]) is type(value), name
        if isinstance(value, dict):
            assert_same_form(answer[name], value)
        elif isinstance(value, list):
            assert {type(each) for each in answer[name]} == {type(each) for each in value}, name
        elif isinstance(value, str) and value.startswith("https"):
            assert answer[name].startswith("http"), name


@pytest.mark.parametrize("request_body", [REQUEST, NEWER_REQUEST], ids=["seed page", "newer page"])
def test_answers_have_the_documented_keys_and_types(serve, request_body):
    client = serve()
    queued = client.post(START, json=request_body).json()
    assert_same_form(queued, QUEUED)
    done = ended(client, queued["id"], key="your_api_key")
    assert_same_form(done, SUCCESS)
    if request_body is REQUEST:
        varying = {"file_prefix", "image", "seed"}
        assert {k: done["meta"][k] for k in META.keys() - varying} == {
            k: META[k] for k in META.keys() - varying
        }


def test_result_file_is_named_by_its_prefix_and_old_links_work(serve):
    client = serve(wait=20.0)
    done = client.post(START, json=REQUEST).json()
    (link,) = done["output"]
    folder, _, name = link.rpartition("/")
    assert name == f"{done['meta']['file_prefix']}.obj"
    assert client.get(f"{folder}/mesh.obj").content == client.get(link).content
    assert client.get(f"{folder}/orbit.mp4").status_code == 404


def test_image_link_in_meta_returns_the_image(serve):
    client = serve(wait=20.0)
    done = client.post(START, json=REQUEST).json()
    assert client.get(done["meta"]["image"]).content.startswith(b"\x89PNG")


def test_upload_answers_as_documented(serve):
    client = serve()
    for path in ("/api/v6/base64_to_url", "/api/v6/3d/base64_to_url"):
        body = {"key": "your_api_key", "base64_string": image()}
        assert_same_form(client.post(path, json=body).json(), UPLOADED)


def test_unsupported_settings_are_refused_before_the_job(serve):
    answer = serve().post(START, json={**REQUEST, "steps": 4})
    assert (answer.status_code, answer.json()["status"]) == (400, "error")
    assert "leave out steps" in answer.json()["message"]


def test_failure_answers_as_documented(serve):
    answer = serve().post(START, json={**REQUEST, "image": "x"})
    assert_same_form(answer.json(), {"status": "error", "message": "..."})


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("kind", [["-H", "Content-Type: application/json"], []])
def test_documented_curl_command_gets_a_result(running_with, kind):
    server = running_with(wait=30.0)
    command = ["curl", "-s", "-X", "POST", f"{server.url}{START}", *kind, "-d", json.dumps(REQUEST)]
    said = subprocess.run(command, capture_output=True, timeout=60, check=True).stdout
    assert_same_form(json.loads(said), SUCCESS)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[str]:
    """A web page on another port."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "index.html").write_text("<!doctype html><title>Shop</title>")
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "shop")
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


_FETCH = """async ([url, body]) => {
    const raw = JSON.stringify(body);
    const headers = new Headers();
    headers.append("Content-Type", "application/json");
    const answer = await fetch(url, {method: "POST", headers, body: raw, redirect: "follow"});
    const result = await answer.json();
    const mesh = await fetch(result.output[0]);
    return [answer.status, result, await mesh.text()];
}"""


def _fetch_from(page_url: str, server: Running) -> Any:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as tools:
        try:
            browser = tools.chromium.launch(executable_path=CHROMIUM)
        except playwright.Error as error:
            pytest.skip(f"there is no Chromium: {error}".splitlines()[0])
        page = browser.new_page()
        page.goto(page_url)
        try:
            return page.evaluate(_FETCH, [f"{server.url}{START}", REQUEST])
        except playwright.Error as error:
            return str(error)
        finally:
            browser.close()


def test_documented_fetch_from_an_allowed_origin_gets_a_result(
    running_with: Callable[..., Running], shop: str
):
    status, result, mesh = _fetch_from(shop, running_with(wait=30.0, cors_origin=[shop]))
    assert status == 200
    assert_same_form(result, SUCCESS)
    assert "\nf " in mesh


def test_documented_fetch_from_another_origin_is_refused(running: Running, shop: str):
    assert "Failed to fetch" in _fetch_from(shop, running)
