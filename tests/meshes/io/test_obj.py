"""OBJ as other programs write it, and its materials."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.errors import InvalidInput
from pipelines.meshes.color_transfer import texture_colors
from pipelines.meshes.io import load_mesh, mesh_files, mesh_path, pieces, save_mesh
from pipelines.meshes.io.obj import decimals
from pipelines.meshes.mesh import Mesh

from .helpers import BLUE, CASES, ORANGE, RED, colors_of, is_a_cube, save_obj


@pytest.mark.parametrize(
    "file", sorted((CASES / "obj-text-variants").glob("*.obj")), ids=lambda p: p.stem
)
def test_obj_text_in_every_spelling(file):
    assert is_a_cube(load_mesh(file))


def test_obj_blocks_count_back_from_where_they_stand():
    assert is_a_cube(load_mesh(CASES / "obj-relative-indices" / "cube.obj"))


@pytest.mark.parametrize("name", ["cube.obj", "cube-uv.obj", "cube-uv-no-material.obj"])
def test_obj_colours_beside_a_material_are_kept(name):
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
    "name", ["case", "options", "quoted", "subfolder", "two-libraries", "two-lines"]
)
def test_obj_textures_are_found_however_they_are_named(name):
    mesh = load_mesh(CASES / "obj-texture-not-found" / f"{name}.obj")
    assert is_a_cube(mesh)
    assert colors_of(mesh) == {RED}


@pytest.mark.parametrize(("name", "color"), [("right", RED), ("left", BLUE)])
def test_textures_repeat_outside_the_unit_square(name, color, tmp_path):
    mesh = load_mesh(CASES / "uv-tiled" / f"{name}.obj")
    assert colors_of(mesh) == {color}
    save_mesh(mesh, tmp_path / "cube.ply")
    assert colors_of(load_mesh(tmp_path / "cube.ply")) == {color}


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
        load_mesh(save_obj(tmp_path, text))
    assert "x.obj" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_concave_polygons_are_cut_inside_themselves(tmp_path):
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


def test_colours_on_a_part_of_the_vertices_and_in_bytes(tmp_path):
    mesh = load_mesh(save_obj(tmp_path, "v 0 0 0 1 0 0\nv 1 0 0\nv 1 1 0 0 0 1\nf 1 2 3\n"))
    assert mesh.vertex_colors.tolist() == [[1, 0, 0], [1, 1, 1], [0, 0, 1]]
    mesh = load_mesh(
        save_obj(tmp_path, "v 0 0 0 255 0 0\nv 1 0 0 0 51 0\nv 1 1 0 0 0 0\nf 1 2 3\n")
    )
    assert mesh.vertex_colors.tolist() == [[1, 0, 0], [0, pytest.approx(0.2), 0], [0, 0, 0]]


def test_a_quad_beside_a_triangle_keeps_the_order_of_the_file(tmp_path):
    mesh = load_mesh(save_obj(tmp_path, SQUARE + "v 0 0 1\nf 1 2 5\nf 1 2 3 4\nf 2 3 5\n"))
    assert mesh.faces.tolist() == [[0, 1, 4], [0, 1, 2], [0, 2, 3], [1, 2, 4]]


def test_materials_of_several_colours_meet_sharply(tmp_path):
    text = "mtllib x.mtl\n" + SQUARE + "usemtl a\nf 1 2 3\nusemtl b\nf 1 3 4\n"
    mesh = load_mesh(
        save_obj(tmp_path, text, x_mtl="newmtl a\nKd 1 0 0\nnewmtl b\nKd 0 0 1 # blue\n")
    )
    assert [mesh.vertex_colors[face].unique(dim=0).tolist() for face in mesh.faces] == [
        [list(RED)],
        [list(BLUE)],
    ]


def test_several_images_and_colours_become_one_texture(tmp_path):
    for name, color in (("red.png", (255, 0, 0)), ("blue.png", (0, 0, 255))):
        Image.new("RGB", (16, 8), color).save(tmp_path / name)
    uvs = "vt 0 0\nvt 3 0\nvt 3 3\nvt 0 3\n"  # the second image repeats three times
    text = (
        "mtllib x.mtl\n"
        + SQUARE
        + uvs
        + "usemtl a\nf 1/1 2/2 3/3\nusemtl b\nf 1/1 3/3 4/4\nusemtl c\nf 1 4 3\n"
    )
    mtl = "newmtl a\nmap_Kd red.png\nnewmtl b\nmap_Kd blue.png\nnewmtl c\nKd 1 .5 0\n"
    mesh = load_mesh(save_obj(tmp_path, text, x_mtl=mtl))
    assert float(mesh.uvs.amin()) >= 0
    assert float(mesh.uvs.amax()) <= 1
    middles = mesh.uvs[mesh.faces].mean(dim=1)
    assert [
        [round(c, 2) for c in row] for row in texture_colors(mesh.texture, middles).tolist()
    ] == [list(RED), list(BLUE), list(ORANGE)]


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
def test_options_of_an_mtls_image(tmp_path, caplog, options, uv, color):
    half = Image.new("RGB", (32, 32), (255, 0, 0))
    half.paste((0, 0, 255), (16, 0, 32, 32))
    half.save(tmp_path / "a half.png")
    text = f"mtllib x.mtl\n{SQUARE}vt {uv}\nusemtl a\nf 1/1 2/1 3/1\n"
    mesh = load_mesh(
        save_obj(tmp_path, text, x_mtl=f"\ufeffnewmtl a\r\nmap_Kd {options} a half.png\r\n")
    )
    if color is None:
        assert mesh.texture is None
        assert "-unknown a half.png" in caplog.text
    else:
        assert colors_of(mesh) == {color}


@pytest.mark.parametrize(
    ("line", "color"),
    [
        ("Kd 0 0 1", BLUE),
        ("Kd 0.5", (0.5,) * 3),
        ("Kd 2 0 0 0.5", RED),
        ("Kd spectral x.rfl", None),
        ("Kd 1", (1.0,) * 3),
    ],
)
def test_colours_of_an_mtl(tmp_path, line, color):
    mesh = load_mesh(
        save_obj(
            tmp_path, f"mtllib x.mtl\n{SQUARE}usemtl a\nf 1 2 3\n", x_mtl=f"newmtl a\n{line}\n"
        )
    )
    assert (mesh.vertex_colors is None) if color is None else (colors_of(mesh) == {color})


def test_an_unreadable_image_is_left_out_and_named(tmp_path, caplog):
    (tmp_path / "t.png").write_text("no image")
    text = f"mtllib x.mtl none.mtl\n{SQUARE}vt 0 0\nusemtl a\nf 1/1 2/1 3/1\n"
    mesh = load_mesh(save_obj(tmp_path, text, x_mtl="newmtl a\nKd 1 0 0\nmap_Kd t.png\n"))
    assert "t.png of x.obj cannot be read" in caplog.text
    assert "none.mtl" in caplog.text
    assert colors_of(mesh) == {RED}


def test_utf_16_and_continued_lines(tmp_path):
    text = SQUARE + "f 1 2 \\\n3\n"
    assert len(load_mesh(save_obj(tmp_path, text)).faces) == 1
    assert len(load_mesh(save_obj(tmp_path, text.encode("utf-16"))).faces) == 1


def test_many_large_images_are_made_smaller_together(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "MAX_SIDE", 256)
    names = [f"p{i}" for i in range(6)]
    for i, name in enumerate(names):
        Image.new("RGB", (200, 100 + 10 * i), (40 * i, 0, 255 - 40 * i)).save(
            tmp_path / f"{name}.png"
        )
    lines = "".join(f"usemtl {name}\nf 1/1 2/2 3/3\n" for name in names)
    mtl = "".join(f"newmtl {name}\nmap_Kd {name}.png\n" for name in names)
    mesh = load_mesh(
        save_obj(tmp_path, f"mtllib x.mtl\n{SQUARE}vt 0 0\nvt 1 0\nvt 1 1\n{lines}", x_mtl=mtl)
    )
    assert max(mesh.texture.shape[:2]) <= 256
    found = texture_colors(mesh.texture, mesh.uvs[mesh.faces].mean(dim=1))
    expected = torch.tensor([[40 * i / 255, 0, 1 - 40 * i / 255] for i in range(6)])
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0)


def test_triangles_of_one_image_repeat_each_from_its_own_place(tmp_path):
    half = Image.new("RGB", (64, 64), (255, 0, 0))
    half.paste((0, 0, 255), (32, 0, 64, 64))
    half.save(tmp_path / "half.png")
    uvs = (  # red, then blue
        "vt 7.1 0.2\nvt 7.2 0.2\nvt 7.2 0.4\nvt -3.3 0.2\nvt -3.2 0.2\nvt -3.2 0.4\n"
    )
    text = f"mtllib x.mtl\n{SQUARE}{uvs}usemtl a\nf 1/1 2/2 3/3\nf 1/4 3/5 4/6\nusemtl c\nf 1 4 3\n"
    mesh = load_mesh(
        save_obj(tmp_path, text, x_mtl="newmtl a\nmap_Kd half.png\nnewmtl c\nKd 0 1 0\n")
    )
    found = texture_colors(mesh.texture, mesh.uvs[mesh.faces].mean(dim=1))
    assert found.round().tolist() == [list(RED), list(BLUE), [0.0, 1.0, 0.0]]
    assert max(mesh.texture.shape[:2]) < 200, "it lies there once, and not ten times"


def test_a_image_that_repeats_beside_another_is_found_at_the_right_place(tmp_path):
    half = Image.new("RGB", (32, 32), (255, 0, 0))
    half.paste((0, 0, 255), (16, 0, 32, 32))  # red at the left, blue at the right
    half.save(tmp_path / "half.png")
    text = (
        "mtllib x.mtl\n"
        + SQUARE
        + "vt -1 0\nvt 1 0\nvt 1 2\nvt -1 2\nusemtl a\nf 1/1 2/2 3/3\nf 1/1 3/3 4/4\nusemtl c\nf 1"
        " 4 3\n"
    )
    mesh = load_mesh(
        save_obj(tmp_path, text, x_mtl="newmtl a\nmap_Kd half.png\nnewmtl c\nKd 0 1 0\n")
    )
    for share, color in ((0.1, RED), (0.4, BLUE), (0.6, RED), (0.9, BLUE)):
        a, b = mesh.uvs[mesh.faces[0, 0]], mesh.uvs[mesh.faces[0, 1]]
        found = texture_colors(
            mesh.texture, torch.lerp(a, b, share)[None] + torch.tensor([[0.0, 1e-3]])
        )
        assert found[0].tolist() == pytest.approx(color, abs=0.02), share


def test_the_files_of_a_mesh(tmp_path):
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
    assert mesh_files(tmp_path / "y.glb") == [tmp_path / "y.glb"]
    with pytest.raises(InvalidInput, match="no file"):
        mesh_files(tmp_path / "y.obj")


def test_a_textured_obj_has_a_folder_of_its_own():
    plain = Mesh(torch.rand(3, 3), torch.tensor([[0, 1, 2]]))
    textured = replace(plain, uvs=torch.rand(3, 2), texture=torch.rand(4, 4, 3))
    assert mesh_path(Path("out"), "cat", "obj", textured) == Path("out/cat/cat.obj")
    assert mesh_path(Path("out"), "cat", "obj", plain) == Path("out/cat.obj")
    assert mesh_path(Path("out"), "cat", "glb", textured) == Path("out/cat.glb")


@pytest.mark.parametrize(
    ("largest", "digits"),
    [(0.0, 6), (1.0, 6), (9.9, 6), (10.0, 5), (1e-9, 15), (3e-5, 11), (1e9, 0), (1e-60, 45)],
)
def test_as_many_digits_as_the_size_asks_for(largest, digits):
    assert decimals(np.array([0.0, -largest])) == digits


def test_vertices_with_a_weight_among_others_with_colours(tmp_path):
    text = "v 0 0 0 1.0\nv 1 0 0 1.0\nv 1 1 0 0 0 1\nf 1 2 3\n"
    mesh = load_mesh(save_obj(tmp_path, text))
    assert mesh.vertex_colors.tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 1]]


def test_colours_beyond_bytes_are_cut(tmp_path):
    text = "v 0 0 0 510 0 0\nv 1 0 0 0 51 0\nv 1 1 0 0 0 0\nf 1 2 3\n"
    mesh = load_mesh(save_obj(tmp_path, text))
    assert mesh.vertex_colors[0].tolist() == [1, 0, 0]


def test_a_image_of_a_mtl_may_be_named_as_windows_does(tmp_path):
    (tmp_path / "maps").mkdir()
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "maps" / "red.png")
    text = "mtllib x.mtl\nusemtl m\nvt 0.5 0.5\n" + SQUARE + "f 1/1 2/1 3/1 4/1\n"
    save_obj(tmp_path, text, x_mtl="newmtl m\nmap_Kd maps\\red.png\n")
    assert colors_of(load_mesh(tmp_path / "x.obj")) == {RED}


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_small_concave_polygons_face_one_way_too(tmp_path, size):
    corners = [(0, 0), (4, 0), (4, 1), (1, 1), (1, 4), (0, 4)]
    lines = [f"v {x * size + 5 * size} {y * size} {size}" for x, y in corners]
    mesh = load_mesh(save_obj(tmp_path, "\n".join(lines) + "\nf 1 2 3 4 5 6\n"))
    a, b, c = mesh.vertices.double()[mesh.faces].unbind(dim=1)
    normals = torch.linalg.cross(b - a, c - a) / 2 / size**2
    assert normals.sum(dim=0).tolist() == pytest.approx([7, 0, 0], abs=1e-3), "toward the viewer"


def test_a_image_comes_before_colours_at_the_vertices(tmp_path):
    """As other viewers do it."""
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "red.png")
    text = (
        "mtllib x.mtl\nusemtl m\nvt 0.5 0.5\n"
        "v 0 0 0 0 0 1\nv 1 0 0 0 0 1\nv 1 1 0 0 0 1\nf 1/1 2/1 3/1\n"
    )
    save_obj(tmp_path, text, x_mtl="newmtl m\nmap_Kd red.png\n")
    assert colors_of(load_mesh(tmp_path / "x.obj")) == {RED}
