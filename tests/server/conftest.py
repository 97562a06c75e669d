"""A server with fake workers, in the test's own process."""

from __future__ import annotations

import base64
import importlib
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the server's packages are not installed")

import httpx
from fastapi.testclient import TestClient
from PIL import Image

from pipelines.server.app import create_app
from pipelines.server.jobs import Jobs
from pipelines.server.service import Service
from pipelines.server.workers import Workers
from pipelines.settings import ServerSettings

# Imported by its absolute name, with which a worker process unpickles its functions.
fake = importlib.import_module("tests.server.makers").fake

START, FETCH = "/api/v6/3d/image_to_3d", "/api/v6/3d/fetch"
Serve = Callable[..., TestClient]
ROOT = Path(__file__).parents[2]


def image(color: str = "red") -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), color).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def ended(client: TestClient, id: int, **body: Any) -> dict[str, Any]:
    """Wait until a job has ended, and return the server's answer."""
    for _ in range(400):
        answer = client.post(f"{FETCH}/{id}", json=body).json()
        if answer["status"] != "processing":
            return answer
        time.sleep(0.05)
    raise AssertionError(answer)


@pytest.fixture
def of_views(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Options of a server whose model takes views, as if its weights were here."""
    monkeypatch.setattr("pipelines.weights.inventory.missing", lambda *_: [])
    return {"model": "instant-mesh-base"}


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts servers: `serve(workers=1, limit=..., queue=..., wait=..., ...)`."""
    running: list[tuple[TestClient, Jobs]] = []

    def start(
        *,
        workers: int = 1,
        maker: Any = fake,
        limit: float = 30.0,
        queue: int = 32,
        keep: float = 3600.0,
        keys: frozenset[str] = frozenset(),
        body_timeout_s: float = 60.0,
        **more: Any,
    ) -> TestClient:
        jobs = Jobs(tmp_path / "server", limit=queue, keep=keep)
        settings = ServerSettings(**{"wait": 0, "host": "0.0.0.0", "no_page": True} | more)
        pool = Workers(jobs, [maker] * workers, limit=limit)
        service = Service(jobs, pool, settings, keys=keys, body_timeout_s=body_timeout_s)
        client = TestClient(create_app(service), raise_server_exceptions=False)
        client.__enter__()
        running.append((client, jobs))
        return client

    yield start
    for client, jobs in running:
        client.__exit__(None, None, None)
        jobs.close()


_FAKE = """
import json
import sys
from pathlib import Path
from pipelines.server.app import create_app
from pipelines.server.jobs import Jobs
from pipelines.server.listening import bind, run
from pipelines.server.service import Service
from pipelines.server.workers import Workers
from pipelines.settings import ServerSettings
from tests.server.makers import fake
if __name__ == "__main__":
    jobs = Jobs(Path(sys.argv[1]))
    settings = ServerSettings(**{"wait": 0, "no_page": True} | json.loads(sys.argv[3]))
    service = Service(jobs, Workers(jobs, [fake] * 2), settings)
    run(create_app(service), bind("127.0.0.1", int(sys.argv[2])), service.closing)
"""


class Running:
    """A server in a process of its own."""

    def __init__(self, folder: Path, port: int, command: Sequence[str]) -> None:
        self.folder, self.url = folder, f"http://127.0.0.1:{port}"
        self._command = [sys.executable, *command]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        for _ in range(900):
            try:
                httpx.get(f"{self.url}/health")
                return
            except httpx.HTTPError:
                time.sleep(0.1)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def running_with(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts a server with two fake workers: `running_with(wait=..., cors_origin=..., ...)`."""
    (tmp_path / "serve.py").write_text(_FAKE)
    servers: list[Running] = []

    def start(**config: Any) -> Running:
        folder, port = tmp_path / "server", unused_port()
        command = [str(tmp_path / "serve.py"), str(folder), str(port), json.dumps(config)]
        servers.append(Running(folder, port, command))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def running(running_with: Callable[..., Running]) -> Running:
    """A server in its own process, with two fake workers."""
    return running_with()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server as a user starts it, with the embedded model and the page."""
    folder, port = tmp_path_factory.mktemp("real") / "server", unused_port()
    options = ["--folder", str(folder), "--port", str(port), "--wait", "60", "--device", "cpu"]
    server = Running(folder, port, ["-m", "pipelines", "serve", *options])
    yield server
    server.kill()
