"""A real ComfyUI with this pack in it, and a client for what it says."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

PACK = Path(__file__).parents[2]
PACK_NAME = "ComfyUI-Image-to-3D"
#: Save Mesh's inputs that change nothing.
PLACE = {"up_axis": "y", "longest_side": 0.0, "pivot": "keep", "turn": 0.0}
START_SECONDS, RUN_SECONDS = 600, 300


def find_comfyui() -> Path | None:
    """ComfyUI's folder: COMFYUI_PATH, or where comfy-cli puts it."""
    folder = Path(os.environ.get("COMFYUI_PATH", "~/comfy/ComfyUI")).expanduser()
    return folder if (folder / "main.py").exists() else None


def python_of(comfyui: Path) -> str:
    """The interpreter that ComfyUI runs with: COMFYUI_PYTHON, its own environment, or this one."""
    own = [comfyui / name / "bin" / "python" for name in (".venv", "venv")]
    return os.environ.get("COMFYUI_PYTHON") or next(
        (str(p) for p in own if p.exists()), sys.executable
    )


@dataclass
class Run:
    """Result of one queued graph.

    Attributes:
        cached, executed: nodes that were taken from the cache, and that ran.
        progress: node to list of (value, maximum).
        previews: how many preview images came.
        error: the message that the user sees, or None.
        outputs: node to what the history says of it.
    """

    prompt_id: str
    cached: set[str] = field(default_factory=set)
    executed: list[str] = field(default_factory=list)
    progress: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    previews: list[bytes] = field(default_factory=list)
    error: str | None = None
    interrupted: bool = False
    outputs: dict[str, Any] = field(default_factory=dict)


class Server:
    """A running ComfyUI."""

    def __init__(self, url: str, base: Path) -> None:
        self.url, self.base = url, base
        self.http = httpx.Client(base_url=url, timeout=30)
        self._client = uuid.uuid4().hex

    @property
    def output(self) -> Path:
        return self.base / "output"

    @property
    def input(self) -> Path:
        return self.base / "input"

    @property
    def meshes_have_colors(self) -> bool:
        """True if this version's MESH has a place for colours."""
        comfyui = find_comfyui()
        assert comfyui is not None
        types = comfyui / "comfy_api" / "latest" / "_util" / "geometry_types.py"
        return types.exists() and "vertex_colors" in types.read_text()

    def object_info(self) -> dict[str, Any]:
        return self.http.get("/object_info").raise_for_status().json()

    def with_defaults(self, prompt: dict[str, Any]) -> dict[str, Any]:
        """The graph with the defaults of required widgets that other versions do not have."""
        known = self.object_info()
        filled = {}
        for key, node in prompt.items():
            required = known[node["class_type"]]["input"].get("required", {})
            defaults = {
                name: spec[1]["default"] if "default" in spec[1] else spec[1]["options"][0]["key"]
                for name, spec in required.items()
                if len(spec) > 1 and ("default" in spec[1] or spec[0] == "COMFY_DYNAMICCOMBO_V3")
            }
            filled[key] = node | {"inputs": defaults | node["inputs"]}
        return filled

    def run(self, prompt: dict[str, Any], interrupt_at: int | None = None) -> Run:
        """Queue a graph in API format and follow it to its end; interrupt it when some node has
        done so many steps.
        """
        with connect(
            f"{self.url.replace('http', 'ws')}/ws?clientId={self._client}", max_size=2**26
        ) as websocket:
            answer = self.http.post("/prompt", json={"prompt": prompt, "client_id": self._client})
            refused = [
                error["details"]
                for node in answer.json().get("node_errors", {}).values()
                for error in node["errors"]
            ]
            if answer.status_code != 200:
                assert refused, answer.text
                return Run("", error=refused[0])
            run = Run(answer.json()["prompt_id"])
            self._follow(websocket, run, interrupt_at)
            run.error = run.error or next(iter(refused), None)
        while not (history := self.http.get(f"/history/{run.prompt_id}").raise_for_status().json()):
            time.sleep(0.05)  # the last message comes before the history is written
        run.outputs = history[run.prompt_id]["outputs"]
        return run

    def _follow(self, websocket: ClientConnection, run: Run, interrupt_at: int | None) -> None:
        deadline = time.monotonic() + RUN_SECONDS
        while True:
            message = websocket.recv(timeout=deadline - time.monotonic())
            if isinstance(message, bytes):
                run.previews.append(message)
                continue
            event = json.loads(message)
            data = event["data"]
            if data.get("prompt_id") != run.prompt_id:
                continue
            match event["type"]:
                case "execution_cached":
                    run.cached = set(data["nodes"])
                case "executing" if data["node"] is None:
                    return
                case "executing":
                    run.executed.append(data["node"])
                case "progress":
                    run.progress.setdefault(data["node"], []).append((data["value"], data["max"]))
                    if (
                        interrupt_at is not None
                        and data["value"] >= interrupt_at
                        and data["max"] > 1
                    ):
                        self.http.post("/interrupt")
                        interrupt_at = None
                case "execution_error":
                    run.error = data["exception_message"].strip()
                    return
                case "execution_interrupted":
                    run.interrupted = True
                    return


class CannotStart(Exception):
    """A ComfyUI that is there and does not start, with the end of its log."""


@contextmanager
def start_server(
    base: Path,
    environment: dict[str, str] | None = None,
    options: tuple[str, ...] = (),
    pack: Path = PACK,
    name: str = PACK_NAME,
) -> Iterator[Server]:
    """A ComfyUI on a free port whose base folder holds nothing but this pack, under that name."""
    comfyui = find_comfyui()
    assert comfyui is not None
    for folder in ("custom_nodes", "models", "input", "output", "user"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    (base / "custom_nodes" / name).symlink_to(pack)
    shutil.copyfile(
        Path(__file__).parent / "nodes_for_tests.py", base / "custom_nodes" / "nodes_for_tests.py"
    )
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        python_of(comfyui),
        "main.py",
        "--cpu",
        "--listen",
        "127.0.0.1",
        "--port",
        str(port),
        "--base-directory",
        str(base),
    ]
    command += ["--disable-auto-launch", "--database-url", "sqlite:///:memory:", *options]
    # What tries to download meets a closed door at once, instead of waiting for a network.
    closed = {"https_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1,localhost"}
    variables = os.environ | {"HF_HUB_OFFLINE": "1"} | closed | (environment or {})
    with (base / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=comfyui, env=variables, stdout=log, stderr=subprocess.STDOUT
        )
        server = Server(f"http://127.0.0.1:{port}", base)
        try:
            _wait(server, process)
            yield server
        finally:
            server.http.close()
            process.terminate()
            process.wait(timeout=30)


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            server.http.get("/system_stats").raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.5)
    lines = (server.base / "server.log").read_text().strip().splitlines()
    raise CannotStart(
        f"ComfyUI at {find_comfyui()} does not start: {' | '.join(lines[-3:])[-600:]}"
    )
