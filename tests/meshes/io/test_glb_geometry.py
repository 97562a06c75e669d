"""Numbers, nodes, instances, skins and faces of glTF files, put together by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipelines.errors import InvalidInput
from pipelines.images.colors import to_linear
from pipelines.meshes.io import load_mesh
from pipelines.meshes.mesh import Mesh

from .gltf_builder import QUAD, Glb
from .helpers import CASES, RED, colors_of, face_normals, file_vertices, is_a_cube


def test_glb_normalized_integers_are_scaled():
    folder = CASES / "glb-normalized-integers"
    assert is_a_cube(load_mesh(folder / "positions.glb"))
    for name in ("uv-16.glb", "uv-8.glb"):
        assert colors_of(load_mesh(folder / name)) == {RED}


def test_glb_node_matrix_is_column_major(tmp_path):
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


def test_glb_scene_selects_nodes(tmp_path):
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


def test_glb_strip_flips_every_second_triangle(tmp_path):
    glb = Glb()
    rows = [[x, y, 0] for x in range(4) for y in (1, 0)]
    mesh = load_mesh(
        glb.save(tmp_path / "x.glb", {"attributes": {"POSITION": glb.add(rows)}, "mode": 5})
    )
    assert mesh.faces.tolist() == [[0, 1, 2], [2, 1, 3], [2, 3, 4], [4, 3, 5], [4, 5, 6], [6, 5, 7]]
    np.testing.assert_allclose(face_normals(mesh), [[0, 0, 1]] * 6)


def test_glb_incomplete_triangle_is_dropped(tmp_path):
    glb = Glb()
    indices = glb.add([0, 1, 2, 2, 1, 3, 0, 1], "SCALAR", "u1")
    mesh = load_mesh(
        glb.save(
            tmp_path / "x.glb", {"attributes": {"POSITION": glb.add(QUAD)}, "indices": indices}
        )
    )
    assert mesh.faces.tolist() == [[0, 1, 2], [2, 1, 3]]


def test_glb_sparse_accessor_without_buffer_starts_at_zero(tmp_path):
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


def test_glb_joint_weights_are_normalized(tmp_path):
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


def test_glb_joint_outside_scene_stays_at_origin(tmp_path):
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


def test_glb_eight_joints_per_vertex_are_blended(tmp_path):
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
def test_glb_strips_fans_and_lists_face_one_way(tmp_path, mode, order, faces, indexed):
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


def test_glb_nodes_move_rotate_and_mirror(tmp_path):
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


def test_glb_skin_places_vertices(tmp_path):
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


def test_glb_morph_target_is_applied(tmp_path):
    glb = Glb()
    primitive = {
        "attributes": {"POSITION": glb.add(QUAD)},
        "mode": 5,
        "targets": [{"POSITION": glb.add([[0, 0, 2]] * 4)}],
    }
    mesh = load_mesh(glb.save(tmp_path / "x.glb", primitive, weights=[0.5]))
    np.testing.assert_allclose(file_vertices(mesh)[:, 2], 1)


def test_glb_interleaved_buffer_is_read(tmp_path):
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


def test_glb_morph_target_of_weight_zero_is_ignored(tmp_path):
    glb = Glb()
    primitive = {
        "attributes": {"POSITION": glb.add(QUAD)},
        "mode": 5,
        "targets": [{"NORMAL": glb.add([[0, 0, 2]] * 4)}, {"POSITION": glb.add([[0, 0, 2]] * 4)}],
    }
    mesh = load_mesh(glb.save(tmp_path / "x.glb", primitive, weights=[0.5, 0.0]))
    np.testing.assert_allclose(file_vertices(mesh)[:, 2], 0)


def test_glb_skin_without_joints_has_no_effect(tmp_path):
    glb = Glb(skins=[{"joints": [0]}])
    primitive = {"attributes": {"POSITION": glb.add(QUAD)}, "mode": 5}
    mesh = load_mesh(glb.save(tmp_path / "x.glb", primitive, skin=0))
    np.testing.assert_allclose(file_vertices(mesh), QUAD)


def test_glb_joints_without_skin_have_no_effect(tmp_path):
    glb = Glb()
    attributes = {
        "POSITION": glb.add(QUAD),
        "JOINTS_0": glb.add([[0, 0, 0, 0]] * 4, "VEC4", "u1"),
        "WEIGHTS_0": glb.add([[1, 0, 0, 0]] * 4, "VEC4"),
    }
    mesh = load_mesh(glb.save(tmp_path / "x.glb", {"attributes": attributes, "mode": 5}))
    np.testing.assert_allclose(file_vertices(mesh), QUAD)
