"""glTF as a container: files beside it, compression, damage."""

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.errors import InvalidInput
from pipelines.meshes.io import load_mesh, save_mesh
from pipelines.meshes.mesh import Mesh

from .gltf_builder import QUAD, Glb
from .helpers import BLUE, CASES, colors_of, file_vertices, is_a_cube


def test_glb_sparse_is_read_and_draco_refused():
    assert is_a_cube(load_mesh(CASES / "glb-silent-zeros" / "sparse.glb"))
    with pytest.raises(
        InvalidInput, match=r"KHR_draco_mesh_compression.*save it without compression"
    ):
        load_mesh(CASES / "glb-silent-zeros" / "draco.glb")


@pytest.mark.parametrize("beside", [True, False])
def test_glb_buffers_and_images_outside_the_file_are_read(tmp_path, beside):

    glb = Glb()
    positions, uvs = glb.add(QUAD), glb.add([[0.5, 0.5]] * 4, "VEC2")
    image = io.BytesIO()
    Image.new("RGB", (4, 4), (0, 0, 255)).save(image, "PNG")
    (tmp_path / "a b.bin").write_bytes(glb.binary)
    (tmp_path / "t.png").write_bytes(image.getvalue())
    data = [
        "data:application/octet-stream;base64," + base64.b64encode(b).decode()
        for b in (glb.binary, image.getvalue())
    ]
    glb.tree |= {"images": [{"uri": "t.png" if beside else data[1]}], "textures": [{"source": 0}]}
    glb.tree["materials"] = [
        {"extensions": {"KHR_materials_pbrSpecularGlossiness": {"diffuseTexture": {"index": 0}}}}
    ]
    attributes = {"POSITION": positions, "TEXCOORD_0": uvs}
    path = glb.save(tmp_path / "x.glb", {"attributes": attributes, "mode": 5, "material": 0})
    content = path.read_bytes()
    glb.tree["buffers"] = [
        {"byteLength": len(glb.binary), "uri": "a%20b.bin" if beside else data[0]}
    ]
    text = json.dumps(glb.tree).encode()
    text += b" " * (-len(text) % 4)
    chunk = struct.pack("<II", len(text), 0x4E4F534A) + text
    path.write_bytes(content[:8] + struct.pack("<I", 12 + len(chunk)) + chunk)
    mesh = load_mesh(path)
    np.testing.assert_allclose(file_vertices(mesh), QUAD)
    assert colors_of(mesh) == {BLUE}


def _without_data(glb: Glb) -> dict[str, Any]:
    glb.tree["accessors"].append({"componentType": 5126, "count": 4, "type": "VEC3"})
    return {"attributes": {"POSITION": 0}, "mode": 5}


def _cut_off(glb: Glb) -> dict[str, Any]:
    index = glb.add(QUAD)
    glb.tree["accessors"][index]["count"] = 5
    return {"attributes": {"POSITION": index}, "mode": 5}


def _circle(glb: Glb) -> dict[str, Any]:
    glb.tree["nodes"] = [{"children": [1]}, {"children": [0], "mesh": 0}]
    glb.tree["scenes"] = [{"nodes": [0]}]
    return {"attributes": {"POSITION": glb.add(QUAD)}, "mode": 5}


def _beyond(glb: Glb) -> dict[str, Any]:
    return {
        "attributes": {"POSITION": glb.add(QUAD)},
        "indices": glb.add([0, 1, 9], "SCALAR", "<u2"),
    }


def _elsewhere(glb: Glb) -> dict[str, Any]:
    glb.tree |= {"images": [{"uri": "../secret.png"}], "textures": [{"source": 0}]}
    glb.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
    return {
        "attributes": {"POSITION": glb.add(QUAD), "TEXCOORD_0": glb.add([[0, 0]] * 4, "VEC2")},
        "mode": 5,
        "material": 0,
    }


def _unknown(glb: Glb) -> dict[str, Any]:
    glb.tree["extensionsRequired"] = ["EXT_unheard_of"]
    return {"attributes": {"POSITION": glb.add(QUAD)}, "mode": 5}


def _bad_image(glb: Glb) -> dict[str, Any]:
    primitive = _elsewhere(glb)
    glb.tree["images"] = [{"uri": "data:image/png;base64,AAAA"}]
    return primitive


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_without_data, "not supported"),
        (_cut_off, "cut off"),
        (_circle, "cycle"),
        (_beyond, "does not exist"),
        (_elsewhere, "not beside it"),
        (_unknown, "EXT_unheard_of"),
        (_bad_image, "its image 0 is not readable"),
    ],
)
def test_glb_damaged_raises_one_sentence(tmp_path, make: Callable[[Glb], dict[str, Any]], message):
    glb = Glb()
    primitive = make(glb)
    with pytest.raises(InvalidInput, match=message):
        load_mesh(glb.save(tmp_path / "x.glb", primitive))


def test_glb_compressed_beside_plain_data_is_ignored(tmp_path):
    glb = Glb(extensionsUsed=["KHR_draco_mesh_compression"])
    primitive = {
        "attributes": {"POSITION": glb.add(QUAD)},
        "mode": 5,
        "extensions": {"KHR_draco_mesh_compression": {"bufferView": 0}},
    }
    np.testing.assert_allclose(
        file_vertices(load_mesh(glb.save(tmp_path / "x.glb", primitive))), QUAD
    )


def test_glb_meshopt_is_refused_by_name(tmp_path):
    glb = Glb()
    primitive = {"attributes": {"POSITION": glb.add(QUAD)}, "mode": 5}
    glb.tree["bufferViews"][0]["extensions"] = {"EXT_meshopt_compression": {}}
    with pytest.raises(InvalidInput, match=r"EXT_meshopt_compression.*save it without compression"):
        load_mesh(glb.save(tmp_path / "x.glb", primitive))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"glTF" + struct.pack("<II", 1, 20) + bytes(8), "glTF 1"),
        (b"glTF" + struct.pack("<II", 2, 400) + bytes(8), "cut off"),
        (b"glTF", "damaged"),
    ],
)
def test_glb_other_version_or_kind_raises_one_sentence(tmp_path, content, message):
    (tmp_path / "x.glb").write_bytes(content)
    with pytest.raises(InvalidInput, match=message):
        load_mesh(tmp_path / "x.glb")


def test_glb_saved_names_version_and_length(tmp_path):
    mesh = Mesh(torch.rand(3, 3), torch.tensor([[0, 1, 2]]), torch.rand(3, 3))
    save_mesh(mesh, tmp_path / "x.glb")
    content = (tmp_path / "x.glb").read_bytes()
    length = struct.unpack_from("<I", content, 12)[0]
    tree = json.loads(content[20 : 20 + length])
    assert tree["asset"] == {"version": "2.0", "generator": "Image to 3D"}
    (buffer,) = tree["buffers"]
    assert buffer["byteLength"] == max(
        view["byteOffset"] + view["byteLength"] for view in tree["bufferViews"]
    )


def _gltf(path: Path, glb: Glb, primitive: dict[str, Any], uri: str) -> Path:
    """Convert a GLB to a .gltf file whose numbers are in another file or a data URI."""
    glb.save(path.with_suffix(".glb"), primitive)
    glb.tree["buffers"] = [{"byteLength": len(glb.binary), "uri": uri}]
    path.write_text("\ufeff" + json.dumps(glb.tree, indent=2), encoding="utf-8")
    return path


def test_gltf_with_files_beside_it_is_read(tmp_path):
    Image.new("RGB", (4, 4), (0, 0, 255)).save(tmp_path / "t.png")
    glb = Glb(images=[{"uri": "t.png"}], textures=[{"source": 0}])
    glb.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
    attributes = {"POSITION": glb.add(QUAD), "TEXCOORD_0": glb.add([[0.5, 0.5]] * 4, "VEC2")}
    primitive = {"attributes": attributes, "mode": 5, "material": 0}
    path = _gltf(tmp_path / "x.gltf", glb, primitive, "data/numbers.bin")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "numbers.bin").write_bytes(glb.binary)
    mesh = load_mesh(path)
    np.testing.assert_allclose(file_vertices(mesh), QUAD)
    assert colors_of(mesh) == {BLUE}


@pytest.mark.parametrize("encoding", ["base64", "base64 without padding", "percent"])
def test_gltf_with_data_uris_is_read(tmp_path, encoding):
    glb = Glb()
    primitive = {"attributes": {"POSITION": glb.add(QUAD)}, "mode": 5}
    uri = "data:application/gltf-buffer;base64," + base64.b64encode(glb.binary).decode()
    if encoding == "percent":
        uri = "data:application/octet-stream," + "".join(f"%{b:02x}" for b in glb.binary)
    elif encoding != "base64":
        uri = uri.rstrip("=")
    mesh = load_mesh(_gltf(tmp_path / "x.gltf", glb, primitive, uri))
    np.testing.assert_allclose(file_vertices(mesh), QUAD)


def test_gltf_with_missing_buffer_names_it(tmp_path):
    glb = Glb()
    primitive = {"attributes": {"POSITION": glb.add(QUAD)}, "mode": 5}
    with pytest.raises(InvalidInput, match=r"names the file gone\.bin, which is not beside it"):
        load_mesh(_gltf(tmp_path / "x.gltf", glb, primitive, "gone.bin"))


def test_glb_huge_count_without_data_is_refused(tmp_path):
    glb = Glb()
    indices, values = glb.add([0], "SCALAR", "<u2"), glb.add([[1, 0, 0]])
    glb.tree["accessors"].append(
        {
            "componentType": 5126,
            "count": 2**40,
            "type": "VEC3",
            "sparse": {
                "count": 1,
                "indices": {"bufferView": indices, "componentType": 5123},
                "values": {"bufferView": values},
            },
        }
    )
    with pytest.raises(InvalidInput, match="not supported"):
        load_mesh(glb.save(tmp_path / "x.glb", {"attributes": {"POSITION": 2}, "mode": 5}))
