"""Conversions between ComfyUI's MESH and the library's meshes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from comfy_api import latest

from pipelines.errors import InvalidInput
from pipelines.meshes.material import Material
from pipelines.meshes.mesh import Mesh

from .inputs import small_ball


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("textured", [False, True])
def test_mesh_socket_round_trip_keeps_geometry_and_colours(nodes, monkeypatch, bare, textured):
    if bare:
        monkeypatch.setattr(
            latest, "Types", SimpleNamespace(MESH=latest.BareMESH, File3D=latest.File3D)
        )
    one, two = small_ball(), replace(small_ball(), faces=small_ball().faces[:7])
    if textured:
        one, two = (
            replace(
                m, vertex_colors=None, uvs=m.vertices[:, :2] / 2 + 0.5, texture=torch.rand(8, 6, 3)
            )
            for m in (one, two)
        )
    back = nodes.mesh_sockets.meshes_of(nodes.mesh_sockets.mesh_socket([one, two]))
    for mesh, own in zip(back, (one, two), strict=True):
        assert torch.equal(mesh.faces, own.faces)
        torch.testing.assert_close(mesh.vertices, own.vertices)
        for name in ("vertex_colors", "uvs", "texture"):
            a, b = getattr(mesh, name), getattr(own, name)
            assert (a is None) == (b is None)
            if a is not None:
                torch.testing.assert_close(a, b, atol=2e-4, rtol=0)


@pytest.mark.parametrize("bare", [False, True])
def test_mesh_socket_round_trip_keeps_normals_and_materials(nodes, monkeypatch, bare):
    if bare:
        monkeypatch.setattr(
            latest, "Types", SimpleNamespace(MESH=latest.BareMESH, File3D=latest.File3D)
        )
    count = len(small_ball().vertices)
    normals = torch.nn.functional.normalize(torch.rand(count, 3), dim=1)
    whole = replace(
        small_ball(),
        uvs=torch.rand(count, 2),
        texture=torch.rand(8, 6, 3),
        normals=normals,
        tangents=torch.cat([normals.roll(1, dims=1), -torch.ones(count, 1)], dim=1),
        vertex_alpha=torch.rand(count),
        material=Material(
            torch.rand(4, 4, 3),
            torch.rand(4, 4, 3),
            torch.rand(4, 4, 3),
            occlusion_in_mr=True,
            factors={"metallic_factor": 0.5, "of_some_later_version": [1, 2]},
        ),
    )
    short = replace(whole, faces=whole.faces[:7])
    back = nodes.mesh_sockets.meshes_of(nodes.mesh_sockets.mesh_socket([whole, short]))
    for mesh, own in zip(back, (whole, short), strict=True):
        for name in ("vertices", "faces", "uvs", "texture", "normals", "tangents", "vertex_alpha"):
            torch.testing.assert_close(getattr(mesh, name), getattr(own, name), msg=name)
        for name, image in own.material.images.items():
            torch.testing.assert_close(mesh.material.images[name], image)
        assert mesh.material.occlusion_in_mr
        assert mesh.material.factors == own.material.factors


def test_mesh_socket_of_different_materials_drops_their_factors(nodes, caplog):
    unlit = replace(small_ball(), material=Material(unlit=True, factors={"metallic_factor": 1.0}))
    socket = nodes.mesh_sockets.mesh_socket([unlit, small_ball()])
    assert (socket.unlit, getattr(socket, "material", None)) == (False, None)
    assert "their factors are dropped" in caplog.text
    (back,) = nodes.mesh_sockets.meshes_of(nodes.mesh_sockets.mesh_socket([unlit]))
    assert back.material.unlit
    uvs = torch.rand(len(small_ball().vertices), 2)
    glowing = replace(small_ball(), uvs=uvs, material=Material(emissive=torch.rand(4, 4, 3)))
    socket = nodes.mesh_sockets.mesh_socket([glowing, replace(small_ball(), uvs=uvs)])
    assert float(socket.emissive[1].abs().max()) == 0


def test_meshes_of_reads_lists_and_single_meshes(nodes):
    """Core's TRELLIS nodes make such lists and single meshes."""
    one = small_ball()
    core = latest.Types.MESH(
        [one.vertices, one.vertices[:3]], [one.faces, torch.tensor([[0, 1, 2]])]
    )
    core.vertex_colors = [torch.rand(len(one.vertices), 4), torch.rand(3, 4)]
    first, second = nodes.mesh_sockets.meshes_of(core)
    assert (len(first.vertices), len(second.vertices), len(second.faces)) == (
        len(one.vertices),
        3,
        1,
    )
    torch.testing.assert_close(second.vertex_alpha, core.vertex_colors[1][:, 3])
    single = latest.Types.MESH(one.vertices, one.faces)
    single.vertex_colors = torch.rand(len(one.vertices), 3)
    assert len(nodes.mesh_sockets.meshes_of(single)[0].faces) == len(one.faces)
    core.vertex_colors = core.vertex_colors[:1]
    with pytest.raises(InvalidInput, match="2 meshes and 1 of vertex_colors"):
        nodes.mesh_sockets.meshes_of(core)


def test_mesh_socket_is_y_up_with_v_from_the_top_and_linear_colours(nodes):
    mesh = Mesh(
        torch.tensor([[1.0, 2, 3], [1, 0, 0], [0, 1, 0]]),
        torch.tensor([[0, 1, 2]]),
        torch.full((3, 3), 0.5),
    )
    core = nodes.mesh_sockets.mesh_socket([mesh])
    assert core.vertices[0, 0].tolist() == [2, 3, 1]
    assert float(core.vertex_colors[0, 0, 0]) == pytest.approx(0.21404, abs=1e-4)
    core = nodes.mesh_sockets.mesh_socket(
        [
            Mesh(
                mesh.vertices,
                mesh.faces,
                uvs=torch.tensor([[0.25, 0.9]] * 3),
                texture=torch.rand(4, 4, 3),
            )
        ]
    )
    assert core.uvs[0, 0].tolist() == pytest.approx([0.25, 0.1])


def test_mesh_socket_of_textured_and_plain_meshes_keeps_both_colours(nodes):
    textured = replace(
        small_ball(False),
        uvs=torch.full((len(small_ball().vertices), 2), 0.5),
        texture=torch.full((4, 4, 3), 0.25),
    )
    first, second = nodes.mesh_sockets.meshes_of(
        nodes.mesh_sockets.mesh_socket([textured, small_ball()])
    )
    torch.testing.assert_close(
        first.vertex_colors, torch.full_like(first.vertices, 0.25), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(second.vertex_colors, small_ball().vertex_colors, atol=1e-4, rtol=0)


def test_mesh_socket_resizes_textures_to_the_largest(nodes):
    textured = [
        replace(
            small_ball(False),
            uvs=torch.full((162, 2), 0.5),
            texture=torch.full((side, side, 3), 0.25),
        )
        for side in (4, 9)
    ]
    assert nodes.mesh_sockets.mesh_socket(textured).texture.shape == (2, 9, 9, 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vertices": torch.full((1, 3, 3), float("nan"))}, "not finite"),
        ({"vertices": torch.full((1, 3, 3), 1e30)}, r"larger than 1e\+09"),
        ({"faces": torch.zeros(1, 0, 3, dtype=torch.long)}, "no triangles"),
        ({"faces": torch.full((1, 1, 3), 9)}, "must be indices of"),
    ],
)
def test_meshes_of_refuses_broken_meshes(nodes, change, said):
    fields = {"vertices": torch.rand(1, 3, 3), "faces": torch.tensor([[[0, 1, 2]]])} | change
    with pytest.raises(InvalidInput, match=said):
        nodes.MeshInfo.execute(latest.BareMESH(**fields))
