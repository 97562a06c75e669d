"""What files of other programs hold, and that what is written is read again."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.errors import InvalidInput
from pipelines.light import to_linear
from pipelines.mesh import Mesh
from pipelines.mesh_io import FORMATS, load_mesh, mesh_files, mesh_path, save_mesh
from pipelines.meshes.files import pieces
from pipelines.meshes.files.obj import decimals
from pipelines.meshes.painting import texture_colors, texture_to_vertex_colors

CASES = Path(__file__).parent / "data" / "cases"
RED, BLUE, ORANGE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.5, 0.0)


def _is_a_cube(mesh: Mesh, side: float = 1.0) -> bool:
    """Twelve triangles, right side out, around the right volume."""
    size = mesh.vertices.amax(dim=0) - mesh.vertices.amin(dim=0)
    return len(mesh.faces) == 12 and mesh.volume() == pytest.approx(side**3, rel=1e-4) and size.tolist() == pytest.approx([side] * 3, rel=1e-4)


def _colors(mesh: Mesh) -> set[tuple[float, ...]]:
    found = texture_to_vertex_colors(mesh).vertex_colors
    assert found is not None
    return {tuple(round(c, 2) for c in row) for row in found.tolist()}


# --- OBJ ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", sorted((CASES / "obj-text-variants").glob("*.obj")), ids=lambda p: p.stem)
def test_obj_text_in_every_spelling(file):
    assert _is_a_cube(load_mesh(file))


def test_obj_blocks_count_back_from_where_they_stand():
    assert _is_a_cube(load_mesh(CASES / "obj-relative-indices" / "cube.obj"))


@pytest.mark.parametrize("name", ["cube.obj", "cube-uv.obj", "cube-uv-no-material.obj"])
def test_obj_colours_beside_a_material_are_kept(name):
    mesh = load_mesh(CASES / "obj-colours-with-material" / name)
    assert _is_a_cube(mesh)
    at = {tuple(v): tuple(c) for v, c in zip(mesh.vertices.roll(-1, 1).tolist(), mesh.vertex_colors.tolist(), strict=True)}
    assert at[(0.0, 0.0, 0.0)] == RED
    assert at[(1.0, 0.0, 0.0)] == (0.0, 1.0, 0.0)


@pytest.mark.parametrize("name", ["case", "options", "quoted", "subfolder", "two-libraries", "two-lines"])
def test_obj_textures_are_found_however_they_are_named(name):
    mesh = load_mesh(CASES / "obj-texture-not-found" / f"{name}.obj")
    assert _is_a_cube(mesh)
    assert _colors(mesh) == {RED}


@pytest.mark.parametrize(("name", "color"), [("right", RED), ("left", BLUE)])
def test_textures_repeat_outside_the_unit_square(name, color, tmp_path):
    mesh = load_mesh(CASES / "uv-tiled" / f"{name}.obj")
    assert _colors(mesh) == {color}
    save_mesh(mesh, tmp_path / "cube.ply")
    assert _colors(load_mesh(tmp_path / "cube.ply")) == {color}


def _obj(tmp_path: Path, text: str | bytes, **files: str) -> Path:
    path = tmp_path / "x.obj"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for name, content in files.items():
        (tmp_path / name.replace("_", ".")).write_text(content)
    return path


SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SQUARE + "f 0 1 2\n", "vertex 0"),
        (SQUARE + "f 1 2 5\n", "a vertex that is not there"),
        (SQUARE + "f -5 1 2\n", "a vertex that is not there"),
        (SQUARE + "vt 0 0\nf 1/1 2/1 3/2\n", "a texture coordinate that is not there"),
        (SQUARE + "vt 0 0\nf 1/-2 2/1 3/1\n", "a texture coordinate that is not there"),
        (SQUARE + "f a b c\n", "something else than numbers"),
        (SQUARE + "v 1 x 2\nf 1 2 3\n", "something else than numbers"),
        (SQUARE + "v 1 2\nf 1 2 3\n", "fewer than three"),
        ("v 1 2\nf 1 1 1\n", "too short"),
        (SQUARE, "no triangles"),
        (SQUARE + "l 1 2\np 3\n", "no triangles"),
        (SQUARE + "v nan 0 0\nf 1 2 5\n", "not finite"),
        (SQUARE + "v 1e30 0 0\nf 1 2 5\n", "absurdly large"),
    ],
)
def test_wrong_obj_lines_are_one_sentence(tmp_path, text, said):
    with pytest.raises(InvalidInput, match=said) as caught:
        load_mesh(_obj(tmp_path, text))
    assert "x.obj" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_concave_polygons_are_cut_inside_themselves(tmp_path):
    corners = [(0, 0), (4, 0), (4, 1), (1, 1), (1, 4), (0, 4)]  # an L of area 7
    for z_first in (False, True):
        lines = [f"v {x} {y} 0" if not z_first else f"v 0 {x} {y}" for x, y in corners]
        for start in range(6):
            order = [(start + i) % 6 + 1 for i in range(6)]
            mesh = load_mesh(_obj(tmp_path, "\n".join(lines) + f"\nf {' '.join(map(str, order))}\n"))
            a, b, c = mesh.vertices[mesh.faces].unbind(dim=1)
            normals = torch.linalg.cross(b - a, c - a) / 2
            assert float(normals.norm(dim=1).sum()) == pytest.approx(7)
            assert float(normals.sum(dim=0).norm()) == pytest.approx(7), "all face one way"


def test_colours_on_a_part_of_the_vertices_and_in_bytes(tmp_path):
    mesh = load_mesh(_obj(tmp_path, "v 0 0 0 1 0 0\nv 1 0 0\nv 1 1 0 0 0 1\nf 1 2 3\n"))
    assert mesh.vertex_colors.tolist() == [[1, 0, 0], [1, 1, 1], [0, 0, 1]]
    mesh = load_mesh(_obj(tmp_path, "v 0 0 0 255 0 0\nv 1 0 0 0 51 0\nv 1 1 0 0 0 0\nf 1 2 3\n"))
    assert mesh.vertex_colors.tolist() == [[1, 0, 0], [0, pytest.approx(0.2), 0], [0, 0, 0]]


def test_a_quad_beside_a_triangle_keeps_the_order_of_the_file(tmp_path):
    mesh = load_mesh(_obj(tmp_path, SQUARE + "v 0 0 1\nf 1 2 5\nf 1 2 3 4\nf 2 3 5\n"))
    assert mesh.faces.tolist() == [[0, 1, 4], [0, 1, 2], [0, 2, 3], [1, 2, 4]]


def test_materials_of_several_colours_meet_sharply(tmp_path):
    text = "mtllib x.mtl\n" + SQUARE + "usemtl a\nf 1 2 3\nusemtl b\nf 1 3 4\n"
    mesh = load_mesh(_obj(tmp_path, text, x_mtl="newmtl a\nKd 1 0 0\nnewmtl b\nKd 0 0 1 # blue\n"))
    assert [mesh.vertex_colors[face].unique(dim=0).tolist() for face in mesh.faces] == [[list(RED)], [list(BLUE)]]


def test_several_pictures_and_colours_become_one_texture(tmp_path):
    for name, color in (("red.png", (255, 0, 0)), ("blue.png", (0, 0, 255))):
        Image.new("RGB", (16, 8), color).save(tmp_path / name)
    uvs = "vt 0 0\nvt 3 0\nvt 3 3\nvt 0 3\n"  # the second picture repeats three times
    text = "mtllib x.mtl\n" + SQUARE + uvs + "usemtl a\nf 1/1 2/2 3/3\nusemtl b\nf 1/1 3/3 4/4\nusemtl c\nf 1 4 3\n"
    mtl = "newmtl a\nmap_Kd red.png\nnewmtl b\nmap_Kd blue.png\nnewmtl c\nKd 1 .5 0\n"
    mesh = load_mesh(_obj(tmp_path, text, x_mtl=mtl))
    assert float(mesh.uvs.amin()) >= 0
    assert float(mesh.uvs.amax()) <= 1
    middles = mesh.uvs[mesh.faces].mean(dim=1)
    assert [[round(c, 2) for c in row] for row in texture_colors(mesh.texture, middles).tolist()] == [list(RED), list(BLUE), list(ORANGE)]


@pytest.mark.parametrize(
    ("options", "uv", "color"),
    [
        ("", "0.2 0.5", RED),
        ("-s 3", "0.2 0.5", BLUE),
        ("-s 3 1 1", "0.2 0.5", BLUE),
        ("-s 1 7", "0.2 0.5", RED),
        ("-o 0.5", "0.2 0.5", BLUE),
        ("-o 0.5 0.1 0", "0.2 0.5", BLUE),
        ("-o 0 0.7", "0.2 0.5", RED),
        ("-t 0 0 0 -mm 0 1 -blendu on", "0.2 0.5", RED),
        ("-unknown", "0.2 0.5", None),
    ],
)
def test_options_of_an_mtls_picture(tmp_path, caplog, options, uv, color):
    half = Image.new("RGB", (32, 32), (255, 0, 0))
    half.paste((0, 0, 255), (16, 0, 32, 32))
    half.save(tmp_path / "a half.png")
    text = f"mtllib x.mtl\n{SQUARE}vt {uv}\nusemtl a\nf 1/1 2/1 3/1\n"
    mesh = load_mesh(_obj(tmp_path, text, x_mtl=f"\ufeffnewmtl a\r\nmap_Kd {options} a half.png\r\n"))
    if color is None:
        assert mesh.texture is None
        assert "-unknown a half.png" in caplog.text
    else:
        assert _colors(mesh) == {color}


@pytest.mark.parametrize(
    ("line", "color"), [("Kd 0 0 1", BLUE), ("Kd 0.5", (0.5,) * 3), ("Kd 2 0 0", RED), ("Kd spectral x.rfl", None), ("Kd 1", (1.0,) * 3)]
)
def test_colours_of_an_mtl(tmp_path, line, color):
    mesh = load_mesh(_obj(tmp_path, f"mtllib x.mtl\n{SQUARE}usemtl a\nf 1 2 3\n", x_mtl=f"newmtl a\n{line}\n"))
    assert (mesh.vertex_colors is None) if color is None else (_colors(mesh) == {color})


def test_an_unreadable_picture_is_left_out_and_named(tmp_path, caplog):
    (tmp_path / "t.png").write_text("no picture")
    text = f"mtllib x.mtl none.mtl\n{SQUARE}vt 0 0\nusemtl a\nf 1/1 2/1 3/1\n"
    mesh = load_mesh(_obj(tmp_path, text, x_mtl="newmtl a\nKd 1 0 0\nmap_Kd t.png\n"))
    assert "t.png of x.obj cannot be read" in caplog.text
    assert "none.mtl" in caplog.text
    assert _colors(mesh) == {RED}


def test_utf_16_and_continued_lines(tmp_path):
    text = SQUARE + "f 1 2 \\\n3\n"
    assert len(load_mesh(_obj(tmp_path, text)).faces) == 1
    assert len(load_mesh(_obj(tmp_path, text.encode("utf-16"))).faces) == 1


def test_many_large_pictures_are_made_smaller_together(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "MAX_SIDE", 256)
    names = [f"p{i}" for i in range(6)]
    for i, name in enumerate(names):
        Image.new("RGB", (200, 100 + 10 * i), (40 * i, 0, 255 - 40 * i)).save(tmp_path / f"{name}.png")
    lines = "".join(f"usemtl {name}\nf 1/1 2/2 3/3\n" for name in names)
    mtl = "".join(f"newmtl {name}\nmap_Kd {name}.png\n" for name in names)
    mesh = load_mesh(_obj(tmp_path, f"mtllib x.mtl\n{SQUARE}vt 0 0\nvt 1 0\nvt 1 1\n{lines}", x_mtl=mtl))
    assert max(mesh.texture.shape[:2]) <= 256
    found = texture_colors(mesh.texture, mesh.uvs[mesh.faces].mean(dim=1))
    expected = torch.tensor([[40 * i / 255, 0, 1 - 40 * i / 255] for i in range(6)])
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0)


def test_one_picture_in_two_colours_of_its_material(tmp_path):
    glb = Glb()
    image = glb.picture((255, 255, 255))
    metallic = [{"baseColorTexture": {"index": 0}, "baseColorFactor": [*color, 1]} for color in (RED, (1.0, 1.0, 1.0))]
    glb.tree |= {"textures": [{"source": image}], "materials": [{"pbrMetallicRoughness": m} for m in metallic]}
    attributes = {"POSITION": glb.add(QUAD), "TEXCOORD_0": glb.add([[0.5, 0.5]] * 4, "VEC2")}
    glb.tree["meshes"] = [{"primitives": [{"attributes": attributes, "mode": 5, "material": i} for i in (0, 1)]}]
    colors = texture_to_vertex_colors(load_mesh(glb.save(tmp_path / "x.glb", {}))).vertex_colors
    assert colors.round().tolist() == [list(RED)] * 4 + [[1.0, 1.0, 1.0]] * 4


def test_triangles_of_one_picture_repeat_each_from_its_own_place(tmp_path):
    half = Image.new("RGB", (64, 64), (255, 0, 0))
    half.paste((0, 0, 255), (32, 0, 64, 64))
    half.save(tmp_path / "half.png")
    uvs = "vt 7.1 0.2\nvt 7.2 0.2\nvt 7.2 0.4\nvt -3.3 0.2\nvt -3.2 0.2\nvt -3.2 0.4\n"  # red, then blue
    text = f"mtllib x.mtl\n{SQUARE}{uvs}usemtl a\nf 1/1 2/2 3/3\nf 1/4 3/5 4/6\nusemtl c\nf 1 4 3\n"
    mesh = load_mesh(_obj(tmp_path, text, x_mtl="newmtl a\nmap_Kd half.png\nnewmtl c\nKd 0 1 0\n"))
    found = texture_colors(mesh.texture, mesh.uvs[mesh.faces].mean(dim=1))
    assert found.round().tolist() == [list(RED), list(BLUE), [0.0, 1.0, 0.0]]
    assert max(mesh.texture.shape[:2]) < 200, "it lies there once, and not ten times"


def test_a_picture_that_repeats_beside_another_is_found_at_the_right_place(tmp_path):
    half = Image.new("RGB", (32, 32), (255, 0, 0))
    half.paste((0, 0, 255), (16, 0, 32, 32))  # red at the left, blue at the right
    half.save(tmp_path / "half.png")
    text = "mtllib x.mtl\n" + SQUARE + "vt -1 0\nvt 1 0\nvt 1 2\nvt -1 2\nusemtl a\nf 1/1 2/2 3/3\nf 1/1 3/3 4/4\nusemtl c\nf 1 4 3\n"
    mesh = load_mesh(_obj(tmp_path, text, x_mtl="newmtl a\nmap_Kd half.png\nnewmtl c\nKd 0 1 0\n"))
    for share, color in ((0.1, RED), (0.4, BLUE), (0.6, RED), (0.9, BLUE)):
        a, b = mesh.uvs[mesh.faces[0, 0]], mesh.uvs[mesh.faces[0, 1]]
        found = texture_colors(mesh.texture, torch.lerp(a, b, share)[None] + torch.tensor([[0.0, 1e-3]]))
        assert found[0].tolist() == pytest.approx(color, abs=0.02), share


# --- GLB ---------------------------------------------------------------------------------------------------------------


def test_flat_colours_of_every_format():
    folder = CASES / "flat-colours-lost"
    assert _colors(load_mesh(folder / "base-colour.glb")) == {ORANGE}
    assert _colors(load_mesh(folder / "kd.obj")) == {RED}
    assert _colors(load_mesh(folder / "base-materials.3mf")) == {RED}
    faces = load_mesh(folder / "faces.ply")
    assert _colors(faces) == {RED, BLUE}
    assert all(len(faces.vertex_colors[face].unique(dim=0)) == 1 for face in faces.faces), "no triangle is of two colours"
    for name in ("base-colour.glb", "kd.obj", "base-materials.3mf", "faces.ply"):
        assert _is_a_cube(load_mesh(folder / name))


def test_packed_numbers_are_unpacked():
    folder = CASES / "glb-normalized-integers"
    assert _is_a_cube(load_mesh(folder / "positions.glb"))
    for name in ("uv-16.glb", "uv-8.glb"):
        assert _colors(load_mesh(folder / name)) == {RED}


def test_sparse_positions_are_read_and_draco_is_named():
    assert _is_a_cube(load_mesh(CASES / "glb-silent-zeros" / "sparse.glb"))
    with pytest.raises(InvalidInput, match=r"KHR_draco_mesh_compression.*save it without compression"):
        load_mesh(CASES / "glb-silent-zeros" / "draco.glb")


class Glb:
    """A GLB put together by hand."""

    def __init__(self, **tree: Any) -> None:
        self.binary = b""
        self.tree: dict[str, Any] = {"asset": {"version": "2.0"}, "accessors": [], "bufferViews": []} | tree

    def add(self, array: Any, kind: str = "VEC3", dtype: str = "<f4", **more: Any) -> int:
        array = np.asarray(array, dtype=dtype)
        component = {"i1": 5120, "u1": 5121, "<i2": 5122, "<u2": 5123, "<u4": 5125, "<f4": 5126}[dtype]
        self.binary += b"\0" * (-len(self.binary) % 4)
        self.tree["bufferViews"].append({"buffer": 0, "byteOffset": len(self.binary), "byteLength": array.nbytes})
        self.binary += array.tobytes()
        view = len(self.tree["bufferViews"]) - 1
        count = array.size // {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}[kind]
        self.tree["accessors"].append({"bufferView": view, "componentType": component, "count": count, "type": kind} | more)
        return len(self.tree["accessors"]) - 1

    def picture(self, *colors: tuple[int, int, int]) -> int:
        """A row of pixels as an image."""
        import io

        buffer = io.BytesIO()
        row = Image.new("RGB", (len(colors), 1))
        row.putdata(colors)
        row.resize((8 * len(colors), 8), Image.Resampling.NEAREST).save(buffer, "PNG")
        self.binary += b"\0" * (-len(self.binary) % 4)
        self.tree["bufferViews"].append({"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(buffer.getvalue())})
        self.binary += buffer.getvalue()
        self.tree.setdefault("images", []).append({"bufferView": len(self.tree["bufferViews"]) - 1, "mimeType": "image/png"})
        return len(self.tree["images"]) - 1

    def save(self, path: Path, primitive: dict[str, Any], **node: Any) -> Path:
        self.tree.setdefault("meshes", [{"primitives": [primitive]}])
        self.tree.setdefault("nodes", [{"mesh": 0} | node])
        self.tree["buffers"] = [{"byteLength": len(self.binary)}]
        text = json.dumps(self.tree).encode()
        text += b" " * (-len(text) % 4)
        binary = self.binary + b"\0" * (-len(self.binary) % 4)
        chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(binary), 0x004E4942) + binary
        path.write_bytes(struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks)
        return path


QUAD = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]  # as a strip


def _file_vertices(mesh: Mesh) -> np.ndarray:
    return mesh.vertices.roll(-1, dims=1).numpy()


def _face_normals(mesh: Mesh) -> np.ndarray:
    a, b, c = (_file_vertices(mesh)[mesh.faces[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def test_matrices_of_nodes_are_written_column_by_column(tmp_path):
    glb = Glb()
    matrix = [0, 2, 0, 0, -1, 0, 0, 0, 0, 0, 1, 0, 10, 20, 30, 1]  # x -> 2 y, y -> -x, then moved
    mesh = load_mesh(glb.save(tmp_path / "x.glb", {"attributes": {"POSITION": glb.add(QUAD)}, "mode": 5}, matrix=matrix))
    np.testing.assert_allclose(_file_vertices(mesh), [[10, 20, 30], [10, 22, 30], [9, 20, 30], [9, 22, 30]])


def test_scenes_are_told_apart_and_a_file_without_one_shows_all_its_roots(tmp_path):
    def saved(**more: Any) -> Mesh:
        glb = Glb(nodes=[{"mesh": 0}, {"mesh": 0, "translation": [5, 0, 0]}, {"children": [0]}], **more)
        return load_mesh(glb.save(tmp_path / "x.glb", {"attributes": {"POSITION": glb.add(QUAD)}, "mode": 5}))

    assert _file_vertices(saved(scenes=[{"nodes": [0]}, {"nodes": [1]}], scene=1))[0].tolist() == [5, 0, 0]
    assert len(saved(scenes=[{"nodes": [1]}]).faces) == 2
    assert len(saved().faces) == 4
    with pytest.raises(InvalidInput, match="no triangles"):
        saved(scenes=[{}])


def test_a_long_strip_turns_every_second_triangle(tmp_path):
    glb = Glb()
    rows = [[x, y, 0] for x in range(4) for y in (1, 0)]
    mesh = load_mesh(glb.save(tmp_path / "x.glb", {"attributes": {"POSITION": glb.add(rows)}, "mode": 5}))
    assert mesh.faces.tolist() == [[0, 1, 2], [2, 1, 3], [2, 3, 4], [4, 3, 5], [4, 5, 6], [6, 5, 7]]
    np.testing.assert_allclose(_face_normals(mesh), [[0, 0, 1]] * 6)


def test_corners_left_over_make_no_triangle(tmp_path):
    glb = Glb()
    indices = glb.add([0, 1, 2, 2, 1, 3, 0, 1], "SCALAR", "u1")
    mesh = load_mesh(glb.save(tmp_path / "x.glb", {"attributes": {"POSITION": glb.add(QUAD)}, "indices": indices}))
    assert mesh.faces.tolist() == [[0, 1, 2], [2, 1, 3]]


@pytest.mark.parametrize("beside", [True, False])
def test_buffers_and_pictures_outside_the_file(tmp_path, beside):
    import base64
    import io

    glb = Glb()
    positions, uvs = glb.add(QUAD), glb.add([[0.5, 0.5]] * 4, "VEC2")
    picture = io.BytesIO()
    Image.new("RGB", (4, 4), (0, 0, 255)).save(picture, "PNG")
    (tmp_path / "a b.bin").write_bytes(glb.binary)
    (tmp_path / "t.png").write_bytes(picture.getvalue())
    data = ["data:application/octet-stream;base64," + base64.b64encode(b).decode() for b in (glb.binary, picture.getvalue())]
    glb.tree |= {"images": [{"uri": "t.png" if beside else data[1]}], "textures": [{"source": 0}]}
    glb.tree["materials"] = [{"extensions": {"KHR_materials_pbrSpecularGlossiness": {"diffuseTexture": {"index": 0}}}}]
    attributes = {"POSITION": positions, "TEXCOORD_0": uvs}
    path = glb.save(tmp_path / "x.glb", {"attributes": attributes, "mode": 5, "material": 0})
    content = path.read_bytes()
    glb.tree["buffers"] = [{"byteLength": len(glb.binary), "uri": "a%20b.bin" if beside else data[0]}]
    text = json.dumps(glb.tree).encode()
    text += b" " * (-len(text) % 4)
    chunk = struct.pack("<II", len(text), 0x4E4F534A) + text
    path.write_bytes(content[:8] + struct.pack("<I", 12 + len(chunk)) + chunk)
    mesh = load_mesh(path)
    np.testing.assert_allclose(_file_vertices(mesh), QUAD)
    assert _colors(mesh) == {BLUE}


def test_sparse_numbers_may_stand_on_nothing(tmp_path):
    glb = Glb()
    index = glb.add(QUAD)
    rows, values = glb.add([1, 3], "SCALAR", "<u2"), glb.add([[1, 0, 0], [0, 1, 0]])
    views = [glb.tree["accessors"][i]["bufferView"] for i in (rows, values)]
    glb.tree["accessors"][index] = {"componentType": 5126, "count": 4, "type": "VEC3"}
    glb.tree["accessors"][index]["sparse"] = {
        "count": 2, "indices": {"bufferView": views[0], "componentType": 5123}, "values": {"bufferView": views[1]}
    }  # fmt: skip
    mesh = load_mesh(glb.save(tmp_path / "x.glb", {"attributes": {"POSITION": index}, "indices": glb.add([0, 1, 3], "SCALAR", "<u4")}))
    np.testing.assert_allclose(_file_vertices(mesh), [[0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0]])


def test_weights_of_joints_count_by_their_share(tmp_path):
    glb = Glb()
    attributes = {
        "POSITION": glb.add(QUAD),
        "JOINTS_0": glb.add([[0, 0, 0, 0]] * 4, "VEC4", "<u2"),
        "WEIGHTS_0": glb.add([[0.5, 0, 0, 0], [0, 0, 0, 0], [64, 64, 0, 0], [0.25, 0, 0, 0.25]], "VEC4"),
    }
    glb.tree["skins"] = [{"joints": [1]}]
    glb.tree["nodes"] = [{"mesh": 0, "skin": 0}, {"translation": [0, 0, 3]}]
    mesh = load_mesh(glb.save(tmp_path / "x.glb", {"attributes": attributes, "mode": 5}))
    np.testing.assert_allclose(_file_vertices(mesh)[:, 2], [3, 0, 3, 3], atol=1e-5)


def test_eight_joints_may_hold_a_vertex(tmp_path):
    glb = Glb()
    attributes = {"POSITION": glb.add(QUAD)}
    for number, joint in enumerate((0, 1)):
        attributes[f"JOINTS_{number}"] = glb.add([[joint, 0, 0, 0]] * 4, "VEC4", "u1")
        attributes[f"WEIGHTS_{number}"] = glb.add([[0.5, 0, 0, 0]] * 4, "VEC4")
    glb.tree["skins"] = [{"joints": [1, 2]}]
    glb.tree["nodes"] = [{"mesh": 0, "skin": 0}, {"translation": [0, 0, 3]}, {"translation": [0, 0, 5]}]
    mesh = load_mesh(glb.save(tmp_path / "x.glb", {"attributes": attributes, "mode": 5}))
    np.testing.assert_allclose(_file_vertices(mesh)[:, 2], 4, atol=1e-6)


@pytest.mark.parametrize(("mode", "order", "faces"), [(5, [0, 1, 2, 3], 2), (6, [0, 1, 3, 2], 2), (4, [0, 1, 2, 2, 1, 3], 2), (1, [0, 1], 0)])
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
    np.testing.assert_allclose(_face_normals(mesh), [[0, 0, 1]] * faces)


def test_colour_factor_picture_and_vertices_are_multiplied_as_light(tmp_path):
    glb = Glb()
    image = glb.picture((188, 188, 188))  # 0.5 of the light
    glb.tree |= {
        "textures": [{"source": image}],
        "materials": [{"pbrMetallicRoughness": {"baseColorFactor": [0.5, 1, 1, 1], "baseColorTexture": {"index": 0}}}],
    }
    attributes = {
        "POSITION": glb.add(QUAD),
        "TEXCOORD_0": glb.add([[0.5, 0.5]] * 4, "VEC2"),
        "COLOR_0": glb.add([[65535, 32768, 65535, 65535]] * 4, "VEC4", "<u2", normalized=True),
    }
    mesh = load_mesh(glb.save(tmp_path / "x.glb", {"attributes": attributes, "mode": 5, "material": 0}))
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
        ({"index": 0, "extensions": {"KHR_texture_transform": {"offset": [0.5, 0]}}}, {}, [0.25, 0.5], BLUE),
        ({"index": 0, "extensions": {"KHR_texture_transform": {"scale": [3, 1]}}}, {}, [0.25, 0.5], BLUE),
        ({"index": 0, "extensions": {"KHR_texture_transform": {"texCoord": 1}}}, {}, [0.25, 0.5], BLUE),
        ({"index": 0, "extensions": {"KHR_texture_transform": {"rotation": np.pi}}}, {}, [0.25, 0.5], BLUE),  # (-0.25, -0.5)
        ({"index": 0, "extensions": {"KHR_texture_transform": {"rotation": np.pi / 2}}}, {}, [0.75, 0.25], RED),  # (0.25, -0.75)
        ({"index": 0}, {}, [1.25, 0.5], RED),
        ({"index": 0}, {"wrapS": 33071}, [1.25, 0.5], BLUE),
        ({"index": 0}, {"wrapS": 33648}, [1.25, 0.5], BLUE),
        ({"index": 0}, {"wrapS": 33648}, [1.75, 0.5], RED),
        ({"index": 0}, {"wrapT": 33071}, [0.25, 7.5], RED),
    ],
)
def test_where_a_texture_is_looked_up(tmp_path, texture, sampler, uv, color):
    glb = Glb(samplers=[sampler])
    glb.tree |= {"textures": [{"source": glb.picture((255, 0, 0), (0, 0, 255)), "sampler": 0}]}
    glb.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": texture}}]
    other = [0.75, 0.5]  # blue
    attributes = {"POSITION": glb.add(QUAD), "TEXCOORD_0": glb.add([uv] * 4, "VEC2"), "TEXCOORD_1": glb.add([other] * 4, "VEC2")}
    mesh = load_mesh(glb.save(tmp_path / "x.glb", {"attributes": attributes, "mode": 5, "material": 0}))
    assert _colors(mesh) == {color}


def test_glossy_materials_have_colours_too(tmp_path):
    glb = Glb()
    glb.tree["materials"] = [{"extensions": {"KHR_materials_pbrSpecularGlossiness": {"diffuseFactor": [0, 0, 1, 1]}}}]
    path = glb.save(tmp_path / "x.glb", {"attributes": {"POSITION": glb.add(QUAD)}, "mode": 5, "material": 0})
    assert _colors(load_mesh(path)) == {BLUE}


def test_nodes_place_turn_and_mirror(tmp_path):
    glb = Glb()
    primitive = {"attributes": {"POSITION": glb.add(QUAD)}, "mode": 5}
    half = 0.5**0.5
    glb.tree["nodes"] = [
        {"children": [1], "translation": [10, 0, 0]},
        {"mesh": 0, "rotation": [0, 0, half, half], "scale": [-2, 1, 1]},  # mirrored in x, then a quarter turn around z
    ]
    glb.tree["scenes"] = [{"nodes": [0]}]
    mesh = load_mesh(glb.save(tmp_path / "x.glb", primitive))
    expected = [[10, 0, 0], [10, -2, 0], [9, 0, 0], [9, -2, 0]]
    np.testing.assert_allclose(_file_vertices(mesh), expected, atol=1e-6)
    np.testing.assert_allclose(_face_normals(mesh)[:, 2], 1, atol=1e-6)


def test_skins_hold_their_vertices(tmp_path):
    glb = Glb()
    attributes = {
        "POSITION": glb.add(QUAD),
        "JOINTS_0": glb.add([[0, 1, 0, 0]] * 4, "VEC4", "u1"),
        "WEIGHTS_0": glb.add([[1, 0, 0, 0], [0, 1, 0, 0], [0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0]], "VEC4"),
    }
    inverse = np.tile(np.eye(4), (2, 1, 1))
    inverse[:, 2, 3] = 5  # columns come first in the file
    glb.tree["skins"] = [{"joints": [1, 2], "inverseBindMatrices": glb.add(inverse.transpose(0, 2, 1), "MAT4")}]
    glb.tree["nodes"] = [{"mesh": 0, "skin": 0, "translation": [99, 0, 0]}, {"translation": [0, 0, 1]}, {"translation": [4, 0, 1]}]
    mesh = load_mesh(glb.save(tmp_path / "x.glb", {"attributes": attributes, "mode": 5}))
    np.testing.assert_allclose(_file_vertices(mesh), [[0, 0, 6], [5, 0, 6], [2, 1, 6], [3, 1, 6]], atol=1e-6)


def test_shapes_that_a_mesh_is_blended_with(tmp_path):
    glb = Glb()
    primitive = {"attributes": {"POSITION": glb.add(QUAD)}, "mode": 5, "targets": [{"POSITION": glb.add([[0, 0, 2]] * 4)}]}
    mesh = load_mesh(glb.save(tmp_path / "x.glb", primitive, weights=[0.5]))
    np.testing.assert_allclose(_file_vertices(mesh)[:, 2], 1)


def test_interleaved_and_shared_buffers(tmp_path):
    glb = Glb()
    rows = np.hstack([np.array(QUAD), np.full((4, 3), 0.5)]).astype("<f4")
    glb.add(rows, "VEC3")
    glb.tree["bufferViews"][0]["byteStride"] = 24
    glb.tree["accessors"] = [
        {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3"},
        {"bufferView": 0, "byteOffset": 12, "componentType": 5126, "count": 4, "type": "VEC3"},
    ]
    mesh = load_mesh(glb.save(tmp_path / "x.glb", {"attributes": {"POSITION": 0, "COLOR_0": 1}, "mode": 5}))
    np.testing.assert_allclose(_file_vertices(mesh), QUAD)
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
    return {"attributes": {"POSITION": glb.add(QUAD)}, "indices": glb.add([0, 1, 9], "SCALAR", "<u2")}


def _elsewhere(glb: Glb) -> dict[str, Any]:
    glb.tree |= {"images": [{"uri": "../secret.png"}], "textures": [{"source": 0}]}
    glb.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
    return {"attributes": {"POSITION": glb.add(QUAD), "TEXCOORD_0": glb.add([[0, 0]] * 4, "VEC2")}, "mode": 5, "material": 0}


def _unknown(glb: Glb) -> dict[str, Any]:
    glb.tree["extensionsRequired"] = ["EXT_mesh_gpu_instancing"]
    return {"attributes": {"POSITION": glb.add(QUAD)}, "mode": 5}


def _bad_picture(glb: Glb) -> dict[str, Any]:
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
        (_bad_picture, "picture"),
    ],
)
def test_what_a_glb_cannot_say_is_one_sentence(tmp_path, make: Callable[[Glb], dict[str, Any]], said):
    glb = Glb()
    primitive = make(glb)
    with pytest.raises(InvalidInput, match=said):
        load_mesh(glb.save(tmp_path / "x.glb", primitive))


def test_dark_colours_survive_a_glb(tmp_path):
    dark = torch.tensor([[0.0, 0.004, 0.02], [0.05, 0.5, 1.0], [0.001, 0.01, 0.99]])
    save_mesh(Mesh(torch.rand(3, 3), torch.tensor([[0, 1, 2]]), dark), tmp_path / "x.glb")
    torch.testing.assert_close(load_mesh(tmp_path / "x.glb").vertex_colors, dark, atol=1e-5, rtol=0)


# --- PLY, STL, 3MF -------------------------------------------------------------------------------------------------------


def _ply(path: Path, order: str, vertices: list[tuple[str, str, list[float]]], faces: list[list[int]], extra: str = "", corner: str = "int") -> Path:
    count = len(vertices[0][2])
    kinds = {"float": "f4", "double": "f8", "uchar": "u1", "ushort": "u2", "int": "i4", "uint": "u4"}
    header = ["ply", f"format {order} 1.0", *([extra] if extra else []), f"element vertex {count}"]
    header += [f"property {kind} {name}" for name, kind, _ in vertices]
    header += [f"element face {len(faces)}", f"property list uchar {corner} vertex_index", "end_header", ""]
    if order == "ascii":
        rows = [" ".join(f"{values[i]:g}" for *_, values in vertices) for i in range(count)]
        body = "\n".join([*rows, *(f"{len(f)} {' '.join(map(str, f))}" for f in faces), ""]).encode()
    else:
        sign = "<" if "little" in order else ">"
        body = b"".join(np.array(values[i], sign + kinds[kind]).tobytes() for i in range(count) for _, kind, values in vertices)
        body += b"".join(bytes([len(f)]) + np.array(f, sign + kinds[corner]).tobytes() for f in faces)
    path.write_bytes("\n".join(header).encode() + body)
    return path


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("faces", [[[0, 1, 2], [0, 2, 3]], [[0, 1, 2, 3]], [[0, 1, 2], [0, 1, 2, 3]]])
@pytest.mark.parametrize(("kind", "top"), [("uchar", 255), ("ushort", 65535), ("float", 1)])
def test_ply_of_every_order_polygon_and_colour(tmp_path, order, faces, kind, top):
    x, y = [0, 1, 1, 0], [0, 0, 1, 1]
    columns = [("x", "double", x), ("y", "float", y), ("z", "float", [0] * 4)]
    columns += [("red", kind, [top] * 4), ("green", kind, [0] * 4), ("blue", kind, [0] * 4)]
    mesh = load_mesh(_ply(tmp_path / "x.ply", order, columns, faces))
    assert len(mesh.faces) == sum(len(f) - 2 for f in faces)
    assert _colors(mesh) == {RED}
    np.testing.assert_allclose(_file_vertices(mesh)[:, :2], np.stack([x, y], axis=1))
    np.testing.assert_allclose(_face_normals(mesh)[:, 2], 1)


def test_a_ply_with_a_picture(tmp_path):
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "t.png")
    columns = [("x", "float", [0, 1, 0]), ("y", "float", [0, 0, 1]), ("z", "float", [0] * 3), ("s", "float", [0, 1, 0]), ("t", "float", [0] * 3)]
    assert _colors(load_mesh(_ply(tmp_path / "x.ply", "ascii", columns, [[0, 1, 2]], "comment TextureFile t.png"))) == {RED}


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian"])
@pytest.mark.parametrize(("faces", "said"), [([[0, 1, 7]], "not there"), ([], "no triangles")])
def test_wrong_plys_are_one_sentence(tmp_path, order, faces, said):
    columns = [(axis, "float", [0.0, 1.0, 2.0]) for axis in "xyz"]
    with pytest.raises(InvalidInput, match=said):
        load_mesh(_ply(tmp_path / "x.ply", order, columns, faces))


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian"])
def test_a_ply_that_is_cut_off(tmp_path, order):
    path = _ply(tmp_path / "x.ply", order, [(axis, "float", [0.0, 1.0, 2.0]) for axis in "xyz"], [[0, 1, 2]] * 9)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InvalidInput, match=r"cut off|damaged"):
        load_mesh(path)


def test_binary_polygons_of_different_sizes_beside_other_numbers(tmp_path):
    header = (
        "ply\nformat binary_little_endian 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
        "element face 2\nproperty uchar flags\nproperty list ushort int vertex_indices\nproperty uchar red\nproperty uchar green\n"
        "property uchar blue\nelement edge 1\nproperty int a\nend_header\n"
    )
    body = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], "<f4").tobytes()
    body += struct.pack("<BHiiiBBB", 7, 3, 0, 1, 2, 255, 0, 0) + struct.pack("<BHiiiiBBB", 7, 4, 0, 1, 2, 3, 0, 0, 255) + struct.pack("<i", 1)
    (tmp_path / "x.ply").write_bytes(header.encode() + body)
    mesh = load_mesh(tmp_path / "x.ply")
    assert [mesh.vertex_colors[face].unique(dim=0).tolist() for face in mesh.faces] == [[list(RED)], [list(BLUE)], [list(BLUE)]]
    for cut in (1, 5, 8, 12):
        (tmp_path / "x.ply").write_bytes(header.encode() + body[:-cut])
        if cut > 4:  # the element after the faces is not looked at
            with pytest.raises(InvalidInput, match=r"cut off|damaged"):
                load_mesh(tmp_path / "x.ply")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_ply_lines_may_end_as_they_like(tmp_path, ending):
    path = _ply(tmp_path / "x.ply", "ascii", [(axis, "float", [0.0, i == 0, i == 1]) for i, axis in enumerate("xyz")], [[0, 1, 2]])
    path.write_bytes(path.read_bytes().replace(b"\n", ending.encode()))
    assert len(load_mesh(path).faces) == 1


def test_a_ply_of_strips(tmp_path):
    text = (
        "ply\nformat ascii 1.0\nelement vertex 5\nproperty float x\nproperty float y\nproperty float z\n"
        "element tristrips 1\nproperty list int int vertex_indices\nend_header\n"
        "0 0 0\n1 0 0\n0 1 0\n1 1 0\n0 2 0\n9 0 1 2 3 4 -1 0 1 2\n"
    )
    (tmp_path / "x.ply").write_text(text)
    mesh = load_mesh(tmp_path / "x.ply")
    assert sorted(sorted(f) for f in mesh.faces.tolist()) == [[0, 1, 2], [0, 1, 2], [1, 2, 3], [2, 3, 4]]
    np.testing.assert_allclose(_face_normals(mesh), [[0, 0, 1]] * 4)


def test_a_ply_with_coordinates_at_its_faces_corners(tmp_path):
    half = Image.new("RGB", (16, 16), (255, 0, 0))
    half.paste((0, 0, 255), (8, 0, 16, 16))
    half.save(tmp_path / "t.png")
    text = (
        "ply\nformat ascii 1.0\ncomment TextureFile t.png\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
        "element face 2\nproperty list uchar int vertex_indices\nproperty list uchar float texcoord\nend_header\n"
        "0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2 6 .1 .1 .2 .1 .2 .2\n3 0 2 3 6 .8 .8 .9 .8 .9 .9\n"
    )
    (tmp_path / "x.ply").write_text(text)
    mesh = load_mesh(tmp_path / "x.ply")
    colors = texture_to_vertex_colors(mesh).vertex_colors
    assert [colors[face].round(decimals=2).unique(dim=0).tolist() for face in mesh.faces] == [[list(RED)], [list(BLUE)]]


def test_the_files_of_a_mesh(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    text = "mtllib x.mtl none.mtl\n" + SQUARE + "f 1 2 3\n"
    path = _obj(tmp_path, text, x_mtl="newmtl a\nmap_Kd a.png\nnewmtl b\nmap_Kd gone.png\nnewmtl c\nmap_Kd B.PNG\nnewmtl d\nKd 1 1 1\n")
    assert mesh_files(path) == [path, tmp_path / "x.mtl", tmp_path / "a.png", tmp_path / "b.png"]
    assert mesh_files(tmp_path / "y.glb") == [tmp_path / "y.glb"]
    with pytest.raises(InvalidInput, match="no file"):
        mesh_files(tmp_path / "y.obj")


def test_a_textured_obj_has_a_folder_of_its_own():
    plain = Mesh(torch.rand(3, 3), torch.tensor([[0, 1, 2]]))
    textured = replace(plain, uvs=torch.rand(3, 2), texture=torch.rand(4, 4, 3))
    assert mesh_path(Path("out"), "cat", "obj", textured) == Path("out/cat/cat.obj")
    assert mesh_path(Path("out"), "cat", "obj", plain) == Path("out/cat.obj")
    assert mesh_path(Path("out"), "cat", "glb", textured) == Path("out/cat.glb")


@pytest.mark.parametrize(("largest", "digits"), [(0.0, 6), (1.0, 6), (9.9, 6), (10.0, 5), (1e-9, 15), (3e-5, 11), (1e9, 0), (1e-60, 45)])
def test_as_many_digits_as_the_size_asks_for(largest, digits):
    assert decimals(np.array([0.0, -largest])) == digits


def _3mf(path: Path, model: str) -> Path:
    core = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
    material = "http://schemas.microsoft.com/3dmanufacturing/material/2015/02"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("3D/3dmodel.model", model.replace("<model", f'<model xmlns="{core}" xmlns:m="{material}"', 1))
    return path


TETRAHEDRON = (
    '<mesh><vertices><vertex x="0" y="0" z="0"/><vertex x="1" y="0" z="0"/><vertex x="0" y="1" z="0"/><vertex x="0" y="0" z="1"/></vertices>'
    "<triangles>{}</triangles></mesh>"
)
PLAIN = "".join(f'<triangle v1="{a}" v2="{b}" v3="{c}"/>' for a, b, c in ((0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)))


@pytest.mark.parametrize(("unit", "scale"), [("inch", 25.4), ("meter", 1000), ("micron", 1e-3), (None, 1)])
def test_3mf_units_come_out_in_millimetres(tmp_path, unit, scale):
    named = f' unit="{unit}"' if unit else ""
    model = f'<model{named}><resources><object id="1">{TETRAHEDRON.format(PLAIN)}</object></resources><build><item objectid="1"/></build></model>'
    mesh = load_mesh(_3mf(tmp_path / "x.3mf", model))
    assert mesh.volume() == pytest.approx(scale**3 / 6, rel=1e-4)


def test_3mf_places_parts_and_mirrors_them(tmp_path):
    model = (
        f'<model><resources><object id="1">{TETRAHEDRON.format(PLAIN)}</object>'
        '<object id="2"><components><component objectid="1" transform="-2 0 0 0 1 0 0 0 1 5 0 0"/></components></object></resources>'
        '<build><item objectid="2" transform="1 0 0 0 1 0 0 0 1 0 7 0"/><item objectid="1"/></build></model>'
    )
    mesh = load_mesh(_3mf(tmp_path / "x.3mf", model))
    assert mesh.volume() == pytest.approx(1 / 6 + 2 / 6, rel=1e-5)
    vertices = _file_vertices(mesh)
    assert vertices.min(axis=0).tolist() == [0, 0, 0]
    assert vertices.max(axis=0).tolist() == [5, 8, 1]


def test_3mf_colours_of_corners_and_triangles(tmp_path):
    triangles = PLAIN.replace("<triangle", '<triangle pid="5" p1="0"', 1).replace("<triangle v1", '<triangle pid="5" p1="0" p2="1" p3="1" v1', 1)
    model = (
        '<model><resources><m:colorgroup id="5"><m:color color="#FF0000"/><m:color color="#0000FFFF"/></m:colorgroup>'
        f'<object id="1" pid="5" pindex="1">{TETRAHEDRON.format(triangles)}</object></resources><build><item objectid="1"/></build></model>'
    )
    mesh = load_mesh(_3mf(tmp_path / "x.3mf", model))
    found = [mesh.vertex_colors[face].tolist() for face in mesh.faces]
    assert found[0] == [list(RED)] * 3
    assert found[1] == [list(RED), list(BLUE), list(BLUE)]
    assert found[2] == found[3] == [list(BLUE)] * 3


def test_a_3mf_says_what_it_is(tmp_path):
    mesh = Mesh(torch.tensor([[0.0, 0, 0], [1, 2, 3], [0, 1e-9, 4]]), torch.tensor([[0, 1, 2]]))
    save_mesh(mesh, tmp_path / "x.3mf", up_axis="z")
    with zipfile.ZipFile(tmp_path / "x.3mf") as archive:
        assert archive.testzip() is None
        types, relations, model = (archive.read(name).decode() for name in ("[Content_Types].xml", "_rels/.rels", "3D/3dmodel.model"))
    assert 'Default Extension="model" ContentType="application/vnd.ms-package.3dmanufacturing-3dmodel+xml"' in types
    assert 'Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"' in types
    assert 'Target="/3D/3dmodel.model"' in relations
    assert 'Type="http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"' in relations
    assert '<model unit="millimeter"' in model
    assert 'xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02"' in model
    assert '<vertex x="2" y="-1" z="3"/>' in model
    assert '<triangle v1="0" v2="1" v3="2"/>' in model
    save_mesh(mesh, tmp_path / "y.3mf", up_axis="z")
    assert (tmp_path / "x.3mf").read_bytes() == (tmp_path / "y.3mf").read_bytes()


def test_the_model_that_a_3mf_names_is_read_and_others_by_their_paths(tmp_path):
    core = 'xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02"'
    production = 'xmlns:p="http://schemas.microsoft.com/3dmanufacturing/production/2015/06"'
    relation = '<Relationship Target="/3D/other.model" Type="http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"/>'
    thumbnail = '<Relationship Target="/t.png" Type="http://schemas.openxmlformats.org/package/2006/relationships/metadata/thumbnail"/>'
    with zipfile.ZipFile(tmp_path / "x.3mf", "w") as archive:
        archive.writestr("_rels/.rels", f"<Relationships>{thumbnail}{relation}</Relationships>")
        archive.writestr("3D/3dmodel.model", f"<model {core}><resources/><build/></model>")
        archive.writestr("3D/Parts/a.model", f'<model {core}><resources><object id="4">{TETRAHEDRON.format(PLAIN)}</object></resources></model>')
        outer = '<object id="1"><components><component objectid="4" p:path="/3D/parts/A.model"/></components></object>'
        skipped = f'<object id="2" type="support">{TETRAHEDRON.format(PLAIN)}</object>'
        build = '<build><item objectid="1"/><item objectid="4" p:path="/3D/Parts/a.model"/><item objectid="2"/></build>'
        archive.writestr("3D/other.model", f"<model {core} {production}><resources>{outer}{skipped}</resources>{build}</model>")
    assert len(load_mesh(tmp_path / "x.3mf").faces) == 8


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ('<model><resources><object id="1">' + TETRAHEDRON.format('<triangle v1="0" v2="1" v3="4"/>') + "</object></resources>"
         '<build><item objectid="1"/></build></model>', "not there"),
        ('<model><resources><object id="1">' + TETRAHEDRON.format('<triangle v1="0" v2="1"/>') + "</object></resources>"
         '<build><item objectid="1"/></build></model>', "not there"),
        ('<model><resources/><build><item/></build></model>', "missing"),
        ('<model unit="ell"><resources/><build/></model>', "ell"),
        ('<model><resources/><build><item objectid="9"/></build></model>', "missing"),
        ('<model><resources><object id="1"><components><component objectid="1"/></components></object></resources>'
         '<build><item objectid="1"/></build></model>', "hold each other"),
        ("<model><resources>", "XML"),
        ("<model><resources/><build/></model>", "no triangles"),
    ],
)  # fmt: skip
def test_wrong_3mfs_are_one_sentence(tmp_path, model, said):
    with pytest.raises(InvalidInput, match=said):
        load_mesh(_3mf(tmp_path / "x.3mf", model))


# --- all formats -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    ["mesh-with-nan/nan.obj", "mesh-with-nan/nan.glb", "bake-hangs-on-huge-or-infinite/inf.obj", "bake-hangs-on-huge-or-infinite/huge.obj"],
)
def test_numbers_that_are_none_are_refused_at_the_door(case):
    with pytest.raises(InvalidInput, match=r"not finite|absurdly large"):
        load_mesh(CASES / case)


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_was_saved_z_up_comes_back_upright(tmp_path, suffix):
    box = trimesh.creation.box((1, 2, 3))
    mesh = Mesh(torch.tensor(box.vertices, dtype=torch.float32) + torch.tensor([0.5, 0, 0]), torch.tensor(box.faces))
    for up_axis in ("y", "z"):
        save_mesh(mesh, tmp_path / f"x.{suffix}", up_axis=up_axis)
        back = load_mesh(tmp_path / f"x.{suffix}")
        torch.testing.assert_close(back.vertices.amin(dim=0), mesh.vertices.amin(dim=0))
        torch.testing.assert_close(back.vertices.amax(dim=0), mesh.vertices.amax(dim=0))


@st.composite
def _meshes(draw: st.DrawFn) -> Mesh:
    """Any triangles at any size and place, some with colours, some with a texture."""
    count = draw(st.integers(3, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    size = 10.0 ** draw(st.integers(-9, 6))
    vertices = (torch.rand(count, 3, generator=generator) - 0.5) * size
    faces = torch.stack([torch.randperm(count, generator=generator)[:3] for _ in range(draw(st.integers(1, 9)))])
    look = draw(st.sampled_from(["bare", "colors", "texture"]))
    if look == "colors":
        return Mesh(vertices, faces, torch.rand(count, 3, generator=generator))
    if look == "texture":
        return Mesh(vertices, faces, uvs=torch.rand(count, 2, generator=generator) * 4 - 2, texture=torch.rand(4, 6, 3, generator=generator))
    return Mesh(vertices, faces)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mesh=_meshes())
@pytest.mark.parametrize("suffix", FORMATS)
def test_every_mesh_is_read_as_it_was_written(tmp_path, suffix, mesh):
    save_mesh(mesh, tmp_path / f"x.{suffix}")
    back = load_mesh(tmp_path / f"x.{suffix}")
    size = float(mesh.vertices.abs().max())
    torch.testing.assert_close(back.vertices[back.faces], mesh.vertices[mesh.faces], atol=2e-6 * size, rtol=0)
    if suffix in ("stl", "3mf"):
        return
    if mesh.texture is not None and suffix != "ply":
        torch.testing.assert_close(back.uvs[back.faces], mesh.uvs[mesh.faces], atol=2e-6, rtol=0)
        torch.testing.assert_close(back.texture, mesh.texture, atol=0.5 / 255 + 1e-4, rtol=0)
        return
    expected = texture_to_vertex_colors(mesh).vertex_colors
    assert (expected is None) == (back.vertex_colors is None)
    if expected is not None:
        torch.testing.assert_close(back.vertex_colors[back.faces], expected[mesh.faces], atol=0.5 / 255 + 1e-3, rtol=0)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("suffix", FORMATS)
def test_damaged_files_are_a_mesh_or_one_sentence(tmp_path, suffix, data):
    path = tmp_path / f"x.{suffix}"
    numbers = torch.linspace(0, 1, 18).view(6, 3) ** 2
    save_mesh(Mesh(numbers, torch.tensor([[0, 1, 2], [3, 4, 5]]), numbers.flip(0)), path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    said = ""
    try:
        assert len(load_mesh(path).faces)
    except InvalidInput as error:
        said = str(error)
    assert not said or (path.name in said and "\n" not in said)


def test_a_picture_of_the_users_is_not_overwritten_by_a_texture(tmp_path):
    Image.new("RGB", (20, 20), "green").save(tmp_path / "photo.png")
    (tmp_path / "photo.mtl").write_text("newmtl mine\n")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    mesh = Mesh(torch.rand(3, 3), torch.tensor([[0, 1, 2]]), uvs=torch.rand(3, 2), texture=torch.full((8, 8, 3), 0.25))
    for _ in range(2):  # the second time, its own files are replaced
        save_mesh(mesh, tmp_path / "photo.obj")
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert {p.name for p in tmp_path.iterdir()} == {*before, "photo.obj", "photo-2.mtl", "photo-2.png"}
    torch.testing.assert_close(load_mesh(tmp_path / "photo.obj").texture, mesh.texture, atol=0.01, rtol=0)


def test_a_texture_and_colours_in_an_obj_say_what_is_left_out(tmp_path, caplog):
    mesh = Mesh(torch.rand(3, 3), torch.tensor([[0, 1, 2]]), torch.rand(3, 3), torch.rand(3, 2), torch.full((8, 8, 3), 0.25))
    save_mesh(mesh, tmp_path / "x.obj")
    assert "keeps the texture alone" in caplog.text
    save_mesh(replace(mesh, vertex_colors=None), tmp_path / "y.obj")
    assert "y.obj" not in caplog.text
