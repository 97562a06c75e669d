"""The page's files; test_clients.py tests it in a browser."""

from __future__ import annotations

import json
import re

import pytest

from pipelines.server.auth import digest


def _settings(text):
    return json.loads(re.search(r'id="settings">(.*?)</script>', text).group(1))


def test_page_knows_models_and_whether_a_key_is_needed(serve):
    client = serve(no_page=False, keys=frozenset({digest("one")}))
    settings = _settings(client.get("/").text)
    assert settings["needs_key"] is True
    assert settings["model"] in settings["models"]
    assert settings["resolution"] == [32, 512]


def test_page_loads_nothing_from_elsewhere(serve):
    client = serve(no_page=False)
    page = client.get("/")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for name in re.findall(r'(?:src|href)="(page/[^"]+)"', page.text):
        assert "://" not in client.get(f"/{name}").text


@pytest.mark.parametrize("name", ["index.html", "app.py", "%2e%2e/app.py", "..%2fapp.py", ""])
def test_page_folder_serves_no_other_files(serve, name):
    assert serve(no_page=False).get(f"/page/{name}").status_code == 404


def test_server_with_no_page_has_no_page(serve):
    assert serve().get("/").status_code == 404
