"""Materials and textures of OBJ files."""

from __future__ import annotations

import pytest
from PIL import Image

from pipelines.meshes.io import load_mesh

from .helpers import BLUE, CASES, RED, SQUARE, colors_of, is_a_cube, save_obj


@pytest.mark.parametrize(
    "name", ["case", "options", "quoted", "subfolder", "two-libraries", "two-lines"]
)
def test_mtl_texture_names_are_resolved(name):
    mesh = load_mesh(CASES / "obj-texture-not-found" / f"{name}.obj")
    assert is_a_cube(mesh)
    assert colors_of(mesh) == {RED}


def test_mtl_colors_meet_sharply(tmp_path):
    text = "mtllib x.mtl\n" + SQUARE + "usemtl a\nf 1 2 3\nusemtl b\nf 1 3 4\n"
    mesh = load_mesh(
        save_obj(tmp_path, text, x_mtl="newmtl a\nKd 1 0 0\nnewmtl b\nKd 0 0 1 # blue\n")
    )
    assert [mesh.vertex_colors[face].unique(dim=0).tolist() for face in mesh.faces] == [
        [list(RED)],
        [list(BLUE)],
    ]


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
def test_mtl_map_options_are_parsed(tmp_path, caplog, options, uv, color):
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
def test_mtl_kd_is_parsed(tmp_path, line, color):
    mesh = load_mesh(
        save_obj(
            tmp_path, f"mtllib x.mtl\n{SQUARE}usemtl a\nf 1 2 3\n", x_mtl=f"newmtl a\n{line}\n"
        )
    )
    assert (mesh.vertex_colors is None) if color is None else (colors_of(mesh) == {color})


def test_mtl_unreadable_image_is_skipped_with_a_warning(tmp_path, caplog):
    (tmp_path / "t.png").write_text("no image")
    text = f"mtllib x.mtl none.mtl\n{SQUARE}vt 0 0\nusemtl a\nf 1/1 2/1 3/1\n"
    mesh = load_mesh(save_obj(tmp_path, text, x_mtl="newmtl a\nKd 1 0 0\nmap_Kd t.png\n"))
    assert "t.png of x.obj is not readable" in caplog.text
    assert "none.mtl" in caplog.text
    assert colors_of(mesh) == {RED}


def test_mtl_backslashes_in_image_names_are_folders(tmp_path):
    (tmp_path / "maps").mkdir()
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "maps" / "red.png")
    text = "mtllib x.mtl\nusemtl m\nvt 0.5 0.5\n" + SQUARE + "f 1/1 2/1 3/1 4/1\n"
    save_obj(tmp_path, text, x_mtl="newmtl m\nmap_Kd maps\\red.png\n")
    assert colors_of(load_mesh(tmp_path / "x.obj")) == {RED}


def test_mtl_image_replaces_vertex_colors_with_a_warning(tmp_path):
    """Other viewers do the same."""
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "red.png")
    text = (
        "mtllib x.mtl\nusemtl m\nvt 0.5 0.5\n"
        "v 0 0 0 0 0 1\nv 1 0 0 0 0 1\nv 1 1 0 0 0 1\nf 1/1 2/1 3/1\n"
    )
    save_obj(tmp_path, text, x_mtl="newmtl m\nmap_Kd red.png\n")
    assert colors_of(load_mesh(tmp_path / "x.obj")) == {RED}


def test_mtl_material_missing_from_libraries_is_reported(tmp_path, caplog):
    text = f"mtllib x.mtl\n{SQUARE}usemtl b\nf 1 2 3\n"
    load_mesh(save_obj(tmp_path, text, x_mtl="newmtl a\nKd 1 0 0\n"))
    assert "no MTL file defines b" in caplog.text


def test_mtl_names_may_hold_a_hash_or_end_in_a_comment(tmp_path):
    text = f"mtllib x.mtl # ours\n{SQUARE}usemtl a #1\nf 1 2 3\nusemtl b # blue\nf 1 3 4\n"
    mesh = load_mesh(save_obj(tmp_path, text, x_mtl="newmtl a #1\nKd 1 0 0\nnewmtl b\nKd 0 0 1\n"))
    assert colors_of(mesh) == {RED, BLUE}


def test_mtl_maps_that_are_not_read_are_reported(tmp_path, caplog):
    text = f"mtllib x.mtl\n{SQUARE}usemtl a\nf 1 2 3\n"
    load_mesh(save_obj(tmp_path, text, x_mtl="newmtl a\nmap_d a.png\nmap_Bump b.png\n"))
    assert "x.mtl: map_Bump, map_d are not read" in caplog.text


def test_mtl_numbers_of_missing_images_are_dropped(tmp_path):
    """Otherwise the surface would be black metal that emits white light."""
    text = f"mtllib x.mtl\n{SQUARE}vt 0 0\nusemtl a\nf 1/1 2/1 3/1\n"
    lines = "Pr 0.5\nmap_Pr no.png\nPm 1\nmap_Pm no.png\nKe 1 1 1\nmap_Ke no.png\n"
    mesh = load_mesh(save_obj(tmp_path, text, x_mtl=f"newmtl a\n{lines}"))
    assert mesh.material is None


@pytest.mark.parametrize("keyword", ["EPS", "PCX"])
def test_mtl_texture_is_decoded_by_its_content(tmp_path, keyword):
    """Old formats are read. A PostScript program is refused whatever its suffix."""
    image = Image.new("RGB", (16, 16), (255, 0, 0))
    image.save(tmp_path / "t.png", keyword)
    text = f"mtllib x.mtl\n{SQUARE}vt 0 0\nusemtl a\nf 1/1 2/1 3/1\n"
    mesh = load_mesh(save_obj(tmp_path, text, x_mtl="newmtl a\nmap_Kd t.png\n"))
    assert (mesh.texture is None) == (keyword == "EPS")
