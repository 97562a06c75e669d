"""The files that belong to a mesh, and the paths where meshes are saved."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipelines.errors import InvalidInput
from pipelines.meshes.io import load_mesh, mesh_files, mesh_path
from pipelines.meshes.mesh import Mesh

from .helpers import CASES, SQUARE, save_obj


def test_mesh_files_of_obj_lists_materials_and_images(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    text = "mtllib x.mtl none.mtl\n" + SQUARE + "f 1 2 3\n"
    path = save_obj(
        tmp_path,
        text,
        x_mtl=(
            "newmtl a\nmap_Kd a.png\nnewmtl b\nmap_Kd gone.png\nnewmtl c\nmap_Kd B.PNG\nnewmtl"
            " d\nKd 1 1 1\n"
        ),
    )
    assert mesh_files(path) == [path, tmp_path / "x.mtl", tmp_path / "a.png", tmp_path / "b.png"]
    with pytest.raises(InvalidInput, match="missing or not readable"):
        mesh_files(tmp_path / "y.obj")


def test_mesh_path_of_textured_obj_has_own_folder():
    plain = Mesh(torch.rand(3, 3), torch.tensor([[0, 1, 2]]))
    textured = replace(plain, uvs=torch.rand(3, 2), texture=torch.rand(4, 4, 3))
    assert mesh_path(Path("out"), "cat", "obj", textured) == Path("out/cat/cat.obj")
    assert mesh_path(Path("out"), "cat", "obj", plain) == Path("out/cat.obj")
    assert mesh_path(Path("out"), "cat", "glb", textured) == Path("out/cat.glb")


@pytest.mark.parametrize("name", ["p.ply", "e.glb"])
def test_mesh_files_of_ply_and_glb_list_their_images(name):
    folder = CASES / "load-mesh-keeps-old-textures"
    assert mesh_files(folder / name) == [folder / name, folder / "tex.png"]
    assert load_mesh(folder / name).texture is not None


def test_mesh_files_of_gltf_list_buffers_and_images_once(tmp_path):
    for name in ("a b.bin", "t.png"):
        (tmp_path / name).write_bytes(b"")
    tree = {
        "buffers": [{"uri": "a%20b.bin"}, {"uri": "data:,x"}, {"byteLength": 1}],
        "images": [{"uri": "t.png"}, {"uri": "T.PNG"}, {"uri": "gone.png"}, {"bufferView": 0}],
    }
    path = tmp_path / "x.gltf"
    path.write_text(json.dumps(tree))
    assert mesh_files(path) == [path, tmp_path / "a b.bin", tmp_path / "t.png"]


@pytest.mark.parametrize("name", ["x.obj", "x.glb", "x.gltf", "x.ply", "x.stl", "x.3mf"])
def test_mesh_files_of_damaged_file_is_itself(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"damaged")
    assert mesh_files(path) == [path]


def test_mesh_files_never_leaves_the_folder(tmp_path):
    (tmp_path / "secret.png").write_bytes(b"")
    folder = tmp_path / "in"
    folder.mkdir()
    path = folder / "x.gltf"
    path.write_text(json.dumps({"images": [{"uri": "../secret.png"}]}))
    assert mesh_files(path) == [path]
