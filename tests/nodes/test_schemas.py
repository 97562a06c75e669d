"""Every node's schema."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import folder_paths

from pipelines.settings import JobSettings, LoadSettings, Setting, declared

_KINDS = ("Int", "Float", "Boolean", "Combo")


def _names(nodes: ModuleType) -> list[str]:
    return [node.__name__ for node in nodes.NODES]


def test_extension_lists_all_nodes_and_copies_the_templates_images(nodes):
    listed = asyncio.run(nodes.ImageTo3DExtension().get_node_list())
    assert len(listed) == len(set(_names(nodes))) == 24
    for name in ("image-to-3d-cup.png", "image-to-3d-demo.png"):
        assert (Path(folder_paths.get_input_directory()) / name).exists()
    schemas = [node.define_schema() for node in listed]
    assert len({s.fields["node_id"] for s in schemas}) == len(listed)
    for node, schema in zip(listed, schemas, strict=True):
        parameters = inspect.signature(node.execute).parameters
        named = {port.id for port in schema.inputs}
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        assert parameters.keys() - {"cls", "values"} <= named
        assert takes_any or named <= parameters.keys()
        for port in schema.inputs:
            if port.options.get("optional") and port.id in parameters:
                assert parameters[port.id].default is not inspect.Parameter.empty, (
                    f"{node.__name__}.{port.id}"
                )


def test_extension_gives_every_node_aliases_and_a_category(nodes):
    for node in nodes.NODES:
        schema = node.define_schema()
        assert schema.search_aliases, node.__name__
        assert schema.fields["category"].split("/")[:2] == ["3d", "Image to 3D"]


def test_display_names_differ_from_cores(nodes):
    """Core's names are those of ComfyUI 0.33, with some of their variants."""
    core = {
        "Remove Background",
        "Render Mesh",
        "Mesh Info",
        "Get Mesh Info",
        "Apply Texture",
        "Apply Texture to Mesh",
        "Save Mesh",
        "Save 3D Model",
        "Load Mesh",
        "Load 3D",
        "Load 3D (Advanced)",
    }
    assert not core & {node.define_schema().fields["display_name"] for node in nodes.NODES}


def test_rare_widgets_are_folded_and_the_main_ones_are_not(nodes):
    folded = {
        (node.__name__, port.id)
        for node in nodes.NODES
        for port in node.define_schema().inputs
        if port.advanced
    }
    assert ("GenerateViews", "scheduler") in folded
    assert ("ExtractMesh", "chunk_size") in folded
    assert not folded & {("ExtractMesh", "resolution"), ("SaveMesh", "format")}


#: Widgets whose name differs from their setting's.
_RENAMED = {
    "ImageTo3D_RemoveBackground.model": "remove_bg",
    "ImageTo3D_LoadMultiviewModel.model": "views_model",
    "ImageTo3D_RenderOrbit.frames": "orbit",
    "ImageTo3D_RenderMesh.frames": "orbit",
    "ImageTo3D_TextureMesh.size": "texture",
    "ImageTo3D_BakeVertexColors.size": "texture",
    "ImageTo3D_MeshInfo.longest_side": "size",
    "ImageTo3D_SaveMesh.longest_side": "size",
}
#: Widgets that have the name of a setting but another meaning.
_OTHERS = {
    "ImageTo3D_FrameForeground.size",
    "ImageTo3D_RenderOrbit.size",
    "ImageTo3D_RenderMesh.size",
    "ImageTo3D_RenderOrbit.elevation",
    "ImageTo3D_RenderMesh.elevation",
    "ImageTo3D_MakeSolid.resolution",
    "ImageTo3D_ModelsLab.remove_bg",
    "ImageTo3D_ModelsLab.seed",
}


def _widgets_of_settings(nodes: ModuleType) -> Iterator[tuple[str, dict[str, Any], Setting]]:
    settings = declared(JobSettings, LoadSettings)
    for node in nodes.NODES:
        schema = node.define_schema()
        for port in schema.inputs:
            name = f"{schema.fields['node_id']}.{port.id}"
            setting = settings.get(_RENAMED.get(name, port.id))
            if setting is not None and name not in _OTHERS and port.io_type in _KINDS:
                yield name, port.options, setting


def test_widgets_of_settings_keep_within_their_bounds_and_choices(nodes):
    """In number widgets, which cannot be None, 0 means None."""
    found = list(_widgets_of_settings(nodes))
    assert len(found) > 30
    for name, options, setting in found:
        assert tuple(options.get("options", setting.choices)) == setting.choices, name
        if setting.low is not None and "min" in options:
            assert options["min"] >= setting.low or options["min"] == 0, name
        if setting.high is not None and "max" in options:
            assert options["max"] <= setting.high, name
