"""The ModelsLab node in a real ComfyUI, against a service on this machine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import trimesh

from ..modelslab.server import KEY, Reply, Service
from .server import PLACE, Server, start_server

START = "/api/3d/image_to_3d"


@pytest.fixture(scope="module")
def service(comfyui: Server) -> Iterator[Service]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    made = Service()
    asyncio.run_coroutine_threadsafe(made.__aenter__(), loop).result(10)
    run = comfyui.run(
        {"1": {"class_type": "Test_LocalModelsLab", "inputs": {"api": f"{made.url}/api"}}}
    )
    assert run.error is None, run.error
    yield made
    asyncio.run_coroutine_threadsafe(made.__aexit__(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def _graph(prefix: str, **inputs: Any) -> dict[str, Any]:
    values = {
        "image": ["load", 0],
        "remove_bg": True,
        "foreground_ratio": 0.85,
        "resolution": 256,
        "chunk_size": 8192,
        "seed": 1,
        "render": False,
        "temp": False,
        "output_format": "obj",
        "model_id": "instantmesh",
        "job_id": "",
        "filename_prefix": prefix,
    }
    return {
        "load": {"class_type": "LoadImage", "inputs": {"image": "image-to-3d-demo.png"}},
        "cloud": {"class_type": "ImageTo3D_ModelsLab", "inputs": values | inputs},
        "save": {
            "class_type": "ImageTo3D_SaveMesh",
            "inputs": {
                "mesh": ["cloud", 0],
                "filename_prefix": f"{prefix}-again",
                "format": "glb",
                **PLACE,
            },
        },
        "view": {"class_type": "Preview3D", "inputs": {"model_file": ["cloud", 1]}},
    }


def test_a_mesh_from_the_cloud_replaces_a_local_one_and_is_paid_for_once(
    comfyui: Server, service: Service
):
    service.answers[START] = [Reply(service.queued())]
    service.answers["/api/3d/fetch/7"] = [Reply(service.queued()), Reply(service.success())]
    run = comfyui.run(_graph("cloud/a"))
    assert run.error is None, run.error
    assert run.outputs["view"]["result"][0] == "cloud/a_00001-7.obj"
    (saved,) = run.outputs["save"]["3d"]
    mesh = trimesh.load(
        comfyui.output / saved["subfolder"] / saved["filename"], force="mesh", process=False
    )
    np.testing.assert_allclose(mesh.vertices.max(axis=0), [1, 2, 3])
    assert len(service.of(START)) == 1
    again = comfyui.run(_graph("cloud/a"))
    assert "cloud" in again.cached
    assert len(service.of(START)) == 1
    other = comfyui.run(_graph("cloud/a", seed=2))
    assert other.error is None
    assert [r.json["seed"] for r in service.of(START)] == [1, 2]


def test_a_batch_and_a_job_taken_up(comfyui: Server, service: Service):
    service.received.clear()
    service.answers[START] = [Reply(service.success(id=21))]
    service.answers["/api/3d/fetch/20"] = [Reply(service.success(id=20))]
    graph = _graph("cloud/batch", image=["two", 0], job_id="20", seed=50)
    graph["two"] = {
        "class_type": "ImageBatch",
        "inputs": {"image1": ["load", 0], "image2": ["load", 0]},
    }
    run = comfyui.run(graph)
    assert run.error is None, run.error
    assert len(run.outputs["save"]["3d"]) == 2
    assert len(service.of(START)) == 1
    assert sorted(p.name for p in (comfyui.output / "cloud").glob("batch_*.obj")) == [
        "batch_00001-20.obj",
        "batch_00002-21.obj",
    ]


def test_stop_and_errors(comfyui: Server, service: Service):
    service.answers[START] = [Reply({"status": "error", "message": f"Invalid API key {KEY}"})]
    run = comfyui.run(_graph("cloud/wrong", seed=10))
    assert (
        run.error
        == "ModelsLab rejects the API key: check it on modelslab.com. ModelsLab's message: Invalid"
        " API key <key>."
    )
    service.answers[START] = [Reply(service.queued())]
    service.answers["/api/3d/fetch/7"] = [Reply(service.queued(eta=100))]
    run = comfyui.run(_graph("cloud/stopped", seed=11), interrupt_at=1)
    assert run.interrupted
    service.answers["/api/3d/fetch/7"] = [Reply(service.success())]
    paid = len(service.of(START))
    run = comfyui.run(_graph("cloud/again", seed=11))
    assert run.error is None, run.error
    assert len(service.of(START)) == paid, "Run after a Stop takes the job up"


def test_two_nodes_of_one_prefix_keep_both_meshes(comfyui: Server, service: Service):
    service.answers[START] = [Reply(service.success(id=31)), Reply(service.success(id=32))]
    graph = _graph("cloud/same", seed=30)
    graph["more"] = {
        "class_type": "ImageTo3D_ModelsLab",
        "inputs": graph["cloud"]["inputs"] | {"seed": 31},
    }
    graph["see"] = {"class_type": "Preview3D", "inputs": {"model_file": ["more", 1]}}
    run = comfyui.run(graph)
    assert run.error is None, run.error
    names = [p.name for p in (comfyui.output / "cloud").glob("same_*.obj")]
    assert sorted(name.split("-")[1] for name in names) == ["31.obj", "32.obj"]


def test_a_video_goes_to_cores_nodes(comfyui: Server, service: Service):
    """Without one, what stands behind is not run, and the mesh is there all the same."""
    service.answers[START] = [Reply(service.success(id=41))]
    graph = _graph("cloud/film", seed=40)
    graph["film"] = {
        "class_type": "SaveVideo",
        "inputs": {
            "video": ["cloud", 4],
            "filename_prefix": "cloud/film",
            "format": "auto",
            "codec": "auto",
        },
    }
    run = comfyui.run(graph)
    assert run.error == "Execution Blocked: There is no video."
    assert list((comfyui.output / "cloud").glob("film_*-41.obj"))


def test_the_key_is_in_no_log_no_history_and_no_file(comfyui: Server, service: Service):
    """After all the runs above, in which the service echoed it."""
    service.answers[START] = [Reply(service.success(message=KEY))]
    assert comfyui.run(_graph("cloud/secret", seed=20)).error is None
    assert KEY in service.of(START)[-1].json["key"]
    for text in (
        comfyui.http.get(path).text
        for path in ("/history", "/object_info", "/internal/logs/raw", "/queue")
    ):
        assert KEY not in text
    for path in comfyui.base.rglob("*"):
        if path.is_file() and not path.is_relative_to(comfyui.base / "custom_nodes"):
            assert KEY.encode() not in path.read_bytes(), path


def test_without_a_key_the_node_says_where_it_goes(
    comfyui: Server, service: Service, tmp_path_factory: pytest.TempPathFactory
):
    with start_server(tmp_path_factory.mktemp("keyless"), {"MODELSLAB_API_KEY": ""}) as server:
        run = server.run(_graph("cloud/keyless"))
        assert run.error is not None
        assert run.error.startswith(
            "There is no ModelsLab API key: set the variable MODELSLAB_API_KEY, or write the key"
            " into "
        )
        assert str(server.base / "user" / "modelslab_api_key.txt") in run.error
