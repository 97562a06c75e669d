from __future__ import annotations

import json
import os
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from pipelines.errors import EnvironmentProblem, InvalidInput
from pipelines.files import atomic_path
from pipelines.meshes.io import FORMATS, from_y_up, load_mesh, save_mesh, to_y_up
from pipelines.meshes.mesh import Mesh, drop_unused, face_areas
from pipelines.meshes.topology import keep_large_components

from ..shapes import l_shape


def _tetrahedron(shift: float = 0.0) -> Mesh:
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]) + shift
    return Mesh(
        vertices, torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]), torch.eye(4)[:, :3]
    )


def _load(path: Path) -> trimesh.Trimesh:
    # With a material, trimesh drops a GLB's vertex colours.
    options = {"skip_materials": True} if path.suffix == ".glb" else {}
    return trimesh.load(path, force="mesh", process=False, **options)


def test_save_mesh_obj_text_is_exact(tmp_path):
    save_mesh(_tetrahedron(), tmp_path / "t.obj", metadata={"made by": "a test\nof two lines"})
    assert (tmp_path / "t.obj").read_text() == (
        "# made by: a test\n"
        "# of two lines\n"
        "v 0.000000 0.000000 0.000000 1.0000 0.0000 0.0000\n"
        "v 0.000000 0.000000 1.000000 0.0000 1.0000 0.0000\n"
        "v 1.000000 0.000000 0.000000 0.0000 0.0000 1.0000\n"
        "v 0.000000 1.000000 0.000000 0.0000 0.0000 0.0000\n"
        "f 1 3 2\n"
        "f 1 2 4\n"
        "f 1 4 3\n"
        "f 2 3 4\n"
    )


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("up_axis", ["y", "z"])
def test_save_mesh_every_format_keeps_handedness_and_normals(tmp_path, suffix, up_axis):
    mesh = l_shape()
    path = tmp_path / f"l.{suffix}"
    save_mesh(mesh, path, up_axis=up_axis)
    loaded = _load(path)
    assert loaded.volume == pytest.approx(mesh.volume(), rel=1e-4)
    assert loaded.volume > 0
    up, front = (1, 2) if up_axis == "y" else (2, 1)
    sign = 1 if up_axis == "y" else -1  # front is +z, or -y
    assert np.ptp(loaded.vertices[:, up]) == pytest.approx(2.0)
    toward_front = loaded.vertices[:, front] * sign
    assert (toward_front.min(), toward_front.max()) == pytest.approx((-0.1, 0.3))
    tip = loaded.vertices[np.abs(loaded.vertices[:, 0]) > 0.55]
    assert len(tip)
    assert (tip[:, 0] > 0).all()  # +y of the world is +x of the file, whichever axis is up
    assert (tip[:, up] < -0.7).all()
    if suffix not in ("stl", "3mf"):
        colors = loaded.visual.vertex_colors
        assert set(map(tuple, colors[np.abs(loaded.vertices[:, 0]) > 0.55, :3].tolist())) == {
            (255, 0, 0)
        }


def test_save_mesh_glb_has_linear_colours_and_metadata(tmp_path):
    mesh = replace(_tetrahedron(), vertex_colors=torch.full((4, 3), 0.5))
    save_mesh(mesh, tmp_path / "t.glb", metadata={"prompt": "a chair"})
    content = (tmp_path / "t.glb").read_bytes()
    tree = json.loads(content[20 : 20 + struct.unpack("<I", content[12:16])[0]])
    assert tree["asset"]["extras"] == {"prompt": "a chair"}
    accessor = tree["accessors"][tree["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]]
    assert accessor["componentType"] == 5126
    colors = _load(tmp_path / "t.glb").visual.vertex_colors[:, :3]
    # IEC 61966-2-1 gives 0.21404 for sRGB 0.5; trimesh rounds to 8 bits.
    np.testing.assert_allclose(colors / 255, 0.21404, atol=0.5 / 255)


def test_from_y_up_inverts_to_y_up():
    mesh = l_shape()
    torch.testing.assert_close(from_y_up(to_y_up(mesh)).vertices, mesh.vertices)


def test_save_mesh_large_obj_is_read_back(tmp_path):
    side = 300
    index = torch.arange(side * side).view(side, side)
    a = index[:-1, :-1].flatten()
    b = index[1:, :-1].flatten()
    c = index[:-1, 1:].flatten()
    d = index[1:, 1:].flatten()
    faces = torch.cat([torch.stack([a, b, c], 1), torch.stack([b, d, c], 1)])
    mesh = Mesh(torch.rand(side * side, 3), faces, torch.rand(side * side, 3))
    save_mesh(mesh, tmp_path / "large.obj")
    back = load_mesh(tmp_path / "large.obj")
    assert torch.equal(back.faces, faces)
    torch.testing.assert_close(back.vertices, mesh.vertices, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "arguments",
    [
        (torch.zeros(3, 2), torch.zeros(1, 3, dtype=torch.long)),
        (torch.zeros(3, 3), torch.zeros(1, 4, dtype=torch.long)),
        (torch.zeros(3, 3), torch.full((1, 3), 3)),
        (torch.zeros(3, 3), torch.zeros(1, 3, dtype=torch.long), torch.zeros(2, 3)),
    ],
)
def test_mesh_of_wrong_shapes_is_refused(arguments):
    with pytest.raises(InvalidInput):
        Mesh(*arguments)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"vertices": torch.full((3, 3), float("nan"))}, "coordinates of the mesh are not finite"),
        ({"vertices": torch.full((3, 3), float("-inf"))}, "coordinates of the mesh are not finite"),
        ({"vertices": torch.full((3, 3), 1.1e9)}, r"larger than 1e\+09"),
        ({"vertex_colors": torch.full((3, 3), float("nan"))}, "vertex_colors of the mesh hold"),
        ({"uvs": torch.full((3, 2), float("inf"))}, "uvs of the mesh hold"),
        ({"uvs": torch.zeros(2, 2)}, r"\(V, 2\) for its 3 vertices"),
        ({"texture": torch.zeros(4, 4)}, r"\(H, W, 3\)"),
        ({"texture": torch.full((4, 4, 3), float("nan"))}, "texture of the mesh hold"),
        ({"faces": torch.tensor([[0, 1, -1]])}, "must be indices of its 3 vertices"),
    ],
)
def test_mesh_with_invalid_values_names_the_field(fields, said):
    with pytest.raises(InvalidInput, match=said):
        Mesh(**({"vertices": torch.zeros(3, 3), "faces": torch.tensor([[0, 1, 2]])} | fields))


def test_mesh_at_the_largest_coordinate_is_accepted():
    assert len(Mesh(torch.full((3, 3), -1e9), torch.tensor([[0, 1, 2]])).faces) == 1


@pytest.mark.parametrize("fov", [20.0, 60.0])
def test_center_for_camera_fills_the_view(fov):
    """The bounding sphere is in view, and just fits."""
    corners = torch.tensor([[x, y, z] for x in (4.0, 6.0) for y in (-1.0, 3.0) for z in (0.0, 1.0)])
    fitted, distance = Mesh(corners, torch.tensor([[0, 1, 2]])).center_for_camera(fov)
    torch.testing.assert_close(fitted.vertices.amin(dim=0), -fitted.vertices.amax(dim=0))
    reach = float(fitted.vertices.norm(dim=1).max())
    # The half angle under which the bounding sphere is seen.
    assert np.degrees(np.arcsin(reach / distance)) == pytest.approx(fov / 2, rel=0.06)
    assert distance == pytest.approx(1.05 * reach / np.sin(np.radians(fov / 2)))
    assert Mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 2]])).center_for_camera(fov)[1] > 0


def test_face_areas_and_volume_of_a_tetrahedron():
    mesh = _tetrahedron()
    assert face_areas(mesh).tolist() == pytest.approx([0.5, 0.5, 0.5, 3**0.5 / 2])
    assert mesh.volume() == pytest.approx(1 / 6)
    assert _tetrahedron(5.0).volume() == pytest.approx(1 / 6)


def test_drop_unused_keeps_attributes():
    mesh = replace(_tetrahedron(), uvs=torch.rand(4, 2), texture=torch.rand(2, 2, 3))
    few = drop_unused(replace(mesh, faces=mesh.faces[3:]))
    assert few.faces.tolist() == [[0, 1, 2]]
    for name in ("vertices", "vertex_colors", "uvs"):
        torch.testing.assert_close(getattr(few, name), getattr(mesh, name)[1:])
    assert few.texture is mesh.texture
    with pytest.raises(InvalidInput, match="no triangles"):
        keep_large_components(replace(mesh, faces=mesh.faces[:0]))


def test_save_mesh_refuses_unknown_formats_and_empty_meshes(tmp_path):
    with pytest.raises(InvalidInput, match="obj, glb, ply, stl, 3mf"):
        save_mesh(_tetrahedron(), tmp_path / "t.fbx")
    with pytest.raises(InvalidInput, match="no triangles"):
        save_mesh(Mesh(torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.long)), tmp_path / "t.obj")


def test_atomic_path_failing_keeps_the_old_file(tmp_path):
    path = tmp_path / "kept.obj"
    path.write_text("old")

    def write_half() -> None:
        with atomic_path(path) as partial:
            partial.write_text("half")
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["kept.obj"]


def test_atomic_path_full_disk_is_named(tmp_path):
    def write_to_a_full_disk() -> None:
        with atomic_path(tmp_path / "t.obj"), open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")

    with pytest.raises(EnvironmentProblem, match="No space left"):
        write_to_a_full_disk()
    assert not os.listdir(tmp_path)


def test_save_mesh_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match="cannot be written"):
        save_mesh(_tetrahedron(), tmp_path / "file" / "t.obj")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    "content", [b"", b"garbage\x00\xff", b"glTF\x02\x00\x00\x00\xff\xff\xff\xff"]
)
def test_load_mesh_of_garbage_names_the_file(tmp_path, suffix, content):
    (tmp_path / f"x.{suffix}").write_bytes(content)
    with pytest.raises(InvalidInput, match=rf"x\.{suffix}"):
        load_mesh(tmp_path / f"x.{suffix}")


def test_load_mesh_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidInput, match="missing or not readable"):
        load_mesh(tmp_path / "x.obj")
    with pytest.raises(InvalidInput, match="obj, glb, "):
        load_mesh(tmp_path / "x.fbx")
