"""Workflow files store widgets by position and outputs by number, so both must never change."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# Interfaces, defaults and bounds of the last release. Entries may be added but not changed.
WIDGET_VALUES = Path(__file__).parent / "widgets.json"
FROZEN = Path(__file__).parent / "interfaces.json"
WIDGETS = ("Int", "Float", "String", "Boolean", "Combo")


def interface(node: Any) -> dict[str, list[str]]:
    """Return the widgets of a node in order, its sockets, and its outputs in order."""
    schema = node.define_schema()
    kinds = {i.id: i.io_type for i in schema.inputs}
    return {
        "widgets": [name for name, kind in kinds.items() if kind in WIDGETS],
        "sockets": sorted(name for name, kind in kinds.items() if kind not in WIDGETS),
        "outputs": [output.io_type for output in schema.outputs],
    }


def test_interfaces_keep_old_workflows(nodes: ModuleType):
    """Renamed nodes stay in this list: core's replacement table maps their old ids."""
    there = {node.define_schema().fields["node_id"]: interface(node) for node in nodes.NODES}
    for name, old in json.loads(FROZEN.read_text()).items():
        assert name in there, f"{name} is gone: workflows that contain it no longer open"
        new = there[name]
        for part in ("widgets", "outputs"):
            kept = new[part][: len(old[part])]
            assert kept == old[part], f"{name}: new {part} must come after the old ones"
        assert set(old["sockets"]) <= set(new["sockets"]), name


def test_interfaces_list_holds_every_node(nodes: ModuleType):
    assert json.loads(FROZEN.read_text()).keys() == {
        n.define_schema().fields["node_id"] for n in nodes.NODES
    }


@pytest.mark.parametrize(
    ("node_id", "frozen"),
    json.loads(WIDGET_VALUES.read_text()).items(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_widget_keeps_its_default_its_bounds_and_its_choices(nodes: ModuleType, node_id, frozen):
    schemas = {node.define_schema().fields["node_id"]: node.define_schema() for node in nodes.NODES}
    found = {port.id: port.options for port in schemas[node_id].inputs}
    for name, values in frozen.items():
        assert {key: found[name].get(key) for key in values} | {
            "options": found[name].get("options", [])[: len(values.get("options", []))]
        } == {"options": []} | values, f"{node_id}.{name}"
