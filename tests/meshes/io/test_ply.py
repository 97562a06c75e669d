"""PLY as other programs write it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.errors import InvalidInput
from pipelines.meshes.color_transfer import texture_to_vertex_colors
from pipelines.meshes.io import load_mesh, save_mesh
from pipelines.meshes.mesh import Mesh

from .helpers import BLUE, RED, colors_of, face_normals, file_vertices


def _ply(
    path: Path,
    order: str,
    vertices: list[tuple[str, str, list[float]]],
    faces: list[list[int]],
    extra: str = "",
    corner: str = "int",
) -> Path:
    count = len(vertices[0][2])
    kinds = {
        "float": "f4",
        "double": "f8",
        "uchar": "u1",
        "ushort": "u2",
        "int": "i4",
        "uint": "u4",
    }
    header = ["ply", f"format {order} 1.0", *([extra] if extra else []), f"element vertex {count}"]
    header += [f"property {kind} {name}" for name, kind, _ in vertices]
    header += [
        f"element face {len(faces)}",
        f"property list uchar {corner} vertex_index",
        "end_header",
        "",
    ]
    if order == "ascii":
        rows = [" ".join(f"{values[i]:g}" for *_, values in vertices) for i in range(count)]
        body = "\n".join(
            [*rows, *(f"{len(f)} {' '.join(map(str, f))}" for f in faces), ""]
        ).encode()
    else:
        sign = "<" if "little" in order else ">"
        body = b"".join(
            np.array(values[i], sign + kinds[kind]).tobytes()
            for i in range(count)
            for _, kind, values in vertices
        )
        body += b"".join(
            bytes([len(f)]) + np.array(f, sign + kinds[corner]).tobytes() for f in faces
        )
    path.write_bytes("\n".join(header).encode() + body)
    return path


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize(
    "faces", [[[0, 1, 2], [0, 2, 3]], [[0, 1, 2, 3]], [[0, 1, 2], [0, 1, 2, 3]]]
)
@pytest.mark.parametrize(("kind", "top"), [("uchar", 255), ("ushort", 65535), ("float", 1)])
def test_ply_every_byte_order_polygon_and_color_type_is_read(tmp_path, order, faces, kind, top):
    x, y = [0, 1, 1, 0], [0, 0, 1, 1]
    columns = [("x", "double", x), ("y", "float", y), ("z", "float", [0] * 4)]
    columns += [("red", kind, [top] * 4), ("green", kind, [0] * 4), ("blue", kind, [0] * 4)]
    mesh = load_mesh(_ply(tmp_path / "x.ply", order, columns, faces))
    assert len(mesh.faces) == sum(len(f) - 2 for f in faces)
    assert colors_of(mesh) == {RED}
    np.testing.assert_allclose(file_vertices(mesh)[:, :2], np.stack([x, y], axis=1))
    np.testing.assert_allclose(face_normals(mesh)[:, 2], 1)


def test_ply_texture_file_is_read(tmp_path):
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "t.png")
    columns = [
        ("x", "float", [0, 1, 0]),
        ("y", "float", [0, 0, 1]),
        ("z", "float", [0] * 3),
        ("s", "float", [0, 1, 0]),
        ("t", "float", [0] * 3),
    ]
    assert colors_of(
        load_mesh(
            _ply(tmp_path / "x.ply", "ascii", columns, [[0, 1, 2]], "comment TextureFile t.png")
        )
    ) == {RED}


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian"])
@pytest.mark.parametrize(
    ("faces", "message"), [([[0, 1, 7]], "does not exist"), ([], "no triangles")]
)
def test_ply_invalid_faces_raise_one_sentence(tmp_path, order, faces, message):
    columns = [(axis, "float", [0.0, 1.0, 2.0]) for axis in "xyz"]
    with pytest.raises(InvalidInput, match=message):
        load_mesh(_ply(tmp_path / "x.ply", order, columns, faces))


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian"])
def test_ply_cut_off_is_refused(tmp_path, order):
    path = _ply(
        tmp_path / "x.ply",
        order,
        [(axis, "float", [0.0, 1.0, 2.0]) for axis in "xyz"],
        [[0, 1, 2]] * 9,
    )
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InvalidInput, match=r"cut off|damaged"):
        load_mesh(path)


@pytest.mark.parametrize(("face", "message"), [("3 0 1 2", "cut off"), ("3 0 2 1", "more numbers")])
def test_ply_text_rows_with_undeclared_numbers_are_refused(tmp_path, face, message):
    columns = [(axis, "float", [0.0, 1.0, 2.0]) for axis in "xyz"]
    path = _ply(tmp_path / "x.ply", "ascii", columns, [[0, 1, 2], [0, 2, 1]])
    path.write_text(path.read_text().replace(face, f"{face} 255 255 255"))
    with pytest.raises(InvalidInput, match=message):
        load_mesh(path)


def test_ply_binary_polygons_of_mixed_sizes_are_read(tmp_path):
    header = (
        "ply\nformat binary_little_endian 1.0\nelement vertex 4\nproperty float x\nproperty float"
        " y\nproperty float z\nelement face 2\nproperty uchar flags\nproperty list ushort int"
        " vertex_indices\nproperty uchar red\nproperty uchar green\nproperty uchar blue\nelement"
        " edge 1\nproperty int a\nend_header\n"
    )
    body = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], "<f4").tobytes()
    body += (
        struct.pack("<BHiiiBBB", 7, 3, 0, 1, 2, 255, 0, 0)
        + struct.pack("<BHiiiiBBB", 7, 4, 0, 1, 2, 3, 0, 0, 255)
        + struct.pack("<i", 1)
    )
    (tmp_path / "x.ply").write_bytes(header.encode() + body)
    mesh = load_mesh(tmp_path / "x.ply")
    assert [mesh.vertex_colors[face].unique(dim=0).tolist() for face in mesh.faces] == [
        [list(RED)],
        [list(BLUE)],
        [list(BLUE)],
    ]
    for cut in (1, 5, 8, 12):
        (tmp_path / "x.ply").write_bytes(header.encode() + body[:-cut])
        if cut > 4:  # the element after the faces is not looked at
            with pytest.raises(InvalidInput, match=r"cut off|damaged"):
                load_mesh(tmp_path / "x.ply")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_ply_any_line_ending_is_read(tmp_path, ending):
    path = _ply(
        tmp_path / "x.ply",
        "ascii",
        [(axis, "float", [0.0, i == 0, i == 1]) for i, axis in enumerate("xyz")],
        [[0, 1, 2]],
    )
    path.write_bytes(path.read_bytes().replace(b"\n", ending.encode()))
    assert len(load_mesh(path).faces) == 1


def test_ply_triangle_strips_are_read(tmp_path):
    text = (
        "ply\nformat ascii 1.0\nelement vertex 5\nproperty float x\nproperty float y\nproperty"
        " float z\nelement tristrips 1\nproperty list int int vertex_indices\nend_header\n0 0 0\n1"
        " 0 0\n0 1 0\n1 1 0\n0 2 0\n9 0 1 2 3 4 -1 0 1 2\n"
    )
    (tmp_path / "x.ply").write_text(text)
    mesh = load_mesh(tmp_path / "x.ply")
    assert sorted(sorted(f) for f in mesh.faces.tolist()) == [
        [0, 1, 2],
        [0, 1, 2],
        [1, 2, 3],
        [2, 3, 4],
    ]
    np.testing.assert_allclose(face_normals(mesh), [[0, 0, 1]] * 4)


def test_ply_corner_texcoords_are_read(tmp_path):
    half = Image.new("RGB", (16, 16), (255, 0, 0))
    half.paste((0, 0, 255), (8, 0, 16, 16))
    half.save(tmp_path / "t.png")
    text = (
        "ply\nformat ascii 1.0\ncomment TextureFile t.png\nelement vertex 4\nproperty float"
        " x\nproperty float y\nproperty float z\nelement face 2\nproperty list uchar int"
        " vertex_indices\nproperty list uchar float texcoord\nend_header\n0 0 0\n1 0 0\n1 1 0\n0 1"
        " 0\n3 0 1 2 6 .1 .1 .2 .1 .2 .2\n3 0 2 3 6 .8 .8 .9 .8 .9 .9\n"
    )
    (tmp_path / "x.ply").write_text(text)
    mesh = load_mesh(tmp_path / "x.ply")
    colors = texture_to_vertex_colors(mesh).vertex_colors
    assert [colors[face].round(decimals=2).unique(dim=0).tolist() for face in mesh.faces] == [
        [list(RED)],
        [list(BLUE)],
    ]


def test_ply_saved_notes_up_axis_only_if_z(tmp_path):
    mesh = Mesh(torch.rand(3, 3), torch.tensor([[0, 1, 2]]))
    for axis, noted in (("y", 0), ("z", 1)):
        save_mesh(mesh, tmp_path / "x.ply", up_axis=axis)
        assert (tmp_path / "x.ply").read_bytes().count(b"up_axis") == noted


@pytest.mark.parametrize("named", ["gone.png", "../secret.png"])
def test_ply_missing_texture_is_skipped_with_a_warning(tmp_path, caplog, named):
    columns = [(name, "float", [0, 1, 0]) for name in ("x", "y", "z", "s", "t")]
    columns[1] = ("y", "float", [0, 0, 1])
    comment = f"comment TextureFile {named}"
    mesh = load_mesh(_ply(tmp_path / "x.ply", "ascii", columns, [[0, 1, 2]], comment))
    assert mesh.texture is None
    assert f"x.ply names the image {named}, which is not beside it: skipped" in caplog.text


def test_ply_further_textures_are_reported(tmp_path, caplog):
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "t.png")
    columns = [(name, "float", [0, 1, 0]) for name in ("x", "y", "z", "s", "t")]
    columns[1] = ("y", "float", [0, 0, 1])
    comments = "comment TextureFile t.png\ncomment TextureFile u.png"
    mesh = load_mesh(_ply(tmp_path / "x.ply", "ascii", columns, [[0, 1, 2]], comments))
    assert colors_of(mesh) == {RED}
    assert "names 2 images: only the first is read" in caplog.text
