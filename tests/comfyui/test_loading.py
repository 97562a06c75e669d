"""The model loaders in a real ComfyUI: models, precision, memory, and the errors of a graph."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trimesh

from ..tiny_models import VIEWS_MODEL, write_models
from .graphs import node_id, read_vertices, saved_paths, set_inputs, six_views_graph
from .server import PLACE, Server, start_server


@pytest.fixture
def official_layout(comfyui: Server) -> Iterator[Path]:
    """The stock Zero123++, which has a U-Net of its own, as a pickle."""
    models = comfyui.base / "models" / "image_to_3d"
    own = models / "zero123plus-v1.2" / "unet" / "diffusion_pytorch_model.bin"
    shutil.copy(models / "InstantMesh" / own.name, own)
    yield models / "zero123plus-v1.2"
    own.unlink()


def test_one_model_after_another(comfyui: Server, official_layout: Path):
    found = []
    for i, name in enumerate((VIEWS_MODEL, "zero123plus", VIEWS_MODEL)):
        graph = six_views_graph(f"3d/model{i}")
        set_inputs(graph, "LoadMultiviewModel", model=name, dtype="float32")
        (path,) = saved_paths(comfyui, comfyui.run(graph), graph)
        found.append(read_vertices(path))
    assert found[0].shape == found[2].shape
    assert found[0] == pytest.approx(found[2], abs=2e-6)
    assert not (official_layout / "unet" / "diffusion_pytorch_model.fp16.safetensors").exists(), (
        "float32 is not rounded to half first"
    )


def test_layers_bring_their_own_weights_where_a_model_is_loaded_in_part(comfyui: Server):
    """As on a small GPU, weights stay outside and layers fetch them one by one."""
    graph = six_views_graph("3d/whole")
    set_inputs(graph, "LoadMultiviewModel", dtype="float32")
    (whole,) = saved_paths(comfyui, comfyui.run(graph), graph)
    graph["cast"] = {
        "class_type": "Test_CastWeights",
        "inputs": {"model": [node_id(graph, "LoadMultiviewModel"), 0]},
    }
    set_inputs(graph, "GenerateViews", model=["cast", 0])
    set_inputs(graph, "SaveMesh", filename_prefix="3d/cast")
    run = comfyui.run(graph)
    (cast,) = saved_paths(comfyui, run, graph)
    assert read_vertices(cast) == pytest.approx(read_vertices(whole), abs=2e-6)
    assert set(run.outputs["cast"]["text"]) <= {"Embedding", "CLIPVisionEmbeddings"}


def test_half_precision_on_request(comfyui: Server):
    graph = six_views_graph("3d/half")
    set_inputs(graph, "LoadMultiviewModel", dtype="bfloat16")
    set_inputs(graph, "LoadReconstructionModel", dtype="bfloat16")
    (path,) = saved_paths(comfyui, comfyui.run(graph), graph)
    assert trimesh.load(path, process=False).is_watertight


@pytest.mark.parametrize(
    ("kind", "inputs", "message"),
    [
        (
            "LoadReconstructionModel",
            {"model": "instant-mesh-large"},
            "put it at {base}/models/image_to_3d/InstantMesh/instant_mesh_large.ckpt.",
        ),
        ("SaveMesh", {"filename_prefix": "../../x"}, "leads outside ComfyUI's output folder"),
        ("SaveMesh", {"filename_prefix": "/tmp/x"}, "leads outside ComfyUI's output folder"),
        (
            "RemoveBackground",
            {"model": "silueta"},
            (
                "silueta.onnx is missing and could not be downloaded: put it at"
                " {base}/models/rembg/silueta"
            ),
        ),
        (
            "FrameForeground",
            {"background": "whiteish"},
            "A colour must look like #ffffff or white, got 'whiteish'.",
        ),
    ],
)
def test_what_goes_wrong_is_one_sentence(
    comfyui: Server, kind: str, inputs: dict[str, Any], message: str
):
    graph = six_views_graph("3d/wrong")
    set_inputs(graph, kind, **inputs)
    run = comfyui.run(graph)
    assert run.error is not None
    assert message.format(base=comfyui.base) in run.error
    assert "\n" not in run.error
    assert not list(comfyui.base.parent.glob("x*"))


def test_options_of_comfyui_and_missing_packages(comfyui: Server, tmp_path: Path):
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "diffusers.py").write_text("raise ModuleNotFoundError('no', name='diffusers')")
    paths = tmp_path / "paths.yaml"
    paths.write_text(f"mine:\n    base_path: {tmp_path / 'elsewhere'}\n    image_to_3d: weights\n")
    write_models(tmp_path / "elsewhere" / "weights")
    options = ("--disable-metadata", "--extra-model-paths-config", str(paths))
    with start_server(tmp_path / "base", {"PYTHONPATH": str(blocked)}, options) as server:
        run = server.run(six_views_graph("3d/blocked"))
        assert run.error is not None
        assert run.error.startswith("The package 'diffusers' is missing: run '")
        assert "requirements.txt" in run.error
        graph = six_views_graph("3d/missing")
        set_inputs(graph, "LoadReconstructionModel", model="instant-mesh-large")
        set_inputs(graph, "Reconstruct", views=[node_id(graph, "LoadImage"), 0])
        for kind in ("GenerateViews", "PreviewImage", "LoadMultiviewModel"):
            del graph[node_id(graph, kind)]
        run = server.run(graph)
        assert run.error is not None
        assert (
            "put it at"
            f" {tmp_path / 'elsewhere' / 'weights' / 'InstantMesh' / 'instant_mesh_large.ckpt'}."
            in run.error
        )
        graph = {
            "1": {"class_type": "Test_CoreTetrahedra", "inputs": {"count": 1}},
            "2": {
                "class_type": "ImageTo3D_SaveMesh",
                "inputs": {"mesh": ["1", 0], "filename_prefix": "plain", "format": "obj", **PLACE},
            },
        }
        (path,) = saved_paths(server, server.run(graph), graph)
        assert path.read_text().startswith("v ")
