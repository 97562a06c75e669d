"""Invalid graphs fail in the first loader that runs, before any download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import EnvironmentProblem, InvalidInput

from .inputs import small_ball

PACK = Path(__file__).parents[2]
TEMPLATES = sorted((PACK / "workflows" / "api").glob("*.json"))


def _chain(model: str, views: str, **more: Any) -> dict[str, Any]:
    """Return a graph of Load Image, framing, optionally Generate Views, and Reconstruct."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "2": {"class_type": "ImageTo3D_RemoveBackground", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "ImageTo3D_FrameForeground", "inputs": {"image": ["2", 0]}},
        "4": {"class_type": "ImageTo3D_LoadReconstructionModel", "inputs": {"model": model}},
        "5": {"class_type": "ImageTo3D_GenerateViews", "inputs": {"image": ["3", 0]}},
        "6": {
            "class_type": "ImageTo3D_Reconstruct",
            "inputs": {"model": ["4", 0], "views": [views, 0], **more},
        },
    }


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        pytest.param(
            _chain("instant-mesh-large", "3"), "instant-mesh-large needs six views", id="blueprint"
        ),
        pytest.param(
            _chain("triposr", "5", mask=["3", 1]), "triposr takes one framed image", id="six-views"
        ),
        pytest.param(_chain("photo", "3"), "connect the mask of Frame Foreground", id="no-mask"),
    ],
)
@pytest.mark.parametrize("loader", ["LoadReconstructionModel", "LoadMultiviewModel"])
def test_loaders_refuse_a_chain_that_cannot_work(nodes, monkeypatch, prompt, message, loader):
    node = getattr(nodes, loader)
    monkeypatch.setattr(node.hidden, "prompt", prompt)
    name = "photo" if loader == "LoadReconstructionModel" else "zero123plus"
    with pytest.raises(InvalidInput, match=message):
        node.execute(name, "auto")


def test_licenses_before_a_node_are_those_of_its_loaders(nodes):
    prompt = _chain("instant-mesh-large", "5") | {
        "7": {"class_type": "ImageTo3D_MeshInfo", "inputs": {"mesh": ["6", 0]}},
        "8": {"class_type": "ImageTo3D_LoadMultiviewModel", "inputs": {"model": "zero123plus"}},
        "9": {"class_type": "ImageTo3D_LoadReconstructionModel", "inputs": {"model": "photo"}},
    }
    prompt["5"]["inputs"]["model"] = ["8", 0]
    assert nodes.graph.licenses_before(prompt, "7") == {
        "instant-mesh-large": "Apache-2.0",
        "zero123plus": "CC-BY-NC-4.0",
    }
    assert nodes.graph.licenses_before(prompt, "3") == {}


def test_mesh_report_names_the_licenses_of_the_models(nodes, monkeypatch):
    prompt = {
        "1": {"class_type": "ImageTo3D_MeshInfo", "inputs": {"mesh": ["2", 0]}},
        "2": {"class_type": "ImageTo3D_LoadReconstructionModel", "inputs": {"model": "triposr"}},
    }
    monkeypatch.setattr(nodes.MeshInfo.hidden, "prompt", prompt)
    text = nodes.MeshInfo.execute(nodes.mesh_sockets.mesh_socket([small_ball()]))[0]
    assert text.splitlines()[1] == "licence of triposr: MIT"


def _record_checks(nodes: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of models whose weights are checked, without checking them."""
    checked: list[str] = []
    monkeypatch.setattr(nodes.graph, "check_available", lambda names, _: checked.extend(names))
    return checked


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: p.stem)
def test_check_loaders_of_a_template_checks_the_models_of_its_loaders(nodes, path, monkeypatch):
    checked = _record_checks(nodes, monkeypatch)
    prompt = json.loads(path.read_text())
    nodes.graph.check_loaders(prompt, "photo", [])
    loaders = ("ImageTo3D_LoadReconstructionModel", "ImageTo3D_LoadMultiviewModel")
    models = {n["inputs"]["model"] for n in prompt.values() if n["class_type"] in loaders}
    assert set(checked) == models | {"photo"}


@pytest.mark.parametrize(
    ("prompt", "models"),
    [
        (None, ["photo"]),
        ({"1": {}}, ["photo"]),
        (_chain("instant-mesh-large", "3", cameras=["9", 0]), ["photo", "instant-mesh-large"]),
        (_chain("a model of another pack", "3"), ["photo"]),
        ({"6": {"class_type": "ImageTo3D_Reconstruct", "inputs": {}}}, ["photo"]),
    ],
    ids=["none", "empty", "own-cameras", "unknown-model", "nothing-linked"],
)
def test_check_loaders_of_an_incomplete_graph_checks_known_models(
    nodes, prompt, models, monkeypatch
):
    checked = _record_checks(nodes, monkeypatch)
    nodes.graph.check_loaders(prompt, "photo", [])
    assert checked == models


def test_check_loaders_names_the_files_of_all_loaders(nodes, monkeypatch, tmp_path):
    monkeypatch.setattr("pipelines.weights.inventory.hub_is_reachable", lambda: False)
    prompt = _chain("instant-mesh-large", "5")
    prompt["7"] = {
        "class_type": "ImageTo3D_LoadMultiviewModel",
        "inputs": {"model": "zero123plus-instantmesh"},
    }
    with pytest.raises(EnvironmentProblem) as caught:
        nodes.graph.check_loaders(prompt, "instant-mesh-large", [tmp_path])
    for name in ("instant_mesh_large.ckpt", "diffusion_pytorch_model.bin", "vae/config.json"):
        assert name in str(caught.value)
