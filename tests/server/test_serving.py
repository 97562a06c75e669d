"""Start and stop of the server."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from pipelines.cli.serve import main
from pipelines.errors import EnvironmentProblem, InvalidInput
from pipelines.server.listening import address_of, bind
from pipelines.server.serving import serve
from pipelines.settings import ServerSettings

from .conftest import ROOT, START, Running, image, unused_port
from .makers import SLOW

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and signals of POSIX")


def _refused(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pipelines", "serve", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stderr


@pytest.mark.parametrize("folder", ["/proc/nope", __file__], ids=["missing", "file"])
def test_serve_with_an_unusable_folder_prints_one_sentence(folder):
    code, said = _refused("--no-page", "--port", str(unused_port()), "--folder", folder)
    assert code == 2
    assert len(said.splitlines()) == 1
    assert "--folder" in said


def test_serve_with_a_damaged_database_names_the_option(tmp_path):
    (tmp_path / "jobs.sqlite3").write_text("This is no database. " * 100)
    with pytest.raises(EnvironmentProblem, match="--folder"):
        serve(ServerSettings(folder=tmp_path, port=unused_port()))


@pytest.mark.parametrize("port", [99999, -1])
def test_server_settings_refuse_an_invalid_port(port):
    with pytest.raises(InvalidInput, match=f"port must be .* between 0 and 65,535, got {port}"):
        ServerSettings(port=port)


def test_serve_with_a_port_in_use_creates_no_store(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(EnvironmentProblem, match="--port"):
            serve(ServerSettings(folder=tmp_path / "server", port=port))
    assert not (tmp_path / "server").exists()


def test_serve_with_an_unknown_host_names_the_option(tmp_path):
    options = ServerSettings(host="nobody.invalid", key=["one"], folder=tmp_path / "server")
    with pytest.raises(EnvironmentProblem, match="--host"):
        serve(options)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"host": "0.0.0.0"}, "IMAGE_TO_3D_KEY"),
        ({"key": [""]}, "--key"),
        ({"model": "huge"}, "huge"),
        ({"allow_models": ["huge"]}, "huge"),
        ({"license": "commercial", "allow_models": ["instant-mesh-base"]}, "CC-BY-NC"),
        ({"cors_origin": ["https://shop.example/page"]}, "--cors-origin"),
        ({"cors_origin": ["shop.example"]}, "--cors-origin"),
        ({"public_url": "meshes.example"}, "--public-url"),
    ],
    ids=str,
)
def test_serve_refuses_invalid_options(tmp_path, options, word):
    with pytest.raises(InvalidInput, match=word):
        serve(ServerSettings(folder=tmp_path / "server", **options))
    assert not (tmp_path / "server").exists()


@pytest.mark.parametrize("content", ["", "not a digest\n"], ids=["empty", "malformed"])
def test_serve_refuses_an_empty_or_malformed_keys_file(tmp_path, capsys, content):
    (tmp_path / "keys.txt").write_text(content)
    assert main(["--keys", str(tmp_path / "keys.txt"), "--folder", str(tmp_path / "server")]) == 2
    assert "keys.txt" in capsys.readouterr().err


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:{}/"),
        ("localhost", "http://localhost:{}/"),
        pytest.param(
            "::1",
            "http://[::1]:{}/",
            marks=pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6"),
        ),
    ],
)
def test_bind_listens_on_the_address_that_it_names(host, address):
    sockets = bind(host, 0)
    try:
        port = sockets[0].getsockname()[1]
        assert {each.getsockname()[1] for each in sockets} == {port}
        assert address_of(host, sockets) == address.format(port)
        socket.create_connection((host, port), timeout=5).close()
    finally:
        for each in sockets:
            each.close()


@pytest.fixture
def started(tmp_path):
    """Starts the server as a user does: `started("--option", ...)`."""
    servers = []

    def start(*options: str) -> Running:
        folder, port = tmp_path / "server", unused_port()
        command = ["-m", "pipelines", "serve", "--folder", str(folder), "--port", str(port)]
        servers.append(Running(folder, port, [*command, "--device", "cpu", *options]))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_serve_makes_folder_and_files_private(started, tmp_path):
    (tmp_path / "server" / "files").mkdir(parents=True, mode=0o755)
    server = started("--wait", "60", "--no-page")
    answer = httpx.post(f"{server.url}{START}", json={"image": image()}, timeout=90).json()
    assert answer["status"] in ("success", "failed"), answer
    paths = [server.folder, *server.folder.rglob("*")]
    assert any(path.name == "picture-0" for path in paths)
    for path in paths:
        assert _mode(path) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("wait", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_server_stops_within_seconds_while_requests_wait(running_with, wait):
    server = running_with(wait=60.0)
    body = {"image": image(), "resolution": SLOW, "octree_resolution": SLOW}
    answers: list[int | str] = []

    def post(path: str) -> None:
        try:
            answers.append(httpx.post(f"{server.url}{path}", json=body, timeout=60).status_code)
        except httpx.HTTPError as error:
            answers.append(type(error).__name__)

    threads = [threading.Thread(target=post, args=(path,)) for path in (START, "/generate")]
    for thread in threads:
        thread.start()
    with httpx.Client() as idle:  # like an open page, it keeps its connection
        while idle.get(f"{server.url}/health").json()["running"] < 2:
            time.sleep(0.1)
        began = time.monotonic()
        os.kill(server.process.pid, wait)
        server.process.wait(timeout=15)
    assert time.monotonic() - began < 8
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200, 503], "both requests get an answer"
