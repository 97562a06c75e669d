"""Instances and unusual transforms of glTF files."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.errors import InvalidInput
from pipelines.meshes.io import glb_reading, load_mesh

from .gltf_builder import QUAD, Glb
from .helpers import CASES, face_normals, file_vertices

INSTANCING = "EXT_mesh_gpu_instancing"


def _instanced(glb: Glb, **attributes: int) -> dict:
    return {"extensions": {INSTANCING: {"attributes": attributes}}}


def _quad(glb: Glb) -> dict:
    return {"attributes": {"POSITION": glb.add(QUAD)}, "mode": 5}


def test_glb_instances_of_the_case_are_all_read(caplog):
    mesh = load_mesh(CASES / "glb-instances-left-out" / "instances.glb")
    size = mesh.vertices.amax(dim=0) - mesh.vertices.amin(dim=0)
    assert (len(mesh.faces), mesh.volume()) == (36, pytest.approx(10))
    assert size.roll(-1).tolist() == [7, 2, 2]
    assert not caplog.text


@pytest.mark.parametrize("required", [True, False])
def test_glb_instances_are_placed_within_their_node(tmp_path, required):
    glb = Glb(**({"extensionsRequired": [INSTANCING]} if required else {}))
    half = round(32767 * 0.5**0.5)
    instances = _instanced(
        glb,
        TRANSLATION=glb.add([[0, 0, 0], [10, 0, 0]]),
        ROTATION=glb.add([[0, 0, 0, 32767], [0, 0, half, half]], "VEC4", "<i2", normalized=True),
    )
    path = glb.save(tmp_path / "x.glb", _quad(glb), translation=[0, 5, 0], **instances)
    expected = [[0, 5, 0], [1, 5, 0], [0, 6, 0], [1, 6, 0]]
    expected += [[10, 5, 0], [10, 6, 0], [9, 5, 0], [9, 6, 0]]  # a quarter turn around z
    np.testing.assert_allclose(file_vertices(load_mesh(path)), expected, atol=1e-3)


def test_glb_mirrored_instance_faces_outward(tmp_path):
    glb = Glb()
    instances = _instanced(glb, SCALE=glb.add([[1, 1, 1], [-1, 1, 1]]))
    mesh = load_mesh(glb.save(tmp_path / "x.glb", _quad(glb), **instances))
    np.testing.assert_allclose(face_normals(mesh), [[0, 0, 1]] * 4)


def test_glb_instances_without_attributes_are_one(tmp_path):
    glb = Glb()
    assert len(load_mesh(glb.save(tmp_path / "x.glb", _quad(glb), **_instanced(glb))).faces) == 2


def test_glb_too_many_instances_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(glb_reading, "_MAX_FACES", 5)
    glb = Glb()
    instances = _instanced(glb, TRANSLATION=glb.add([[i, 0, 0] for i in range(3)]))
    path = glb.save(tmp_path / "x.glb", _quad(glb), **instances)
    with pytest.raises(InvalidInput, match="2 triangles 3 times"):
        load_mesh(path)


@pytest.mark.parametrize("scale", [[0, 0, 0], [0, 0, 1]])
def test_glb_node_of_scale_zero_is_skipped_with_a_warning(tmp_path, caplog, scale):
    glb = Glb(nodes=[{"mesh": 0}, {"mesh": 0, "scale": scale}])
    assert len(load_mesh(glb.save(tmp_path / "x.glb", _quad(glb))).faces) == 2
    assert "x.glb: skipped meshes of scale 0 (1)" in caplog.text


def test_glb_flattening_node_keeps_normals(tmp_path):
    """The node's matrix has no inverse."""
    glb = Glb()
    primitive = _quad(glb)
    primitive["attributes"]["NORMAL"] = glb.add([[0, 0.6, 0.8]] * 4)
    mesh = load_mesh(glb.save(tmp_path / "x.glb", primitive, scale=[2, 2, 0]))
    np.testing.assert_allclose(mesh.normals.roll(-1, 1), [[0, 0, 1]] * 4, atol=1e-6)


def test_glb_sheared_and_mirrored_normals_stay_perpendicular(tmp_path):
    glb = Glb()
    primitive = _quad(glb)
    primitive["attributes"]["NORMAL"] = glb.add([[0, 0, 1]] * 4)
    primitive["attributes"]["TANGENT"] = glb.add([[1, 0, 0, 1]] * 4, "VEC4")
    matrix = [-2, 0, 1, 0, 0, 3, 0, 0, 0.5, 0.5, 1, 0, 0, 0, 0, 1]  # column by column
    mesh = load_mesh(glb.save(tmp_path / "x.glb", primitive, matrix=matrix))
    np.testing.assert_allclose(mesh.normals.roll(-1, 1)[:2], face_normals(mesh), atol=1e-6)
    assert mesh.tangents[:, 3].tolist() == [-1] * 4


@pytest.mark.parametrize("rotation", [[0, 0, 2, 2], [0, 0, 1e-3, 1e-3]])
def test_glb_rotation_is_normalized(tmp_path, rotation):
    glb = Glb()
    mesh = load_mesh(glb.save(tmp_path / "x.glb", _quad(glb), rotation=rotation))
    np.testing.assert_allclose(file_vertices(mesh)[1], [0, 1, 0], atol=1e-6)


def test_glb_rotation_of_length_zero_is_none(tmp_path):
    glb = Glb()
    mesh = load_mesh(glb.save(tmp_path / "x.glb", _quad(glb), rotation=[0, 0, 0, 0]))
    np.testing.assert_allclose(file_vertices(mesh), QUAD)


def test_glb_hidden_nodes_are_skipped_with_a_warning(tmp_path, caplog):
    hidden = {"extensions": {"KHR_node_visibility": {"visible": False}}}
    glb = Glb(nodes=[{"mesh": 0}, {"children": [2], **hidden}, {"mesh": 0}])
    assert len(load_mesh(glb.save(tmp_path / "x.glb", _quad(glb))).faces) == 2
    assert "skipped hidden meshes (1)" in caplog.text


def test_glb_points_and_lines_are_skipped_with_a_warning(tmp_path, caplog):
    glb = Glb()
    quad = _quad(glb)
    glb.tree["meshes"] = [{"primitives": [quad, quad | {"mode": 0}, quad | {"mode": 1}]}]
    assert len(load_mesh(glb.save(tmp_path / "x.glb", {})).faces) == 2
    assert "skipped sets of points or lines (2)" in caplog.text


@pytest.mark.parametrize(
    ("extension", "reported"),
    [
        ("KHR_materials_clearcoat", True),
        ("EXT_unheard_of", True),
        ("KHR_texture_transform", False),
        ("KHR_lights_punctual", False),
        ("KHR_materials_unlit", False),
    ],
)
def test_glb_unsupported_extensions_are_reported(tmp_path, caplog, extension, reported):
    glb = Glb(extensionsUsed=[extension])
    load_mesh(glb.save(tmp_path / "x.glb", _quad(glb)))
    assert (extension in caplog.text) == reported
