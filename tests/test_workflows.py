"""Workflow files and the blueprint, apart from running them, which tests/comfyui does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.weights.inventory import files_of
from pipelines.weights.presets import MULTIVIEW_PRESETS, RECONSTRUCTION_PRESETS

ROOT = Path(__file__).parents[1]
TEMPLATES = sorted((ROOT / "workflows").glob("*.json"))
LOADERS = {
    "ImageTo3D_LoadReconstructionModel": RECONSTRUCTION_PRESETS,
    "ImageTo3D_LoadMultiviewModel": MULTIVIEW_PRESETS,
}


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def _template(number: int) -> dict[str, Any]:
    (path,) = (path for path in TEMPLATES if path.name.startswith(f"{number} "))
    return _read(path)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: p.stem)
def test_templates_list_the_weights_that_their_models_download(path: Path):
    """The URLs must be those of the files and revisions that the pack loads."""
    graph = _read(path)
    listed = []
    for node in graph["nodes"]:
        if (presets := LOADERS.get(node["type"])) is None:
            continue
        name = node["widgets_values"][0]
        links = node["properties"].get("models", [])
        own = getattr(presets[name], "repository", None)
        assert bool(links) == (own is not None), name
        files = {
            f"https://huggingface.co/{f.repository}/resolve/{f.revision or 'main'}/{f.names[0]}": f
            for f in files_of(name)
        }
        for link in links:
            file = files[link["url"]]
            assert link["name"] == f"{file.repository.split('/')[1]}/{file.names[0]}"
            assert link["directory"] == "image_to_3d"
        listed += links
    (note,) = (node["widgets_values"][0] for node in graph["nodes"] if "Note" in node["type"])
    assert all(link["url"] in note for link in listed), (
        "older versions of the page do not show the list"
    )
    # Newer versions of ComfyUI's page read the links to weights from the workflow's list `models`,
    # older ones from the lists of its nodes.
    assert graph.get("models", []) == listed


@pytest.mark.parametrize("number", [1, 2])
def test_app_mode_shows_existing_widgets_and_results(number: int):
    graph = _template(number)
    by_id = {node["id"]: node for node in graph["nodes"]}
    shown = graph["extra"]["linearData"]
    assert shown["inputs"][0] == [1, "image"]
    assert len(shown["inputs"]) >= 4
    for node, widget in shown["inputs"]:
        (socket,) = (s for s in by_id[node]["inputs"] if s["name"] == widget)
        assert socket["widget"] == {"name": widget}
        assert socket["link"] is None
    types = [by_id[node]["type"] for node in shown["outputs"]]
    assert types[0] == "ImageTo3D_SaveMesh"
    assert set(types[1:]) <= {"PreviewImage"}


def test_blueprint_equals_the_middle_of_the_first_template():
    whole = _read(ROOT / "subgraphs" / "Image to 3D.json")
    (inner,) = whole["definitions"]["subgraphs"]
    (outer,) = whole["nodes"]
    assert outer["type"] == inner["id"]
    assert inner["name"] == "Image to 3D"
    shared = {node["id"]: node for node in _template(1)["nodes"]}
    assert {node["type"].split("_")[1] for node in inner["nodes"]} == {
        "RemoveBackground",
        "FrameForeground",
        "LoadReconstructionModel",
        "Reconstruct",
        "ExtractMesh",
    }
    by_id = {node["id"]: node for node in inner["nodes"]}
    for node in inner["nodes"]:
        for part in ("type", "widgets_values", "properties"):
            assert node[part] == shared[node["id"]][part]
    for node, widget in outer["properties"]["proxyWidgets"]:
        assert widget in {socket["name"] for socket in by_id[int(node)]["inputs"]}
    links = {link["id"]: link for link in inner["links"]}
    for link in links.values():
        if (source := by_id.get(link["origin_id"])) is not None:
            assert link["id"] in source["outputs"][link["origin_slot"]]["links"]
        if (target := by_id.get(link["target_id"])) is not None:
            assert target["inputs"][link["target_slot"]]["link"] == link["id"]
    for node in inner["nodes"]:
        assert {s["link"] for s in node["inputs"]} - {None} <= links.keys()
    (entry,), (end,) = inner["inputs"], inner["outputs"]
    assert (entry["type"], end["type"]) == ("IMAGE", "MESH")
    assert [links[i]["origin_id"] for i in entry["linkIds"]] == [inner["inputNode"]["id"]]
    assert [links[i]["target_id"] for i in end["linkIds"]] == [inner["outputNode"]["id"]]
