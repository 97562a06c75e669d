"""Load Mesh and Save Mesh."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import folder_paths
import pytest
import torch
from comfy_api import latest
from PIL import Image

from pipelines.errors import EnvironmentProblem, InvalidInput
from pipelines.meshes.io import FORMATS, save_mesh

from .inputs import small_ball

CASES = Path(__file__).parents[1] / "data" / "cases"


def test_load_mesh_reads_files_of_core(nodes, tmp_path):
    path, bare = tmp_path / "ball.glb", tmp_path / "upload"
    save_mesh(small_ball(), path)
    shutil.copy(path, bare)
    for file in (
        latest.File3D(str(path)),
        latest.File3D(str(bare), "glb"),
        latest.File3D(BytesIO(path.read_bytes()), "glb"),
    ):
        (back,) = nodes.mesh_sockets.meshes_of(nodes.LoadMesh.execute("", file)[0])
        torch.testing.assert_close(back.vertices, small_ball().vertices)
    with pytest.raises(InvalidInput, match="The format of a mesh file must be obj"):
        nodes.LoadMesh.execute("", latest.File3D(BytesIO(b"x"), "fbx"))


@pytest.mark.parametrize("suffix", FORMATS)
def test_save_mesh_writes_numbered_files_that_load_mesh_reads(nodes, suffix):
    socket = nodes.mesh_sockets.mesh_socket([small_ball(), small_ball()])
    path, file, paths = nodes.SaveMesh.execute(
        socket, "3d/ball", suffix, "z", 80.0, "bottom", 0.0
    ).args
    assert path == f"3d/ball_00001_.{suffix}"
    assert Path(file.source).exists()
    assert paths == [f"3d/ball_0000{i}_.{suffix}" for i in (1, 2)]
    assert (
        nodes.SaveMesh.execute(socket, "3d/ball", suffix, "y").ui["3d"][0]["filename"]
        == f"ball_00003_.{suffix}"
    )
    (back,) = nodes.mesh_sockets.meshes_of(nodes.LoadMesh.execute(path)[0])
    assert back.vertices.amin(dim=0)[2] == pytest.approx(0.0, abs=1e-4), (
        "a file saved z up is loaded upright"
    )
    assert float(back.vertices[:, 2].max()) == pytest.approx(80.0, abs=1.0)


def test_save_mesh_keeps_the_graph_unless_metadata_is_off(nodes, monkeypatch):
    socket = nodes.mesh_sockets.mesh_socket([small_ball()])
    path = nodes.SaveMesh.execute(socket, "a", "obj", "y")[0]
    text = (Path(folder_paths.get_output_directory()) / path).read_text()
    assert text.startswith('# prompt: {"1": {}}\n# workflow: {"nodes": []}\n')
    monkeypatch.setattr(nodes.host.args, "disable_metadata", True)
    path = nodes.SaveMesh.execute(socket, "a", "obj", "y")[0]
    assert (Path(folder_paths.get_output_directory()) / path).read_text().startswith("v ")


@pytest.mark.parametrize(
    "name", ["../mesh.obj", "none.obj", "a\0b.obj", "x" * 5000 + ".obj", "x/" * 3000 + "a.obj"]
)
def test_load_mesh_of_an_odd_name_raises_one_sentence(nodes, name):
    with pytest.raises(InvalidInput, match=r"There is no file|leads outside"):
        nodes.LoadMesh.execute(name)
    assert nodes.LoadMesh.fingerprint_inputs(name) == name


@pytest.mark.parametrize("prefix", ["../out", "a\0b", "x/" + "y" * 5000])
def test_save_mesh_with_an_odd_prefix_raises_one_sentence(nodes, prefix):
    with pytest.raises(
        (InvalidInput, EnvironmentProblem),
        match=r"leads outside|not a valid file name|cannot be written",
    ):
        nodes.SaveMesh.execute(nodes.mesh_sockets.mesh_socket([small_ball()]), prefix, "obj", "y")


def test_load_mesh_fingerprint_changes_with_material_and_texture(nodes):
    folder = Path(folder_paths.get_input_directory())
    textured = replace(
        small_ball(False), uvs=torch.full((162, 2), 0.5), texture=torch.full((8, 8, 3), 0.25)
    )
    save_mesh(textured, folder / "ball.obj")
    before = nodes.LoadMesh.fingerprint_inputs("ball.obj")
    assert before == nodes.LoadMesh.fingerprint_inputs("ball.obj")
    for name in ("ball.png", "ball.mtl", "ball.obj"):
        os.utime(folder / name, (0, 0))
        after = nodes.LoadMesh.fingerprint_inputs("ball.obj")
        assert after != before, name
        before = after
    Image.new("RGB", (8, 8), "red").save(folder / "ball.png")
    (back,) = nodes.mesh_sockets.meshes_of(nodes.LoadMesh.execute("ball.obj")[0])
    torch.testing.assert_close(back.texture[0, 0], torch.tensor([1.0, 0.0, 0.0]))


@pytest.mark.parametrize("name", ["p.ply", "e.glb"])
def test_load_mesh_fingerprint_changes_with_a_texture_beside_a_ply_or_glb(nodes, name):
    folder = Path(folder_paths.get_input_directory())
    shutil.copytree(CASES / "load-mesh-keeps-old-textures", folder, dirs_exist_ok=True)
    before = nodes.LoadMesh.fingerprint_inputs(name)
    os.utime(folder / "tex.png", (0, 0))
    assert nodes.LoadMesh.fingerprint_inputs(name) != before


def test_load_mesh_lists_files_of_the_input_folder_and_prefers_the_chosen_one(nodes):
    folder = Path(folder_paths.get_input_directory())
    save_mesh(small_ball(), folder / "3d" / "ball.ply")
    (folder / "3d" / "._ball.ply").write_bytes(b"a Mac's")
    (chosen,) = (i for i in nodes.LoadMesh.define_schema().inputs if i.id == "input_file")
    assert chosen.options["options"] == ["none", "3d/ball.ply"]
    socket = nodes.LoadMesh.execute("3d/none.obj", input_file="3d/ball.ply")[0]
    (back,) = nodes.mesh_sockets.meshes_of(socket)
    assert len(back.faces) == len(small_ball().faces)
    assert nodes.LoadMesh.validate_inputs("3d/none.obj", "3d/ball.ply") is True


@pytest.mark.parametrize(
    ("node", "values", "message"),
    [
        pytest.param("SaveMesh", {"filename_prefix": "../x"}, "leads outside", id="prefix"),
        pytest.param("SaveMesh", {"filename_prefix": "/tmp/x"}, "leads outside", id="absolute"),
        pytest.param(
            "ModelsLabImageTo3D", {"filename_prefix": "a\0"}, "not a valid file name", id="nul"
        ),
        pytest.param("FrameForeground", {"background": "whiteish"}, "colour", id="colour"),
        pytest.param("LoadMesh", {"file": "../../etc/passwd.obj"}, "leads outside", id="file"),
        pytest.param("LoadMesh", {"input_file": "gone.obj"}, "There is no file", id="chosen"),
        pytest.param("ViewCameras", {"azimuths": "0, x", "elevations": "0"}, "x", id="cameras"),
    ],
)
def test_validate_inputs_names_the_mistake_before_the_run(nodes, node, values, message):
    answer = getattr(nodes, node).validate_inputs(**values)
    assert isinstance(answer, str)
    assert message in answer


@pytest.mark.parametrize(
    "node", ["SaveMesh", "ModelsLabImageTo3D", "FrameForeground", "LoadMesh", "ViewCameras"]
)
def test_validate_inputs_of_linked_values_passes(nodes, node):
    assert getattr(nodes, node).validate_inputs() is True
