"""Downloads from a local server; the URL's path selects how the server behaves."""

from __future__ import annotations

import gzip
import http.server
import threading

import httpx
import pytest

from pipelines.catalogue import fetching
from pipelines.catalogue.fetching import downloaded
from pipelines.catalogue.items import find_items
from pipelines.errors import UnreadableImage

CONTENT = bytes(range(256)) * 4


class _Handler(http.server.BaseHTTPRequestHandler):
    asked: list[str]  # of each server
    release: threading.Event

    def do_GET(self):
        self.asked.append(self.path)
        name = self.path.partition("?")[0].strip("/")
        status = {"busy": 503, "down": 503, "forbidden": 403, "gone": 404, "moved": 302}.get(
            name, 200
        )
        if name == "busy" and len(self.asked) == 3:
            status = 200
        self.send_response(status)
        content = b"id,picture\na,b.png\n" if name == "list.csv" else CONTENT
        content = gzip.compress(content) if name == "gzip" else content
        length = len(content) * (1 + (name in ("stalls", "short", "moved")))
        if name != "unknown":
            self.send_header("Content-Length", str(length))
        if name in ("compressed", "gzip"):
            self.send_header("Content-Encoding", "gzip")
        if name == "moved":
            self.send_header("Location", "/plain.png")
        self.end_headers()
        self.wfile.write(content)
        if name in ("stalls", "moved"):
            self.wfile.flush()
            self.release.wait(30)

    def log_message(self, *words):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetching, "_PAUSE_S", 0.0)
    monkeypatch.setattr(fetching, "_TIMEOUT", httpx.Timeout(0.5))
    handler = type("Handler", (_Handler,), {"asked": [], "release": threading.Event()})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.url, running.asked = f"http://127.0.0.1:{running.server_port}", handler.asked
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        handler.release.set()
        running.shutdown()


@pytest.mark.parametrize("name", ["plain.png", "unknown", "busy", "gzip", "moved"])
def test_downloaded_returns_the_file(server, name):
    with downloaded(f"{server.url}/{name}") as path:
        assert path.read_bytes() == CONTENT
    assert not path.exists()


def test_downloaded_sends_the_address_as_written(server):
    address = "/a%2Fb.png?X-Amz-Credential=AK%2F2025&sig=a%3d+b"
    with downloaded(f"{server.url}{address}") as path:
        assert path.name == "a-2Fb.png"
    assert server.asked == [address]


@pytest.mark.parametrize(
    ("name", "message", "requests"),
    [
        ("forbidden?sig=a", "HTTP 403 Forbidden", 1),
        ("gone", "HTTP 404 Not Found", 1),
        ("down", "HTTP 503 Service Unavailable", 3),
        ("stalls", "the server did not answer for", 3),
        ("short", "the connection failed", 3),
        ("compressed", "damaged encoding", 1),
    ],
)
def test_downloaded_failure_is_one_sentence(server, name, message, requests):
    address = f"{server.url}/{name}"
    with pytest.raises(UnreadableImage) as caught, downloaded(address):
        pass
    assert str(caught.value).startswith(f"could not download {address}: {message}")
    assert "\n" not in str(caught.value)
    assert len(server.asked) == requests


def test_downloaded_without_a_server_is_one_sentence(monkeypatch):
    monkeypatch.setattr(fetching, "_PAUSE_S", 0.0)
    with (
        pytest.raises(UnreadableImage, match=r"could not download .*: the connection failed"),
        downloaded("http://127.0.0.1:9/a.png"),
    ):
        pass


def test_downloaded_file_over_the_limit_is_refused(server, monkeypatch):
    monkeypatch.setattr(fetching, "_MAX_BYTES", 1000)
    with (
        pytest.raises(UnreadableImage, match="it is larger than"),
        downloaded(f"{server.url}/plain.png"),
    ):
        pass


@pytest.mark.parametrize("address", ["http://[::1", "http://", "http://exa mple/\ud800"])
def test_downloaded_malformed_address_is_one_sentence(address):
    with pytest.raises(UnreadableImage, match="could not download"), downloaded(address):
        pass


def test_downloaded_from_fsspec_returns_the_file(tmp_path):
    (tmp_path / "a.png").write_bytes(CONTENT)
    with downloaded(f"file://{tmp_path}/a.png") as path:
        assert path.read_bytes() == CONTENT
    with (
        pytest.raises(UnreadableImage, match=r"gone\.png: FileNotFoundError: "),
        downloaded(f"file://{tmp_path}/gone.png"),
    ):
        pass


def test_find_items_of_a_list_at_a_web_url_reads_it(server):
    assert [item.id for item in find_items([f"{server.url}/list.csv"])] == ["a"]
