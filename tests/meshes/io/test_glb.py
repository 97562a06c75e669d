"""GLB as other programs write it, put together by hand."""

from __future__ import annotations

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
from pipelines.images.colors import to_linear
from pipelines.meshes.color_transfer import texture_to_vertex_colors
from pipelines.meshes.io import load_mesh, save_mesh
from pipelines.meshes.mesh import Mesh

from .helpers import BLUE, CASES, RED, colors_of, face_normals, file_vertices, is_a_cube


def test_packed_numbers_are_unpacked():
    folder = CASES / "glb-normalized-integers"
    assert is_a_cube(load_mesh(folder / "positions.glb"))
    for name in ("uv-16.glb", "uv-8.glb"):
        assert colors_of(load_mesh(folder / name)) == {RED}


def test_sparse_positions_are_read_and_draco_is_named():
    assert is_a_cube(load_mesh(CASES / "glb-silent-zeros" / "sparse.glb"))
    with pytest.raises(
        InvalidInput, match=r"KHR_draco_mesh_compression.*save it without compression"
    ):
        load_mesh(CASES / "glb-silent-zeros" / "draco.glb")


class Glb:
    """A GLB put together by hand."""

    def __init__(self, **tree: Any) -> None:
        self.binary = b""
        self.tree: dict[str, Any] = {
            "asset": {"version": "2.0"},
            "accessors": [],
            "bufferViews": [],
        } | tree

    def add(self, array: Any, kind: str = "VEC3", dtype: str = "<f4", **more: Any) -> int:
        array = np.asarray(array, dtype=dtype)
        component = {"i1": 5120, "u1": 5121, "<i2": 5122, "<u2": 5123, "<u4": 5125, "<f4": 5126}[
            dtype
        ]
        self.binary += b"\0" * (-len(self.binary) % 4)
        self.tree["bufferViews"].append(
            {"buffer": 0, "byteOffset": len(self.binary), "byteLength": array.nbytes}
        )
        self.binary += array.tobytes()
        view = len(self.tree["bufferViews"]) - 1
        count = array.size // {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}[kind]
        self.tree["accessors"].append(
            {"bufferView": view, "componentType": component, "count": count, "type": kind} | more
        )
        return len(self.tree["accessors"]) - 1

    def image(self, *colors: tuple[int, int, int]) -> int:
        """A row of pixels as an image."""
        import io

        buffer = io.BytesIO()
        row = Image.new("RGB", (len(colors), 1))
        row.putdata(colors)
        row.resize((8 * len(colors), 8), Image.Resampling.NEAREST).save(buffer, "PNG")
        self.binary += b"\0" * (-len(self.binary) % 4)
        self.tree["bufferViews"].append(
            {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(buffer.getvalue())}
        )
        self.binary += buffer.getvalue()
        self.tree.setdefault("images", []).append(
            {"bufferView": len(self.tree["bufferViews"]) - 1, "mimeType": "image/png"}
        )
        return len(self.tree["images"]) - 1

    def save(self, path: Path, primitive: dict[str, Any], **node: Any) -> Path:
        self.tree.setdefault("meshes", [{"primitives": [primitive]}])
        self.tree.setdefault("nodes", [{"mesh": 0} | node])
        self.tree["buffers"] = [{"byteLength": len(self.binary)}]
        text = json.dumps(self.tree).encode()
        text += b" " * (-len(text) % 4)
        binary = self.binary + b"\0" * (-len(self.binary) % 4)
        chunks = (
            struct.pack("<II", len(text), 0x4E4F534A)
            + text
            + struct.pack("<II", len(binary), 0x004E4942)
            + binary
        )
        path.write_bytes(struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks)
        return path


QUAD = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]  # as a strip


def test_matrices_of_nodes_are_written_column_by_column(tmp_path):
    glb = Glb()
    matrix = [0, 2, 0, 0, -1, 0, 0, 0, 0, 0, 1, 0, 10, 20, 30, 1]  # x -> 2 y, y -> -x, then moved
    mesh = load_mesh(
        glb.save(
            tmp_path / "x.glb",
            {"attributes": {"POSITION": glb.add(QUAD)}, "mode": 5},
            matrix=matrix,
        )
    )
    np.testing.assert_allclose(
        file_vertices(mesh), [[10, 20, 30], [10, 22, 30], [9, 20, 30], [9, 22, 30]]
    )


def test_scenes_are_told_apart_and_a_file_without_one_shows_all_its_roots(tmp_path):
    def saved(**more: Any) -> Mesh:
        glb = Glb(
            nodes=[{"mesh": 0}, {"mesh": 0, "translation": [5, 0, 0]}, {"children": [0]}], **more
        )
        return load_mesh(
            glb.save(tmp_path / "x.glb", {"attributes": {"POSITION": glb.add(QUAD)}, "mode": 5})
        )

    assert file_vertices(saved(scenes=[{"nodes": [0]}, {"nodes": [1]}], scene=1))[0].tolist() == [
        5,
        0,
        0,
    ]
    assert len(saved(scenes=[{"nodes": [1]}]).faces) == 2
    assert len(saved().faces) == 4
    with pytest.raises(InvalidInput, match="no triangles"):
        saved(scenes=[{}])


def test_a_long_strip_turns_every_second_triangle(tmp_path):
    glb = Glb()
    rows = [[x, y, 0] for x in range(4) for y in (1, 0)]
    mesh = load_mesh(
        glb.save(tmp_path / "x.glb", {"attributes": {"POSITION": glb.add(rows)}, "mode": 5})
    )
    assert mesh.faces.tolist() == [[0, 1, 2], [2, 1, 3], [2, 3, 4], [4, 3, 5], [4, 5, 6], [6, 5, 7]]
    np.testing.assert_allclose(face_normals(mesh), [[0, 0, 1]] * 6)


def test_corners_left_over_make_no_triangle(tmp_path):
    glb = Glb()
    indices = glb.add([0, 1, 2, 2, 1, 3, 0, 1], "SCALAR", "u1")
    mesh = load_mesh(
        glb.save(
            tmp_path / "x.glb", {"attributes": {"POSITION": glb.add(QUAD)}, "indices": indices}
        )
    )
    assert mesh.faces.tolist() == [[0, 1, 2], [2, 1, 3]]


@pytest.mark.parametrize("beside", [True, False])
def test_buffers_and_images_outside_the_file(tmp_path, beside):
    import base64
    import io

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


def test_sparse_numbers_may_stand_on_nothing(tmp_path):
    glb = Glb()
    index = glb.add(QUAD)
    rows, values = glb.add([1, 3], "SCALAR", "<u2"), glb.add([[1, 0, 0], [0, 1, 0]])
    views = [glb.tree["accessors"][i]["bufferView"] for i in (rows, values)]
    glb.tree["accessors"][index] = {"componentType": 5126, "count": 4, "type": "VEC3"}
    glb.tree["accessors"][index]["sparse"] = {
        "count": 2,
        "indices": {"bufferView": views[0], "componentType": 5123},
        "values": {"bufferView": views[1]},
    }
    mesh = load_mesh(
        glb.save(
            tmp_path / "x.glb",
            {"attributes": {"POSITION": index}, "indices": glb.add([0, 1, 3], "SCALAR", "<u4")},
        )
    )
    np.testing.assert_allclose(file_vertices(mesh), [[0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0]])


def test_weights_of_joints_count_by_their_share(tmp_path):
    glb = Glb()
    attributes = {
        "POSITION": glb.add(QUAD),
        "JOINTS_0": glb.add([[0, 0, 0, 0]] * 4, "VEC4", "<u2"),
        "WEIGHTS_0": glb.add(
            [[0.5, 0, 0, 0], [0, 0, 0, 0], [64, 64, 0, 0], [0.25, 0, 0, 0.25]], "VEC4"
        ),
    }
    glb.tree["skins"] = [{"joints": [1]}]
    glb.tree["nodes"] = [{"mesh": 0, "skin": 0}, {"translation": [0, 0, 3]}]
    mesh = load_mesh(glb.save(tmp_path / "x.glb", {"attributes": attributes, "mode": 5}))
    np.testing.assert_allclose(file_vertices(mesh)[:, 2], [3, 0, 3, 3], atol=1e-5)


def test_a_joint_outside_the_scene_stands_where_the_scene_does(tmp_path):
    glb = Glb()
    attributes = {
        "POSITION": glb.add(QUAD),
        "JOINTS_0": glb.add([[1, 0, 0, 0]] * 4, "VEC4", "u1"),
        "WEIGHTS_0": glb.add([[1, 0, 0, 0]] * 4, "VEC4"),
    }
    glb.tree["skins"] = [{"joints": [1, 2]}]
    glb.tree["nodes"] = [
        {"mesh": 0, "skin": 0},
        {"translation": [0, 0, 3]},
        {"translation": [0, 0, 5]},
    ]
    glb.tree["scenes"] = [{"nodes": [0, 1]}]
    mesh = load_mesh(glb.save(tmp_path / "x.glb", {"attributes": attributes, "mode": 5}))
    np.testing.assert_allclose(file_vertices(mesh), QUAD)


def test_eight_joints_may_hold_a_vertex(tmp_path):
    glb = Glb()
    attributes = {"POSITION": glb.add(QUAD)}
    for number, joint in enumerate((0, 1)):
        attributes[f"JOINTS_{number}"] = glb.add([[joint, 0, 0, 0]] * 4, "VEC4", "u1")
        attributes[f"WEIGHTS_{number}"] = glb.add([[0.5, 0, 0, 0]] * 4, "VEC4")
    glb.tree["skins"] = [{"joints": [1, 2]}]
    glb.tree["nodes"] = [
        {"mesh": 0, "skin": 0},
        {"translation": [0, 0, 3]},
        {"translation": [0, 0, 5]},
    ]
    mesh = load_mesh(glb.save(tmp_path / "x.glb", {"attributes": attributes, "mode": 5}))
    np.testing.assert_allclose(file_vertices(mesh)[:, 2], 4, atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "order", "faces"),
    [(5, [0, 1, 2, 3], 2), (6, [0, 1, 3, 2], 2), (4, [0, 1, 2, 2, 1, 3], 2), (1, [0, 1], 0)],
)
@pytest.mark.parametrize("indexed", [True, False])
def test_strips_fans_and_lists_face_one_way(tmp_path, mode, order, faces, indexed):
    glb = Glb()
    positions = glb.add(QUAD if indexed else [QUAD[i] for i in order])
    primitive = {"attributes": {"POSITION": positions}, "mode": mode}
    if indexed:
        primitive["indices"] = glb.add(order, "SCALAR", "<u2")
    path = glb.save(tmp_path / "x.glb", primitive)
    if not faces:
        with pytest.raises(InvalidInput, match="no triangles"):
            load_mesh(path)
        return
    mesh = load_mesh(path)
    assert len(mesh.faces) == faces
    np.testing.assert_allclose(face_normals(mesh), [[0, 0, 1]] * faces)


def test_colour_factor_image_and_vertices_are_multiplied_as_light(tmp_path):
    glb = Glb()
    image = glb.image((188, 188, 188))  # 0.5 of the light
    glb.tree |= {
        "textures": [{"source": image}],
        "materials": [
            {
                "pbrMetallicRoughness": {
                    "baseColorFactor": [0.5, 1, 1, 1],
                    "baseColorTexture": {"index": 0},
                }
            }
        ],
    }
    attributes = {
        "POSITION": glb.add(QUAD),
        "TEXCOORD_0": glb.add([[0.5, 0.5]] * 4, "VEC2"),
        "COLOR_0": glb.add([[65535, 32768, 65535, 65535]] * 4, "VEC4", "<u2", normalized=True),
    }
    mesh = load_mesh(
        glb.save(tmp_path / "x.glb", {"attributes": attributes, "mode": 5, "material": 0})
    )
    light = to_linear(texture_to_vertex_colors(mesh).vertex_colors)
    assert light[0].tolist() == pytest.approx([0.25, 0.25, 0.5], abs=0.01)
    save_mesh(mesh, tmp_path / "again.glb")
    again = to_linear(texture_to_vertex_colors(load_mesh(tmp_path / "again.glb")).vertex_colors)
    torch.testing.assert_close(again, light, atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("texture", "sampler", "uv", "color"),
    [
        ({"index": 0}, {}, [0.25, 0.5], RED),
        ({"index": 0, "texCoord": 1}, {}, [0.25, 0.5], BLUE),
        (
            {"index": 0, "extensions": {"KHR_texture_transform": {"offset": [0.5, 0]}}},
            {},
            [0.25, 0.5],
            BLUE,
        ),
        (
            {"index": 0, "extensions": {"KHR_texture_transform": {"scale": [3, 1]}}},
            {},
            [0.25, 0.5],
            BLUE,
        ),
        (
            {"index": 0, "extensions": {"KHR_texture_transform": {"texCoord": 1}}},
            {},
            [0.25, 0.5],
            BLUE,
        ),
        (
            {"index": 0, "extensions": {"KHR_texture_transform": {"rotation": np.pi}}},
            {},
            [0.25, 0.5],
            BLUE,
        ),  # (-0.25, -0.5)
        (
            {"index": 0, "extensions": {"KHR_texture_transform": {"rotation": np.pi / 2}}},
            {},
            [0.75, 0.25],
            RED,
        ),  # (0.25, -0.75)
        ({"index": 0}, {}, [1.25, 0.5], RED),
        ({"index": 0}, {"wrapS": 33071}, [1.25, 0.5], BLUE),
        ({"index": 0}, {"wrapS": 33648}, [1.25, 0.5], BLUE),
        ({"index": 0}, {"wrapS": 33648}, [1.75, 0.5], RED),
        ({"index": 0}, {"wrapT": 33071}, [0.25, 7.5], RED),
    ],
)
def test_where_a_texture_is_looked_up(tmp_path, texture, sampler, uv, color):
    glb = Glb(samplers=[sampler])
    glb.tree |= {"textures": [{"source": glb.image((255, 0, 0), (0, 0, 255)), "sampler": 0}]}
    glb.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": texture}}]
    other = [0.75, 0.5]  # blue
    attributes = {
        "POSITION": glb.add(QUAD),
        "TEXCOORD_0": glb.add([uv] * 4, "VEC2"),
        "TEXCOORD_1": glb.add([other] * 4, "VEC2"),
    }
    mesh = load_mesh(
        glb.save(tmp_path / "x.glb", {"attributes": attributes, "mode": 5, "material": 0})
    )
    assert colors_of(mesh) == {color}


def test_glossy_materials_have_colours_too(tmp_path):
    glb = Glb()
    glb.tree["materials"] = [
        {"extensions": {"KHR_materials_pbrSpecularGlossiness": {"diffuseFactor": [0, 0, 1, 1]}}}
    ]
    path = glb.save(
        tmp_path / "x.glb", {"attributes": {"POSITION": glb.add(QUAD)}, "mode": 5, "material": 0}
    )
    assert colors_of(load_mesh(path)) == {BLUE}


def test_nodes_place_turn_and_mirror(tmp_path):
    glb = Glb()
    primitive = {"attributes": {"POSITION": glb.add(QUAD)}, "mode": 5}
    half = 0.5**0.5
    glb.tree["nodes"] = [
        {"children": [1], "translation": [10, 0, 0]},
        {
            "mesh": 0,
            "rotation": [0, 0, half, half],
            "scale": [-2, 1, 1],
        },  # mirrored in x, then a quarter turn around z
    ]
    glb.tree["scenes"] = [{"nodes": [0]}]
    mesh = load_mesh(glb.save(tmp_path / "x.glb", primitive))
    expected = [[10, 0, 0], [10, -2, 0], [9, 0, 0], [9, -2, 0]]
    np.testing.assert_allclose(file_vertices(mesh), expected, atol=1e-6)
    np.testing.assert_allclose(face_normals(mesh)[:, 2], 1, atol=1e-6)


def test_skins_hold_their_vertices(tmp_path):
    glb = Glb()
    attributes = {
        "POSITION": glb.add(QUAD),
        "JOINTS_0": glb.add([[0, 1, 0, 0]] * 4, "VEC4", "u1"),
        "WEIGHTS_0": glb.add(
            [[1, 0, 0, 0], [0, 1, 0, 0], [0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0]], "VEC4"
        ),
    }
    inverse = np.tile(np.eye(4), (2, 1, 1))
    inverse[:, 2, 3] = 5  # columns come first in the file
    glb.tree["skins"] = [
        {"joints": [1, 2], "inverseBindMatrices": glb.add(inverse.transpose(0, 2, 1), "MAT4")}
    ]
    glb.tree["nodes"] = [
        {"mesh": 0, "skin": 0, "translation": [99, 0, 0]},
        {"translation": [0, 0, 1]},
        {"translation": [4, 0, 1]},
    ]
    mesh = load_mesh(glb.save(tmp_path / "x.glb", {"attributes": attributes, "mode": 5}))
    np.testing.assert_allclose(
        file_vertices(mesh), [[0, 0, 6], [5, 0, 6], [2, 1, 6], [3, 1, 6]], atol=1e-6
    )


def test_shapes_that_a_mesh_is_blended_with(tmp_path):
    glb = Glb()
    primitive = {
        "attributes": {"POSITION": glb.add(QUAD)},
        "mode": 5,
        "targets": [{"POSITION": glb.add([[0, 0, 2]] * 4)}],
    }
    mesh = load_mesh(glb.save(tmp_path / "x.glb", primitive, weights=[0.5]))
    np.testing.assert_allclose(file_vertices(mesh)[:, 2], 1)


def test_interleaved_and_shared_buffers(tmp_path):
    glb = Glb()
    rows = np.hstack([np.array(QUAD), np.full((4, 3), 0.5)]).astype("<f4")
    glb.add(rows, "VEC3")
    glb.tree["bufferViews"][0]["byteStride"] = 24
    glb.tree["accessors"] = [
        {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3"},
        {"bufferView": 0, "byteOffset": 12, "componentType": 5126, "count": 4, "type": "VEC3"},
    ]
    mesh = load_mesh(
        glb.save(tmp_path / "x.glb", {"attributes": {"POSITION": 0, "COLOR_0": 1}, "mode": 5})
    )
    np.testing.assert_allclose(file_vertices(mesh), QUAD)
    assert float(to_linear(mesh.vertex_colors).mean()) == pytest.approx(0.5, abs=1e-4)


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
    glb.tree["extensionsRequired"] = ["EXT_mesh_gpu_instancing"]
    return {"attributes": {"POSITION": glb.add(QUAD)}, "mode": 5}


def _bad_image(glb: Glb) -> dict[str, Any]:
    primitive = _elsewhere(glb)
    glb.tree["images"] = [{"uri": "data:image/png;base64,AAAA"}]
    return primitive


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_without_data, "not read"),
        (_cut_off, "cut off"),
        (_circle, "circle"),
        (_beyond, "not there"),
        (_elsewhere, "not beside it"),
        (_unknown, "EXT_mesh_gpu_instancing"),
        (_bad_image, "image"),
    ],
)
def test_what_a_glb_cannot_say_is_one_sentence(
    tmp_path, make: Callable[[Glb], dict[str, Any]], said
):
    glb = Glb()
    primitive = make(glb)
    with pytest.raises(InvalidInput, match=said):
        load_mesh(glb.save(tmp_path / "x.glb", primitive))


def test_dark_colours_survive_a_glb(tmp_path):
    dark = torch.tensor([[0.0, 0.004, 0.02], [0.05, 0.5, 1.0], [0.001, 0.01, 0.99]])
    save_mesh(Mesh(torch.rand(3, 3), torch.tensor([[0, 1, 2]]), dark), tmp_path / "x.glb")
    torch.testing.assert_close(load_mesh(tmp_path / "x.glb").vertex_colors, dark, atol=1e-5, rtol=0)


def test_one_image_in_two_colours_of_its_material(tmp_path):
    glb = Glb()
    image = glb.image((255, 255, 255))
    metallic = [
        {"baseColorTexture": {"index": 0}, "baseColorFactor": [*color, 1]}
        for color in (RED, (1.0, 1.0, 1.0))
    ]
    glb.tree |= {
        "textures": [{"source": image}],
        "materials": [{"pbrMetallicRoughness": m} for m in metallic],
    }
    attributes = {"POSITION": glb.add(QUAD), "TEXCOORD_0": glb.add([[0.5, 0.5]] * 4, "VEC2")}
    glb.tree["meshes"] = [
        {"primitives": [{"attributes": attributes, "mode": 5, "material": i} for i in (0, 1)]}
    ]
    colors = texture_to_vertex_colors(load_mesh(glb.save(tmp_path / "x.glb", {}))).vertex_colors
    assert colors.round().tolist() == [list(RED)] * 4 + [[1.0, 1.0, 1.0]] * 4


def test_a_image_mirrored_both_ways(tmp_path):
    glb = Glb(samplers=[{"wrapS": 33648, "wrapT": 33648}])
    glb.tree |= {"textures": [{"source": glb.image((255, 0, 0), (0, 0, 255)), "sampler": 0}]}
    glb.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
    attributes = {
        "POSITION": glb.add(QUAD),
        "TEXCOORD_0": glb.add([[1.25, 1.5], [1.75, 1.5], [0.25, 0.5], [2.25, 3.5]], "VEC2"),
    }
    mesh = load_mesh(
        glb.save(tmp_path / "x.glb", {"attributes": attributes, "mode": 5, "material": 0})
    )
    assert texture_to_vertex_colors(mesh).vertex_colors.round().tolist() == [
        list(BLUE),
        list(RED),
        list(RED),
        list(RED),
    ]


def test_compressed_data_beside_plain_ones_are_not_needed(tmp_path):
    glb = Glb(extensionsUsed=["KHR_draco_mesh_compression"])
    primitive = {
        "attributes": {"POSITION": glb.add(QUAD)},
        "mode": 5,
        "extensions": {"KHR_draco_mesh_compression": {"bufferView": 0}},
    }
    np.testing.assert_allclose(
        file_vertices(load_mesh(glb.save(tmp_path / "x.glb", primitive))), QUAD
    )


def test_meshopt_views_are_named(tmp_path):
    glb = Glb()
    primitive = {"attributes": {"POSITION": glb.add(QUAD)}, "mode": 5}
    glb.tree["bufferViews"][0]["extensions"] = {"EXT_meshopt_compression": {}}
    with pytest.raises(InvalidInput, match=r"EXT_meshopt_compression.*save it without compression"):
        load_mesh(glb.save(tmp_path / "x.glb", primitive))


def test_colours_beyond_their_range_are_cut(tmp_path):
    glb = Glb()
    colors = [[-1, 0.5, 2], [1, 1, 1], [0, 0, 0], [0.5, 0.5, 0.5]]
    mesh = load_mesh(
        glb.save(
            tmp_path / "x.glb",
            {"attributes": {"POSITION": glb.add(QUAD), "COLOR_0": glb.add(colors)}, "mode": 5},
        )
    )
    assert to_linear(mesh.vertex_colors).flatten().tolist() == pytest.approx(
        [0, 0.5, 1, 1, 1, 1, 0, 0, 0, 0.5, 0.5, 0.5], abs=1e-4
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"glTF" + struct.pack("<II", 1, 20) + bytes(8), "glTF 1"),
        (b"glTF" + struct.pack("<II", 2, 400) + bytes(8), "cut off"),
        (b"glTF", "damaged"),
    ],
)
def test_files_of_another_kind(tmp_path, content, said):
    (tmp_path / "x.glb").write_bytes(content)
    with pytest.raises(InvalidInput, match=said):
        load_mesh(tmp_path / "x.glb")


def test_a_shape_of_blending_that_moves_nothing(tmp_path):
    glb = Glb()
    primitive = {
        "attributes": {"POSITION": glb.add(QUAD)},
        "mode": 5,
        "targets": [{"NORMAL": glb.add([[0, 0, 2]] * 4)}, {"POSITION": glb.add([[0, 0, 2]] * 4)}],
    }
    mesh = load_mesh(glb.save(tmp_path / "x.glb", primitive, weights=[0.5, 0.0]))
    np.testing.assert_allclose(file_vertices(mesh)[:, 2], 0)


def test_a_texture_as_webp_is_taken_before_the_other(tmp_path):
    glb = Glb()
    other, webp = glb.image((0, 0, 255)), glb.image((255, 0, 0))
    glb.tree["textures"] = [{"source": other, "extensions": {"EXT_texture_webp": {"source": webp}}}]
    glb.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
    primitive = {
        "attributes": {"POSITION": glb.add(QUAD), "TEXCOORD_0": glb.add([[0.5, 0.5]] * 4, "VEC2")},
        "mode": 5,
        "material": 0,
    }
    assert colors_of(load_mesh(glb.save(tmp_path / "x.glb", primitive))) == {RED}


def test_a_glb_says_what_it_is(tmp_path):
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


def test_a_material_that_says_nothing_is_white(tmp_path):
    glb = Glb(materials=[{}])
    primitive = {"attributes": {"POSITION": glb.add(QUAD)}, "mode": 5, "material": 0}
    mesh = load_mesh(glb.save(tmp_path / "x.glb", primitive))
    assert mesh.vertex_colors is None
    assert len(mesh.faces) == 2


def test_a_texture_may_end_at_its_top_and_repeat_sideways(tmp_path):
    """Red over blue: above the first row it stays red, beside the image it starts anew."""
    image = Image.new("RGB", (8, 8), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 8, 4))
    image.save(tmp_path / "map.png")
    glb = Glb(samplers=[{"wrapT": 33071}], images=[{"uri": "map.png"}])
    glb.tree["textures"] = [{"source": 0, "sampler": 0}]
    glb.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
    attributes = {"POSITION": glb.add(QUAD), "TEXCOORD_0": glb.add([[1.5, -0.3]] * 4, "VEC2")}
    mesh = load_mesh(
        glb.save(tmp_path / "x.glb", {"attributes": attributes, "mode": 5, "material": 0})
    )
    assert colors_of(mesh) == {RED}


def test_a_skin_holds_only_vertices_that_name_joints(tmp_path):
    glb = Glb(skins=[{"joints": [0]}])
    primitive = {"attributes": {"POSITION": glb.add(QUAD)}, "mode": 5}
    mesh = load_mesh(glb.save(tmp_path / "x.glb", primitive, skin=0))
    np.testing.assert_allclose(file_vertices(mesh), QUAD)


def test_a_colour_factor_and_vertices_are_multiplied_without_a_image(tmp_path):
    glb = Glb(materials=[{"pbrMetallicRoughness": {"baseColorFactor": [0.5, 1, 1, 1]}}])
    attributes = {"POSITION": glb.add(QUAD), "COLOR_0": glb.add([[0.5, 0.25, 1.0]] * 4)}
    mesh = load_mesh(
        glb.save(tmp_path / "x.glb", {"attributes": attributes, "mode": 5, "material": 0})
    )
    expected = torch.tensor([[0.25, 0.25, 1.0]]).expand(4, -1)
    torch.testing.assert_close(to_linear(mesh.vertex_colors), expected, atol=1e-4, rtol=0)


def test_joints_without_a_skin_hold_nothing(tmp_path):
    glb = Glb()
    attributes = {
        "POSITION": glb.add(QUAD),
        "JOINTS_0": glb.add([[0, 0, 0, 0]] * 4, "VEC4", "u1"),
        "WEIGHTS_0": glb.add([[1, 0, 0, 0]] * 4, "VEC4"),
    }
    mesh = load_mesh(glb.save(tmp_path / "x.glb", {"attributes": attributes, "mode": 5}))
    np.testing.assert_allclose(file_vertices(mesh), QUAD)
