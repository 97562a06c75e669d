"""3MF as other programs write it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch

from pipelines.errors import InvalidInput
from pipelines.meshes.io import load_mesh, save_mesh
from pipelines.meshes.mesh import Mesh

from .helpers import BLUE, RED, file_vertices


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
def test_3mf_units_are_converted_to_millimetres(tmp_path, unit, scale):
    named = f' unit="{unit}"' if unit else ""
    model = (
        f"<model{named}><resources><object"
        f' id="1">{TETRAHEDRON.format(PLAIN)}</object></resources><build><item'
        ' objectid="1"/></build></model>'
    )
    mesh = load_mesh(_3mf(tmp_path / "x.3mf", model))
    assert mesh.volume() == pytest.approx(scale**3 / 6, rel=1e-4)


def test_3mf_components_are_placed_and_mirrored(tmp_path):
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


def test_3mf_corner_and_triangle_colors_are_read(tmp_path):
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


def test_3mf_saved_has_types_relations_and_model(tmp_path):
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


def test_3mf_start_model_and_production_paths_are_followed(tmp_path):
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
    ("model", "message"),
    [
        (
            '<model><resources><object id="1">'
            + TETRAHEDRON.format('<triangle v1="0" v2="1" v3="4"/>')
            + '</object></resources><build><item objectid="1"/></build></model>',
            "does not exist",
        ),
        (
            '<model><resources><object id="1">'
            + TETRAHEDRON.format('<triangle v1="0" v2="1"/>')
            + '</object></resources><build><item objectid="1"/></build></model>',
            "does not exist",
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
            "contain each other",
        ),
        ("<model><resources>", "XML"),
        ("<model><resources/><build/></model>", "no triangles"),
    ],
)
def test_3mf_damaged_raises_one_sentence(tmp_path, model, message):
    with pytest.raises(InvalidInput, match=message):
        load_mesh(_3mf(tmp_path / "x.3mf", model))


def test_3mf_saved_has_no_stray_text(tmp_path):
    from lxml import etree

    mesh = Mesh(torch.rand(3, 3), torch.tensor([[0, 1, 2]]), torch.rand(3, 3))
    save_mesh(mesh, tmp_path / "x.3mf")
    with zipfile.ZipFile(tmp_path / "x.3mf") as archive:
        for name in archive.namelist():
            root = etree.fromstring(archive.read(name))
            # The metadata: the application, and the up axis.
            assert "".join(root.itertext()).strip() in ("", "Image to 3Dy")


def test_3mf_external_entities_are_refused(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("0")
    corner = f'<!DOCTYPE model [<!ENTITY x SYSTEM "{secret.as_uri()}"><!ENTITY two "2">]>'
    body = TETRAHEDRON.format('<triangle v1="0" v2="1" v3="&two;"/>')
    text = f'{corner}<model><resources><object id="1">{body}</object></resources></model>'
    with zipfile.ZipFile(tmp_path / "x.3mf", "w") as archive:
        archive.writestr("3D/3dmodel.model", text)
    with pytest.raises(InvalidInput):
        load_mesh(tmp_path / "x.3mf")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ('<model requiredextensions="z"{}>{}', "the extension urn:of-tomorrow"),
        ('<model requiredextensions="m"{}>{}', None),
        ("<model{}>" + '{}<m:texture2dgroup id="5" texid="6"/>', "the colours of texture2dgroup"),
        ("<model{}>" + '{}<object id="3" type="support"/>', "objects of type support"),
    ],
    ids=["unknown extension", "known extension", "texture", "support"],
)
def test_3mf_unsupported_parts_are_reported(tmp_path, caplog, model, message):
    objects = f'<resources><object id="1" pid="5" pindex="0">{TETRAHEDRON.format(PLAIN)}</object>'
    text = model.format(' xmlns:z="urn:of-tomorrow"', objects)
    items = '<item objectid="1"/>' + ('<item objectid="3"/>' if "support" in text else "")
    path = _3mf(tmp_path / "x.3mf", f"{text}</resources><build>{items}</build></model>")
    assert len(load_mesh(path).faces) == 4
    assert f"x.3mf: skipped {message}" in caplog.text if message else not caplog.text


def test_3mf_damaged_compression_raises_one_sentence(tmp_path):
    mesh = Mesh(torch.rand(9, 3), torch.arange(9).view(3, 3))
    save_mesh(mesh, tmp_path / "x.3mf")
    content = bytearray((tmp_path / "x.3mf").read_bytes())
    start = content.index(b"3D/3dmodel.model") + len("3D/3dmodel.model")
    content[start : start + 4] = b"\xff" * 4
    (tmp_path / "x.3mf").write_bytes(content)
    with pytest.raises(InvalidInput, match="damaged, or locked by a password"):
        load_mesh(tmp_path / "x.3mf")
