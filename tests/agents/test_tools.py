"""The tools, through the SDK's own client: in memory, and once over stdio with the model photo."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("mcp")
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from pipelines.agents.folders import Folders
from pipelines.agents.jobs import AgentJob
from pipelines.agents.tools import Tools, make_server
from pipelines.cli import main
from pipelines.multiview.photographs import Viewpoints
from pipelines.settings import JobSettings, LoadSettings, declared

ROOT = Path(__file__).parents[2]
#: A sitecustomize module with which worker processes print to stdout, which the protocol uses.
_NOISE = "import sys\nif '--multiprocessing-fork' in sys.orig_argv: print('noise', flush=True)\n"


class NoJobs:
    """Jobs that never start."""

    def __init__(self):
        self.started = []

    def start(self, *values):
        self.started.append(AgentJob("1", *values))
        return self.started[-1]

    def get(self, id):
        return self.started[int(id) - 1]

    def last_seconds(self, model):
        return None


@pytest.fixture
def call(tmp_path, image_path):
    """A function that calls a tool and returns its result; its attribute `jobs` has the jobs."""
    folders, jobs = Folders([tmp_path]), NoJobs()
    server = make_server(Tools(folders, jobs, LoadSettings(device="cpu")), folders)

    def call(name, **arguments):
        async def ask():
            async with Client(server) as client:
                return await client.call_tool(name, arguments)

        return asyncio.run(ask())

    call.jobs = jobs
    return call


def test_list_models_describes_all_models(call):
    models = {one["name"]: one for one in call("list_models").structured_content["result"]}
    assert models["photo"] == {
        "name": "photo",
        "license": "Apache-2.0",
        "gigabytes": 0.0,
        "downloaded": True,
        "expected_time": "2 s",
    }
    assert models["triposr"]["license"] == "MIT"
    assert models["triposr"]["gigabytes"] == 1.7


def test_start_returns_a_job_at_once(call, image_path):
    made = call("start", image="disc.png", settings={"model": "photo", "max_faces": 500})
    assert made.structured_content["state"] == "queued"
    (job,) = call.jobs.started
    assert (job.images, job.cameras) == ([image_path], None)
    assert job.folder == image_path.parent / "disc"
    assert (job.settings.output.max_faces, job.settings.output.previews) == (500, True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"colour": 1}, "There is no setting 'colour'"),
        ({"previews": False}, "There is no setting 'previews'"),
        ({"resolution": 9999}, "resolution must be a whole number between 32 and 512, got 9999."),
        ({"model": "photo", "steps": 3}, "leave out steps"),
        ({"model": "triposr"}, "image-to-3d download triposr"),
    ],
    ids=str,
)
def test_start_with_invalid_settings_is_refused_without_a_folder(
    call, image_path, settings, message, monkeypatch
):
    monkeypatch.setenv("HF_HUB_CACHE", str(image_path.parent))
    refused = call("start", image="disc.png", settings=settings)
    assert refused.is_error
    assert message in refused.content[0].text
    assert [path.name for path in image_path.parent.iterdir()] == ["disc.png"]


def test_start_with_several_sides_queues_one_job(call, image_path, monkeypatch):
    monkeypatch.setattr("pipelines.agents.tools.missing", lambda *_: [])
    settings = {"model": "instant-mesh-base", "elevation": 10}
    call(
        "start", image="disc.png", settings=settings, sides={"left": "disc.png", "200": "disc.png"}
    )
    (job,) = call.jobs.started
    assert job.images == [image_path] * 3
    assert job.cameras == Viewpoints((0.0, 90.0, 200.0), 10.0)


@pytest.mark.parametrize(
    ("model", "sides", "message"),
    [
        ("photo", {"left": "disc.png"}, "photo takes one image without cameras, got 2"),
        ("instant-mesh-base", {"top": "disc.png"}, "A side must be front, left, back, right"),
        ("instant-mesh-base", {"left": "/etc/passwd"}, "outside the folders"),
    ],
    ids=str,
)
def test_start_with_invalid_sides_is_refused(call, model, sides, message, monkeypatch):
    monkeypatch.setattr("pipelines.agents.tools.missing", lambda *_: [])
    refused = call("start", image="disc.png", settings={"model": model}, sides=sides)
    assert message in refused.content[0].text
    assert not call.jobs.started


def test_start_outside_the_folders_is_refused(call):
    refused = call("start", image="/etc/passwd")
    assert refused.is_error
    assert "outside the folders that the user allowed" in refused.content[0].text


def test_start_publishes_every_setting(call, tmp_path):
    async def schema():
        folders = Folders([tmp_path])
        server = make_server(Tools(folders, NoJobs(), LoadSettings(device="cpu")), folders)
        async with Client(server) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            return tools["start"].input_schema["properties"]["settings"]["properties"]

    published = asyncio.run(schema())
    assert published.keys() == declared(JobSettings).keys() - {"previews"}
    assert published["resolution"]["maximum"] == 512


def test_result_of_a_queued_job_is_refused(call):
    call("start", image="disc.png", settings={"model": "photo"})
    refused = call("result", job="1")
    assert refused.is_error
    assert "Job 1 is queued: call status." in refused.content[0].text


@pytest.mark.parametrize("folder", ["missing", "{}"])
def test_mcp_without_a_usable_folder_exits_2(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pipelines.agents.tools.make_server", pytest.fail)
    (tmp_path / "file").touch()
    assert main(["mcp", folder.format(tmp_path / "file"), "--device", "cpu"]) == 2
    assert "There is no folder" in capsys.readouterr().err


def test_mcp_over_stdio_returns_files_and_an_image(tmp_path, image_path):
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / "sitecustomize.py").write_text(_NOISE)
    unexpected = []

    async def handle(message):
        unexpected.append(message)

    async def session():
        server = StdioServerParameters(
            command=sys.executable,
            args=["-m", "pipelines", "mcp", str(tmp_path), "--device", "cpu"],
            env={"PYTHONPATH": os.pathsep.join([str(tmp_path / "noise"), str(ROOT)])},
            cwd=tmp_path,
        )
        async with Client(stdio_client(server), message_handler=handle) as client:
            settings = {"model": "photo", "resolution": 32}
            started = await client.call_tool(
                "start", {"image": image_path.name, "settings": settings}
            )
            job = started.structured_content["job"]
            status = await client.call_tool("status", {"job": job, "wait_s": 50})
            return status.structured_content, await client.call_tool("result", {"job": job})

    status, result = asyncio.run(session())
    assert (status["state"], status["message"], unexpected) == ("done", "", [])
    text, image = result.content
    assert '"license": "Apache-2.0"' in text.text
    assert str(tmp_path / "disc" / "disc.obj") in text.text
    assert (tmp_path / "disc" / "disc.obj").is_file()
    assert Image.open(io.BytesIO(base64.b64decode(image.data))).size == (1152, 384)
