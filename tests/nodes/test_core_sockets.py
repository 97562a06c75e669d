"""Core's VOXEL and LOAD3D_CAMERA."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipelines.cameras import cameras_around
from pipelines.errors import InvalidInput
from pipelines.meshes.color_transfer import texture_to_vertex_colors
from pipelines.meshes.mesh import Mesh, drop_unused

from .inputs import small_ball

FRONT = {"position": {"x": 0, "y": 0, "z": 4}, "target": {"x": 0, "y": 0, "z": 0}}


def _shell(batch: int = 1) -> Any:
    """Return a full grid as TRELLIS.2's VOXEL; red grows along x, metalness along y."""
    cells = torch.cartesian_prod(torch.arange(batch), *[torch.arange(8)] * 3).int()
    values = torch.zeros(len(cells), 6)
    values[:, 0], values[:, 3] = ((cells[:, i] + 0.5) / 8 for i in (1, 2))
    return SimpleNamespace(data=cells, voxel_colors=values, resolution=8)


def _dome(nodes: Any) -> Any:
    """Return a MESH of the upper half of a ball, with uvs as seen from above."""
    ball = small_ball(colors=False)
    upper = (ball.vertices[ball.faces][..., 2] > -1e-3).all(dim=1)
    uvs = ball.vertices[:, :2] * 0.49 + 0.5
    dome = Mesh(ball.vertices * 0.4, ball.faces[upper], uvs=uvs)
    return nodes.mesh_sockets.mesh_socket([drop_unused(dome)])


def test_texture_mesh_paints_voxel_colours_on_the_meshs_own_uvs(nodes):
    socket = _dome(nodes)
    painted = nodes.TextureMesh.execute(socket, size=512, voxel_colors=_shell(), keep_uvs=True)[0]
    torch.testing.assert_close(painted.uvs, socket.uvs)
    (mesh,) = nodes.mesh_sockets.meshes_of(painted)
    colors = texture_to_vertex_colors(mesh).vertex_colors
    x_of_core, y_of_core = mesh.vertices[:, 1], mesh.vertices[:, 2]
    torch.testing.assert_close(colors[:, 0], x_of_core + 0.5, atol=0.05, rtol=0)
    metal = replace(mesh, texture=mesh.material.metallic_roughness, material=None)
    found = texture_to_vertex_colors(metal).vertex_colors[:, 2]
    torch.testing.assert_close(found, y_of_core + 0.5, atol=0.05, rtol=0)


def test_texture_mesh_gives_each_mesh_of_a_batch_its_own_voxels(nodes):
    voxel = _shell(batch=2)
    voxel.voxel_colors[voxel.data[:, 0] == 1] = 0.25
    both = nodes.mesh_sockets.mesh_socket(nodes.mesh_sockets.meshes_of(_dome(nodes)) * 2)
    _, texture = nodes.TextureMesh.execute(both, size=512, voxel_colors=voxel, keep_uvs=True).args
    assert texture[0].std() > 0.05
    torch.testing.assert_close(texture[1], torch.full_like(texture[1], 0.25))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"voxel_colors": None}, "has no colours"), ({"data": torch.zeros(0, 4)}, "one colour")],
    ids=["structure", "empty"],
)
def test_texture_mesh_refuses_voxels_without_colours(nodes, change, message):
    voxel = SimpleNamespace(**(vars(_shell()) | change))
    if not len(voxel.data):
        voxel.voxel_colors = voxel.voxel_colors[:0]
    with pytest.raises(InvalidInput, match=message):
        nodes.TextureMesh.execute(_dome(nodes), size=512, voxel_colors=voxel)


@pytest.mark.parametrize(
    "rotation", [{}, {"quaternion": {"x": 0, "y": 0, "z": 0, "w": 1}}], ids=["target", "quaternion"]
)
def test_view_cameras_takes_cores_camera(nodes, rotation):
    (found, _) = nodes.ViewCameras.execute(
        "0", "0", 1.0, 30.0, FRONT | rotation | {"fov": 40, "zoom": 1}
    ).args
    expected = cameras_around([0.0], [0.0], 4.0, 40.0)
    torch.testing.assert_close(found.c2w, expected.c2w)
    torch.testing.assert_close(found.intrinsics_normalized, expected.intrinsics_normalized)


@pytest.mark.parametrize("drop", ["quaternion", "target"])
def test_view_cameras_round_trip_keeps_cores_cameras(nodes, drop):
    cameras, infos = nodes.ViewCameras.execute("30, 90, 210", "-10, 20, 60", 3.0, 40.0).args
    assert [info["target"] for info in infos] == [
        pytest.approx({"x": 0, "y": 0, "z": 0}, abs=1e-5)
    ] * 3
    own = [{name: value for name, value in info.items() if name != drop} for info in infos]
    back = nodes.ViewCameras.execute("0", "0", 1.0, 30.0, own)[0]
    torch.testing.assert_close(back.c2w, cameras.c2w, atol=1e-5, rtol=0)
    torch.testing.assert_close(back.intrinsics_normalized, cameras.intrinsics_normalized)


def test_cores_zoom_scales_the_focal_length(nodes):
    one, two = (
        nodes.camera_sockets.cameras_of(FRONT | {"fov": 40, "zoom": zoom}) for zoom in (1, 2)
    )
    ratio = two.intrinsics_normalized / one.intrinsics_normalized
    assert ratio[0].diagonal().tolist() == [2, 2, 1]


def test_cameras_of_a_camera_from_above_are_finite(nodes):
    above = FRONT | {"position": {"x": 0, "y": 4, "z": 0}}
    c2w = nodes.camera_sockets.cameras_of(above).c2w[0]
    torch.testing.assert_close(c2w[:3, 2], torch.tensor([0.0, 0, 1]))
    assert float(torch.linalg.det(c2w[:3, :3])) == pytest.approx(1)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (FRONT | {"cameraType": "orthographic"}, "orthographic"),
        ({"position": {"x": 0, "y": 0, "z": 4}}, "not a camera"),
        (FRONT | {"quaternion": {"x": 0, "y": 0, "z": 0, "w": 0}}, "not a camera"),
        (FRONT | {"fov": 200}, "between 0 and 180"),
        (FRONT | {"position": {"x": 0, "y": 0, "z": float("nan")}}, "finite"),
        ([], "at least one"),
    ],
    ids=["orthographic", "no-target", "zero-quaternion", "fov", "nan", "empty"],
)
def test_view_cameras_refuses_invalid_cameras(nodes, info, message):
    with pytest.raises(InvalidInput, match=message):
        nodes.ViewCameras.execute("0", "0", 1.0, 30.0, info)
