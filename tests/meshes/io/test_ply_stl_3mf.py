"""PLY, STL and 3MF as other programs write them."""

from __future__ import annotations

import struct
import zipfile
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
def test_ply_of_every_order_polygon_and_colour(tmp_path, order, faces, kind, top):
    x, y = [0, 1, 1, 0], [0, 0, 1, 1]
    columns = [("x", "double", x), ("y", "float", y), ("z", "float", [0] * 4)]
    columns += [("red", kind, [top] * 4), ("green", kind, [0] * 4), ("blue", kind, [0] * 4)]
    mesh = load_mesh(_ply(tmp_path / "x.ply", order, columns, faces))
    assert len(mesh.faces) == sum(len(f) - 2 for f in faces)
    assert colors_of(mesh) == {RED}
    np.testing.assert_allclose(file_vertices(mesh)[:, :2], np.stack([x, y], axis=1))
    np.testing.assert_allclose(face_normals(mesh)[:, 2], 1)


def test_a_ply_with_a_image(tmp_path):
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
@pytest.mark.parametrize(("faces", "said"), [([[0, 1, 7]], "not there"), ([], "no triangles")])
def test_wrong_plys_are_one_sentence(tmp_path, order, faces, said):
    columns = [(axis, "float", [0.0, 1.0, 2.0]) for axis in "xyz"]
    with pytest.raises(InvalidInput, match=said):
        load_mesh(_ply(tmp_path / "x.ply", order, columns, faces))


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian"])
def test_a_ply_that_is_cut_off(tmp_path, order):
    path = _ply(
        tmp_path / "x.ply",
        order,
        [(axis, "float", [0.0, 1.0, 2.0]) for axis in "xyz"],
        [[0, 1, 2]] * 9,
    )
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InvalidInput, match=r"cut off|damaged"):
        load_mesh(path)


def test_binary_polygons_of_different_sizes_beside_other_numbers(tmp_path):
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
def test_ply_lines_may_end_as_they_like(tmp_path, ending):
    path = _ply(
        tmp_path / "x.ply",
        "ascii",
        [(axis, "float", [0.0, i == 0, i == 1]) for i, axis in enumerate("xyz")],
        [[0, 1, 2]],
    )
    path.write_bytes(path.read_bytes().replace(b"\n", ending.encode()))
    assert len(load_mesh(path).faces) == 1


def test_a_ply_of_strips(tmp_path):
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


def test_a_ply_with_coordinates_at_its_faces_corners(tmp_path):
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


def _3mf(path: Path, model: str) -> Path:
    core = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
    material = "http://schemas.microsoft.com/3dmanufacturing/material/2015/02"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "3D/3dmodel.model",
            model.replace("<model", f'<model xmlns="{core}" xmlns:m="{material}"', 1),
        )
    return path


TETRAHEDRON = (
    '<mesh><vertices><vertex x="0" y="0" z="0"/><vertex x="1" y="0" z="0"/><vertex x="0" y="1"'
    ' z="0"/><vertex x="0" y="0" z="1"/></vertices><triangles>{}</triangles></mesh>'
)
PLAIN = "".join(
    f'<triangle v1="{a}" v2="{b}" v3="{c}"/>'
    for a, b, c in ((0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3))
)


@pytest.mark.parametrize(
    ("unit", "scale"), [("inch", 25.4), ("meter", 1000), ("micron", 1e-3), (None, 1)]
)
def test_3mf_units_come_out_in_millimetres(tmp_path, unit, scale):
    named = f' unit="{unit}"' if unit else ""
    model = (
        f"<model{named}><resources><object"
        f' id="1">{TETRAHEDRON.format(PLAIN)}</object></resources><build><item'
        ' objectid="1"/></build></model>'
    )
    mesh = load_mesh(_3mf(tmp_path / "x.3mf", model))
    assert mesh.volume() == pytest.approx(scale**3 / 6, rel=1e-4)


def test_3mf_places_parts_and_mirrors_them(tmp_path):
    model = (
        f'<model><resources><object id="1">{TETRAHEDRON.format(PLAIN)}</object><object'
        ' id="2"><components><component objectid="1" transform="-2 0 0 0 1 0 0 0 1 5 0'
        ' 0"/></components></object></resources><build><item objectid="2" transform="1 0 0 0 1 0 0'
        ' 0 1 0 7 0"/><item objectid="1"/></build></model>'
    )
    mesh = load_mesh(_3mf(tmp_path / "x.3mf", model))
    assert mesh.volume() == pytest.approx(1 / 6 + 2 / 6, rel=1e-5)
    vertices = file_vertices(mesh)
    assert vertices.min(axis=0).tolist() == [0, 0, 0]
    assert vertices.max(axis=0).tolist() == [5, 8, 1]


def test_3mf_colours_of_corners_and_triangles(tmp_path):
    triangles = PLAIN.replace("<triangle", '<triangle pid="5" p1="0"', 1).replace(
        "<triangle v1", '<triangle pid="5" p1="0" p2="1" p3="1" v1', 1
    )
    model = (
        '<model><resources><m:colorgroup id="5"><m:color color="#FF0000"/><m:color'
        ' color="#0000FFFF"/></m:colorgroup><object id="1" pid="5"'
        f' pindex="1">{TETRAHEDRON.format(triangles)}</object></resources><build><item'
        ' objectid="1"/></build></model>'
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
        types, relations, model = (
            archive.read(name).decode()
            for name in ("[Content_Types].xml", "_rels/.rels", "3D/3dmodel.model")
        )
    assert (
        'Default Extension="model"'
        ' ContentType="application/vnd.ms-package.3dmanufacturing-3dmodel+xml"' in types
    )
    assert (
        'Default Extension="rels"'
        ' ContentType="application/vnd.openxmlformats-package.relationships+xml"' in types
    )
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
    relation = (
        '<Relationship Target="/3D/other.model"'
        ' Type="http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"/>'
    )
    thumbnail = (
        '<Relationship Target="/t.png"'
        ' Type="http://schemas.openxmlformats.org/package/2006/relationships/metadata/thumbnail"/>'
    )
    with zipfile.ZipFile(tmp_path / "x.3mf", "w") as archive:
        archive.writestr("_rels/.rels", f"<Relationships>{thumbnail}{relation}</Relationships>")
        archive.writestr("3D/3dmodel.model", f"<model {core}><resources/><build/></model>")
        archive.writestr(
            "3D/Parts/a.model",
            f"<model {core}><resources><object"
            f' id="4">{TETRAHEDRON.format(PLAIN)}</object></resources></model>',
        )
        outer = (
            '<object id="1"><components><component objectid="4"'
            ' p:path="/3D/parts/A.model"/></components></object>'
        )
        skipped = f'<object id="2" type="support">{TETRAHEDRON.format(PLAIN)}</object>'
        build = (
            '<build><item objectid="1"/><item objectid="4" p:path="/3D/Parts/a.model"/><item'
            ' objectid="2"/></build>'
        )
        archive.writestr(
            "3D/other.model",
            f"<model {core} {production}><resources>{outer}{skipped}</resources>{build}</model>",
        )
    assert len(load_mesh(tmp_path / "x.3mf").faces) == 8


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            '<model><resources><object id="1">'
            + TETRAHEDRON.format('<triangle v1="0" v2="1" v3="4"/>')
            + '</object></resources><build><item objectid="1"/></build></model>',
            "not there",
        ),
        (
            '<model><resources><object id="1">'
            + TETRAHEDRON.format('<triangle v1="0" v2="1"/>')
            + '</object></resources><build><item objectid="1"/></build></model>',
            "not there",
        ),
        ("<model><resources/><build><item/></build></model>", "missing"),
        ('<model unit="ell"><resources/><build/></model>', "ell"),
        ('<model><resources/><build><item objectid="9"/></build></model>', "missing"),
        (
            (
                '<model><resources><object id="1"><components><component'
                ' objectid="1"/></components></object></resources><build><item'
                ' objectid="1"/></build></model>'
            ),
            "hold each other",
        ),
        ("<model><resources>", "XML"),
        ("<model><resources/><build/></model>", "no triangles"),
    ],
)
def test_wrong_3mfs_are_one_sentence(tmp_path, model, said):
    with pytest.raises(InvalidInput, match=said):
        load_mesh(_3mf(tmp_path / "x.3mf", model))


def test_nothing_stands_between_the_elements_of_a_3mf(tmp_path):
    from lxml import etree

    mesh = Mesh(torch.rand(3, 3), torch.tensor([[0, 1, 2]]), torch.rand(3, 3))
    save_mesh(mesh, tmp_path / "x.3mf")
    with zipfile.ZipFile(tmp_path / "x.3mf") as archive:
        for name in archive.namelist():
            root = etree.fromstring(archive.read(name))
            # Who wrote it, and its axis.
            assert "".join(root.itertext()).strip() in ("", "Image to 3Dy")


def test_entities_of_a_3mf_are_not_followed(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("0")
    corner = f'<!DOCTYPE model [<!ENTITY x SYSTEM "{secret.as_uri()}"><!ENTITY two "2">]>'
    body = TETRAHEDRON.format('<triangle v1="0" v2="1" v3="&two;"/>')
    text = f'{corner}<model><resources><object id="1">{body}</object></resources></model>'
    with zipfile.ZipFile(tmp_path / "x.3mf", "w") as archive:
        archive.writestr("3D/3dmodel.model", text)
    with pytest.raises(InvalidInput):
        load_mesh(tmp_path / "x.3mf")


def test_a_ply_notes_its_axis_only_where_it_is_not_y(tmp_path):
    mesh = Mesh(torch.rand(3, 3), torch.tensor([[0, 1, 2]]))
    for axis, noted in (("y", 0), ("z", 1)):
        save_mesh(mesh, tmp_path / "x.ply", up_axis=axis)
        assert (tmp_path / "x.ply").read_bytes().count(b"up_axis") == noted


def test_an_stl_has_the_normals_of_its_triangles(tmp_path):
    mesh = Mesh(torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 2, 0]]), torch.tensor([[0, 1, 2]]))
    save_mesh(mesh, tmp_path / "x.stl", up_axis="z")
    numbers = np.frombuffer((tmp_path / "x.stl").read_bytes()[84:132], "<f4")
    assert numbers[:3].tolist() == [0, 0, 1]
