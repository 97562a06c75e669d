"""The mesh nodes in a real ComfyUI: clean, texture, bake, save, load and render."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from .graphs import node_id, photo_graph, set_inputs
from .server import PLACE, Run, Server

TEXTURE = {"size": 512, "max_faces": 0}
CLEAN = {"min_part_share": 0.1, "fill_holes": 32, "smooth": 1, "max_faces": 600, "watertight": True}
PRINT_BED = {"up_axis": "z", "longest_side": 80.0, "pivot": "bottom"}


def _node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": f"ImageTo3D_{kind}", "inputs": inputs}


def _save(source: str, prefix: str, suffix: str, **place: Any) -> dict[str, Any]:
    place = PLACE | place
    return _node("SaveMesh", mesh=[source, 0], filename_prefix=prefix, format=suffix, **place)


def _look_at(file: str) -> dict[str, Any]:
    return {
        "load": _node("LoadMesh", file=file),
        "look": _node("RenderMesh", mesh=["load", 0], frames=2, elevation=10.0, size=64),
        "save": {
            "class_type": "SaveImage",
            "inputs": {"images": ["look", 0], "filename_prefix": "look"},
        },
    }


@pytest.fixture(scope="module")
def mesh_run(comfyui: Server) -> Run:
    """One graph that cleans the cup's mesh, textures and bakes it, and saves all three."""
    graph = photo_graph("3d/plain")
    set_inputs(graph, "ExtractMesh", resolution=32)
    mesh, triplane = [node_id(graph, "ExtractMesh"), 0], [node_id(graph, "Reconstruct"), 0]
    graph |= {
        "clean": _node("CleanMesh", mesh=mesh, **CLEAN),
        "texture": _node("TextureMesh", mesh=["clean", 0], triplane=triplane, **TEXTURE),
        "textured": _save("texture", "3d/textured", "glb"),
        "baked": _node("BakeVertexColors", mesh=["clean", 0], **TEXTURE),
        "bakedsave": _save("baked", "3d/baked", "obj"),
        "print": _save("clean", "3d/print", "stl", **PRINT_BED),
        "info": _node("MeshInfo", mesh=["clean", 0]),
    }
    run = comfyui.run(graph)
    assert run.error is None, run.error
    return run


def test_clean_mesh_makes_one_closed_body_and_tells_what_it_changed(mesh_run: Run):
    assert "watertight, one closed body, volume" in mesh_run.outputs["info"]["text"][0]
    assert "before: " in "".join(mesh_run.outputs["clean"]["text"])


@pytest.mark.usefixtures("mesh_run")
def test_texture_mesh_saves_a_texture_of_the_chosen_size(comfyui: Server):
    textured = trimesh.load(
        comfyui.output / "3d" / "textured_00001_.glb", force="mesh", process=False
    )
    assert textured.visual.material.baseColorTexture.size == (512, 512)


def test_bake_vertex_colors_saves_an_obj_with_its_material_in_a_folder(
    comfyui: Server, mesh_run: Run
):
    baked = comfyui.output / "3d" / "baked_00001_"
    assert {p.name for p in baked.iterdir()} == {
        "baked_00001_.mtl",
        "baked_00001_.obj",
        "baked_00001_.png",
    }
    assert mesh_run.outputs["bakedsave"]["3d"] == [
        {"filename": "baked_00001_.obj", "subfolder": "3d/baked_00001_", "type": "output"}
    ]


@pytest.mark.usefixtures("mesh_run")
def test_save_mesh_for_a_print_stands_on_the_bed_in_millimetres(comfyui: Server):
    printed = trimesh.load(comfyui.output / "3d" / "print_00001_.stl")
    assert printed.is_watertight
    assert printed.bounds[0][2] == pytest.approx(0, abs=1e-3)
    assert max(printed.extents) == pytest.approx(80, abs=1e-2)


@pytest.mark.usefixtures("mesh_run")
def test_render_mesh_of_a_loaded_file_shows_its_texture(comfyui: Server):
    run = comfyui.run(_look_at("3d/textured_00001_.glb"))
    assert run.error is None, run.error
    assert len(run.outputs["save"]["images"]) == 2
    pixels = np.array(Image.open(comfyui.output / "look_00001_.png").convert("RGB")).astype(int)
    seen = (pixels < 250).any(axis=-1)
    assert 0.05 < seen.mean() < 0.9
    assert pixels[seen][:, 0].mean() > pixels[seen][:, 2].mean(), "the cup is red"


@pytest.mark.parametrize(
    "file", ["../../etc/passwd.obj", "3d/nothing.obj"], ids=["outside", "missing"]
)
def test_load_mesh_refuses_a_file_that_it_may_not_or_cannot_read(comfyui: Server, file: str):
    run = comfyui.run(_look_at(file))
    assert run.error is not None
    assert "ComfyUI's" in run.error
