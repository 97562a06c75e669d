"""OBJ as other programs write it, and its materials."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.errors import InvalidInput
from pipelines.meshes.io import load_mesh
from pipelines.meshes.io.obj_writing import decimals

from .helpers import BLUE, CASES, RED, SQUARE, colors_of, is_a_cube, save_obj


@pytest.mark.parametrize(
    "file", sorted((CASES / "obj-text-variants").glob("*.obj")), ids=lambda p: p.stem
)
def test_obj_every_spelling_is_read(file):
    assert is_a_cube(load_mesh(file))


def test_obj_negative_indices_count_back():
    assert is_a_cube(load_mesh(CASES / "obj-relative-indices" / "cube.obj"))


@pytest.mark.parametrize("name", ["cube.obj", "cube-uv.obj", "cube-uv-no-material.obj"])
def test_obj_vertex_colors_beside_material_are_kept(name):
    mesh = load_mesh(CASES / "obj-colours-with-material" / name)
    assert is_a_cube(mesh)
    at = {
        tuple(v): tuple(c)
        for v, c in zip(
            mesh.vertices.roll(-1, 1).tolist(), mesh.vertex_colors.tolist(), strict=True
        )
    }
    assert at[(0.0, 0.0, 0.0)] == RED
    assert at[(1.0, 0.0, 0.0)] == (0.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SQUARE + "f 0 1 2\n", "vertex 0"),
        (SQUARE + "f 1 2 5\n", "a vertex that does not exist"),
        (SQUARE + "f -5 1 2\n", "a vertex that does not exist"),
        (SQUARE + "f 99999999999999999999 1 2\n", "a vertex that does not exist"),
        (SQUARE + "vt 0 0\nf 1/1 2/1 3/2\n", "a texture coordinate that does not exist"),
        (SQUARE + "vt 0 0\nf 1/-2 2/1 3/1\n", "a texture coordinate that does not exist"),
        (SQUARE + "f a b c\n", "other than vertex indices"),
        (SQUARE + "v 1 x 2\nf 1 2 3\n", "other than numbers"),
        (SQUARE + "v 1 2\nf 1 2 3\n", "at least 3 numbers, got '1 2'"),
        ("v 1 2\nf 1 1 1\n", "at least 3 numbers"),
        (SQUARE, "no triangles"),
        (SQUARE + "l 1 2\np 3\n", "no triangles"),
        (SQUARE + "v nan 0 0\nf 1 2 5\n", "not finite"),
        (SQUARE + "v 1e30 0 0\nf 1 2 5\n", r"larger than 1e\+09"),
    ],
)
def test_obj_invalid_line_raises_one_sentence(tmp_path, text, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        load_mesh(save_obj(tmp_path, text))
    assert "x.obj" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_obj_concave_polygons_are_triangulated_inside(tmp_path):
    corners = [(0, 0), (4, 0), (4, 1), (1, 1), (1, 4), (0, 4)]  # an L of area 7
    for z_first in (False, True):
        lines = [f"v {x} {y} 0" if not z_first else f"v 0 {x} {y}" for x, y in corners]
        for start in range(6):
            order = [(start + i) % 6 + 1 for i in range(6)]
            mesh = load_mesh(
                save_obj(tmp_path, "\n".join(lines) + f"\nf {' '.join(map(str, order))}\n")
            )
            a, b, c = mesh.vertices[mesh.faces].unbind(dim=1)
            normals = torch.linalg.cross(b - a, c - a) / 2
            assert float(normals.norm(dim=1).sum()) == pytest.approx(7)
            assert float(normals.sum(dim=0).norm()) == pytest.approx(7), "all face one way"


def test_obj_missing_colors_are_white_and_bytes_are_scaled(tmp_path):
    mesh = load_mesh(save_obj(tmp_path, "v 0 0 0 1 0 0\nv 1 0 0\nv 1 1 0 0 0 1\nf 1 2 3\n"))
    assert mesh.vertex_colors.tolist() == [[1, 0, 0], [1, 1, 1], [0, 0, 1]]
    mesh = load_mesh(
        save_obj(tmp_path, "v 0 0 0 255 0 0\nv 1 0 0 0 51 0\nv 1 1 0 0 0 0\nf 1 2 3\n")
    )
    assert mesh.vertex_colors.tolist() == [[1, 0, 0], [0, pytest.approx(0.2), 0], [0, 0, 0]]


def test_obj_faces_keep_file_order(tmp_path):
    mesh = load_mesh(save_obj(tmp_path, SQUARE + "v 0 0 1\nf 1 2 5\nf 1 2 3 4\nf 2 3 5\n"))
    assert mesh.faces.tolist() == [[0, 1, 4], [0, 1, 2], [0, 2, 3], [1, 2, 4]]


def test_obj_utf_16_and_continued_lines_are_read(tmp_path):
    text = SQUARE + "f 1 2 \\\n3\n"
    assert len(load_mesh(save_obj(tmp_path, text)).faces) == 1
    assert len(load_mesh(save_obj(tmp_path, text.encode("utf-16"))).faces) == 1


@pytest.mark.parametrize(
    ("largest", "digits"),
    [(0.0, 6), (1.0, 6), (9.9, 6), (10.0, 5), (1e-9, 15), (3e-5, 11), (1e9, 0), (1e-60, 45)],
)
def test_decimals_follow_size(largest, digits):
    assert decimals(np.array([0.0, -largest])) == digits


def test_obj_vertex_weight_is_not_a_color(tmp_path):
    text = "v 0 0 0 1.0\nv 1 0 0 1.0\nv 1 1 0 0 0 1\nf 1 2 3\n"
    mesh = load_mesh(save_obj(tmp_path, text))
    assert mesh.vertex_colors.tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 1]]


def test_obj_colors_beyond_bytes_are_clipped(tmp_path):
    text = "v 0 0 0 510 0 0\nv 1 0 0 0 51 0\nv 1 1 0 0 0 0\nf 1 2 3\n"
    mesh = load_mesh(save_obj(tmp_path, text))
    assert mesh.vertex_colors[0].tolist() == [1, 0, 0]


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_obj_concave_polygons_of_any_size_face_one_way(tmp_path, size):
    corners = [(0, 0), (4, 0), (4, 1), (1, 1), (1, 4), (0, 4)]
    lines = [f"v {x * size + 5 * size} {y * size} {size}" for x, y in corners]
    mesh = load_mesh(save_obj(tmp_path, "\n".join(lines) + "\nf 1 2 3 4 5 6\n"))
    a, b, c = mesh.vertices.double()[mesh.faces].unbind(dim=1)
    normals = torch.linalg.cross(b - a, c - a) / 2 / size**2
    assert normals.sum(dim=0).tolist() == pytest.approx([7, 0, 0], abs=1e-3), "toward the viewer"


def test_obj_polypaint_colors_are_read():
    mesh = load_mesh(CASES / "obj-polypaint-lost" / "polypaint.obj")
    expected = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [128 / 255] * 3])
    torch.testing.assert_close(mesh.vertex_colors, expected)


@pytest.mark.parametrize(
    ("blocks", "colors", "message"),
    [
        ("#MRGB ffff0000\n#MRGB ff0000FFffff0000\n", [RED, BLUE, RED], None),
        ("#MRGB ffff0000\n", [RED, (1, 1, 1), (1, 1, 1)], "1 colours for 3 vertices"),
        ("#MRGB " + 4 * "ffff0000" + "\n", [RED] * 3, "4 colours for 3 vertices"),
        ("#MRGB ffff00\n", None, "damaged"),
        ("#MRGB no digits\n", None, "damaged"),
    ],
    ids=["two blocks", "too few", "too many", "half a colour", "no digits"],
)
def test_obj_polypaint_of_any_length_is_read(tmp_path, caplog, blocks, colors, message):
    mesh = load_mesh(save_obj(tmp_path, "v 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 3\n" + blocks))
    found = None if mesh.vertex_colors is None else mesh.vertex_colors.tolist()
    assert found == (None if colors is None else [list(color) for color in colors])
    assert message in caplog.text if message else not caplog.text


def test_obj_own_vertex_colors_replace_polypaint(tmp_path):
    text = "v 0 0 0 1 0 0\nv 1 0 0 1 0 0\nv 1 1 0 1 0 0\n#MRGB " + 3 * "ff0000ff" + "\nf 1 2 3\n"
    assert colors_of(load_mesh(save_obj(tmp_path, text))) == {RED}


@pytest.mark.parametrize(
    "face",
    [
        "f 1 2 3",
        "f 1/1 2/2 3/3",
        "f 1/1/1 2/2/1 3/3/1",
        "f 1//1 2//1 3//1",
        "f 1/ 2/ 3/",
        "f 1// 2// 3//",
        "f 1/1/ 2/2/ 3/3/",
        "f 1/1/1 2//1 3",
        "f -4 -3 -2",
        "f -4/-3 -3/-2 -2/-1",
        "f 1/-3/-1 2/-2/-1 3/-1/-1",
        "f +1 +2 +3",
        "f 01 02 03",
        "\tf\t1\t2\t3  ",
        "fo 1 2 3",
        "f 1 2 3 # a comment",
        "f 1 \\\n2 \\  \n3",
        "f 1 2 3\\\n",
    ],
)
def test_obj_every_spelling_of_a_face_is_read(tmp_path, caplog, face):
    text = SQUARE + "vt 0 0\nvt 1 0\nvt 1 1\nvn 0 0 1\n" + face + "\n"
    assert load_mesh(save_obj(tmp_path, text)).faces.tolist() == [[0, 1, 2]]
    assert not caplog.text


def test_obj_comment_ending_in_backslash_is_not_continued(tmp_path):
    mesh = load_mesh(save_obj(tmp_path, "# from C:\\models\\\n" + SQUARE + "f 1 2 3\n"))
    assert mesh.vertices[0].tolist() == [0, 0, 0]


def test_obj_texcoords_of_different_lengths_are_read(tmp_path):
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "red.png")
    text = f"mtllib x.mtl\n{SQUARE}vt 0.25\nvt 0.5 0.5\nvt 0.75 1 0\nusemtl a\nf 1/1 2/2 3/3\n"
    mesh = load_mesh(save_obj(tmp_path, text, x_mtl="newmtl a\nmap_Kd red.png\n"))
    assert mesh.uvs.tolist() == [[0.25, 0], [0.5, 0.5], [0.75, 1]]


def test_obj_faces_without_texcoords_keep_the_texture_of_others(tmp_path):
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "red.png")
    text = f"mtllib x.mtl\n{SQUARE}vt 0.5 0.5\nusemtl a\nf 1/1 2/1 3/1\nf 1 3 4\n"
    mesh = load_mesh(save_obj(tmp_path, text, x_mtl="newmtl a\nKd 0 0 1\nmap_Kd red.png\n"))
    assert colors_of(mesh) == {RED, BLUE}


def test_obj_other_statements_are_skipped_with_a_warning(tmp_path, caplog):
    surface = "vp 0 0\ncstype bezier\ndeg 1 1\nsurf 0 1 0 1 1 2 3 4\nparm u 0 1\nend\n"
    quiet = "o name\ng a b\ns off\nmg 0\nlod 1\nvn 0 0 1\n"
    text = SQUARE + quiet + surface + "l 1 2\np 1\ncall other.obj\nf 1 2 3\n"
    assert len(load_mesh(save_obj(tmp_path, text)).faces) == 1
    (record,) = caplog.records
    assert "x.obj: skipped statements other than polygons" in record.message
    assert "1 surf" in caplog.text
    caplog.clear()
    load_mesh(save_obj(tmp_path, SQUARE + quiet + "f 1 2 3\n"))
    assert not caplog.text


@pytest.mark.parametrize(
    "face", ["f 1/2/3/4 2 3", "f 1.0 2 3", "f 1 2 x", "f 1,2,3 4 5", "f //1 2 3"]
)
def test_obj_invalid_face_is_named(tmp_path, face):
    with pytest.raises(InvalidInput, match="something other than vertex indices: "):
        load_mesh(save_obj(tmp_path, SQUARE + face + "\n"))
