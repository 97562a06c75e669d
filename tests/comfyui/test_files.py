"""Workflows, help pages and translations, compared with /object_info of the running version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .server import PACK, Server

PREFIX = "ImageTo3D_"
WORKFLOWS = sorted((PACK / "workflows").glob("*.json"))
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR", "COMFY_DYNAMICCOMBO_V3")


@pytest.fixture(scope="module")
def nodes(comfyui: Server) -> dict[str, Any]:
    return comfyui.object_info()


def _graph(path: Path, nodes: dict[str, Any]) -> dict[str, Any]:
    """A workflow all of whose nodes are in the running version."""
    graph = json.loads(path.read_text())
    if missing := {node["type"] for node in graph["nodes"]} - {"MarkdownNote"} - nodes.keys():
        pytest.skip(f"this version has no {', '.join(sorted(missing))}")
    return graph


def _own(nodes: dict[str, Any]) -> dict[str, Any]:
    return {name: info for name, info in nodes.items() if name.startswith(PREFIX)}


def _inputs(info: dict[str, Any]) -> dict[str, Any]:
    return {
        name: spec
        for section in ("required", "optional")
        for name, spec in info["input"].get(section, {}).items()
    }


def _is_widget(spec: Any) -> bool:
    return isinstance(spec[0], list) or spec[0].split(",")[0] in WIDGETS


def _accepts(spec: Any, kind: str) -> bool:
    return "*" in (spec[0], kind) or bool(set(spec[0].split(",")) & set(kind.split(",")))


def test_every_node_is_there_with_a_help_page_and_every_widget_with_a_tooltip(
    nodes: dict[str, Any],
):
    own = _own(nodes)
    pages = {page.stem for page in (PACK / "web" / "docs").glob(f"{PREFIX}*.md")}
    assert own.keys() == pages
    for name, info in own.items():
        assert info["category"].startswith("3d/Image to 3D")
        assert info["description"]
        page = (PACK / "web" / "docs" / f"{name}.md").read_text()
        images = [
            part.split(")")[0] for part in page.split("](")[1:] if "http" not in part.split(")")[0]
        ]
        assert images, f"{name}'s page has no image"
        assert all((PACK / "web" / "docs" / image).exists() for image in images)
        for widget, spec in _inputs(info).items():
            assert not _is_widget(spec) or spec[1].get("tooltip"), f"{name}.{widget} has no tooltip"


def test_help_pages_are_served(comfyui: Server, nodes: dict[str, Any]):
    for name in _own(nodes):
        answer = comfyui.http.get(f"/extensions/ComfyUI-Image-to-3D/docs/{name}.md")
        assert answer.status_code == 200
        assert answer.text.startswith("# ")
        chinese = comfyui.http.get(f"/extensions/ComfyUI-Image-to-3D/docs/{name}/zh.md")
        assert chinese.status_code == 200


def test_every_string_has_a_chinese_translation(comfyui: Server, nodes: dict[str, Any]):
    served = comfyui.http.get("/i18n").json()
    for name, info in _own(nodes).items():
        strings = served["zh"]["nodeDefs"][name]
        # Older versions have no FILE_3D, and so no input of it.
        there = strings["inputs"].keys() - ({"file_3d"} - _inputs(info).keys())
        assert there == _inputs(info).keys(), name
        assert set(map(str, range(len(info["output"])))) <= strings["outputs"].keys(), name
        for widget, spec in _inputs(info).items():
            translated = strings["inputs"][widget].get("tooltip")
            tooltip = spec[1].get("tooltip") if len(spec) > 1 else None
            assert (translated is None) == (tooltip is None), (name, widget)


def test_display_names_differ_from_those_of_all_other_nodes(nodes: dict[str, Any]):
    own = {info["display_name"] for info in _own(nodes).values()}
    others = {info["display_name"] for name, info in nodes.items() if not name.startswith(PREFIX)}
    assert not own & others


def test_every_node_has_search_aliases_where_the_version_has_them(nodes: dict[str, Any]):
    if not any(info.get("search_aliases") for info in nodes.values()):
        pytest.skip("this version has no search aliases")
    assert all(info["search_aliases"] for info in _own(nodes).values())


def test_templates_are_listed_with_their_images(comfyui: Server):
    listed = comfyui.http.get("/workflow_templates").json()["ComfyUI-Image-to-3D"]
    assert set(listed) >= {path.stem for path in WORKFLOWS}
    for path in WORKFLOWS:
        assert (
            comfyui.http.get(
                f"/api/workflow_templates/ComfyUI-Image-to-3D/{path.stem}.jpg"
            ).status_code
            == 200
        )


def test_the_blueprint_is_offered(comfyui: Server):
    answer = comfyui.http.get("/global_subgraphs")
    if answer.status_code == 404:
        pytest.skip("this version has no blueprints of packs")
    offered = {entry["name"]: entry for entry in answer.json().values()}
    assert offered["Image to 3D"]["source"] == "custom_node"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_links_types_and_widgets_of_a_workflow(nodes: dict[str, Any], path: Path):
    graph = _graph(path, nodes)
    by_id = {node["id"]: node for node in graph["nodes"]}
    links = {link[0]: link for link in graph["links"]}
    for link, source, slot, target, target_slot, kind in graph["links"]:
        assert link in by_id[source]["outputs"][slot]["links"]
        assert by_id[target]["inputs"][target_slot]["link"] == link
        assert nodes[by_id[source]["type"]]["output"][slot] == kind
    for node in graph["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        specs = _inputs(nodes[node["type"]])
        for socket in node["inputs"]:
            assert socket["name"] in specs, (node["type"], socket["name"])
            if socket["link"] is not None:
                assert _accepts(specs[socket["name"]], links[socket["link"]][5]), (
                    node["type"],
                    socket["name"],
                )
        linked = {socket["name"] for socket in node["inputs"] if socket["link"] is not None}
        required = set(nodes[node["type"]]["input"].get("required", {}))
        assert required <= linked | {name for name in required if _is_widget(specs[name])}, node[
            "type"
        ]
        if node["type"].startswith(PREFIX):
            _check_widget_values(node, specs)


def _check_widget_values(node: dict[str, Any], specs: dict[str, Any]) -> None:
    values = iter(node["widgets_values"])
    for name, spec in specs.items():
        if not _is_widget(spec):
            continue
        value, options = next(values, None), spec[1]
        if value is None:
            break  # a widget that is newer than the workflow
        if options.get("control_after_generate"):
            assert next(values) in ("fixed", "increment", "decrement", "randomize")
        if "options" in options:
            assert value in options["options"], (node["type"], name)
        if "min" in options:
            assert options["min"] <= value <= options["max"], (node["type"], name)
    # Some versions put no control behind the last widget.
    assert next(values, None) in (None, "fixed"), f"{node['type']} has values left over"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_the_api_copy_says_the_same(nodes: dict[str, Any], path: Path):
    graph = json.loads(path.read_text())
    api = json.loads((path.parent / "api" / path.name).read_text())
    links = {link[0]: link for link in graph["links"]}
    shown = {str(node["id"]): node for node in graph["nodes"] if node["type"] != "MarkdownNote"}
    assert {key: node["class_type"] for key, node in api.items()} == {
        key: node["type"] for key, node in shown.items()
    }
    for key, node in shown.items():
        linked = {
            s["name"]: [str(links[s["link"]][1]), links[s["link"]][2]]
            for s in node["inputs"]
            if s["link"] is not None
        }
        given = api[key]["inputs"]
        assert {name: value for name, value in given.items() if isinstance(value, list)} == linked
        if node["type"].startswith(PREFIX):
            written = [value for name, value in given.items() if name not in linked]
            assert written == [v for v in node["widgets_values"] if v not in ("fixed", "randomize")]


@pytest.mark.parametrize(
    "path",
    [*WORKFLOWS, *(PACK / "workflows" / "api").glob("*.json")],
    ids=lambda p: f"{p.parent.name}-{p.stem}",
)
def test_no_secret_and_no_absolute_path(path: Path):
    text = path.read_text().lower().replace('"tokens"', "")  # a widget
    for word in (
        '"key"',
        "apikey",
        "token",
        "password",
        "bearer",
        "c:\\\\",
        "/home/",
        "/root/",
        "/users/",
    ):
        assert word not in text
