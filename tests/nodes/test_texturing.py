"""Texture Mesh, Replace Mesh Texture and Bake Vertex Colors."""

from __future__ import annotations

import pytest
import torch
from comfy import model_management
from server import PromptServer

from pipelines.errors import InvalidInput
from pipelines.meshes import painting
from pipelines.meshes.color_transfer import texture_to_vertex_colors

from .inputs import extracted, small_ball


def test_texture_mesh_and_bake_vertex_colors_keep_the_colours(nodes, triplane):
    pytest.importorskip("xatlas")
    mesh = extracted(nodes, triplane)
    own = nodes.mesh_sockets.meshes_of(mesh)[0]
    for textured in (
        nodes.TextureMesh.execute(mesh, triplane, 512, 500)[0],
        nodes.BakeVertexColors.execute(mesh, 512, 500)[0],
    ):
        (painted,) = nodes.mesh_sockets.meshes_of(textured)
        assert painted.texture.shape == (512, 512, 3)
        assert len(painted.faces) <= 500
        found = texture_to_vertex_colors(painted).vertex_colors.mean(dim=0)
        wanted = own.vertex_colors.mean(dim=0)
        torch.testing.assert_close(found, wanted, atol=0.15, rtol=0)
    with pytest.raises(InvalidInput, match="one triplane for each mesh"):
        nodes.TextureMesh.execute(mesh, triplane * 2, 512, 500)


def test_apply_texture_replaces_what_texture_mesh_painted(nodes):
    pytest.importorskip("xatlas")
    mesh = nodes.mesh_sockets.mesh_socket([small_ball()])
    green = torch.tensor([0.2, 0.7, 0.3])
    views = green.expand(6, 64, 64, 3)
    textured, texture = nodes.TextureMesh.execute(mesh, None, 512, 500, views=views).args
    (painted,) = nodes.mesh_sockets.meshes_of(textured)
    assert texture.shape == (1, 512, 512, 3)
    torch.testing.assert_close(texture[0], painted.texture)
    torch.testing.assert_close(texture, green.expand_as(texture), atol=1e-3, rtol=0)
    again = nodes.ApplyTexture.execute(textured, torch.zeros(1, 64, 32, 3))[0]
    (black,) = nodes.mesh_sockets.meshes_of(again)
    assert black.texture.shape == (64, 32, 3)
    torch.testing.assert_close(black.uvs, painted.uvs)
    torch.testing.assert_close(black.vertices, painted.vertices)


def test_texture_mesh_skips_a_photograph_of_something_else(nodes, triplane):
    pytest.importorskip("xatlas")
    mesh = nodes.mesh_sockets.mesh_socket([small_ball()])
    strip = torch.zeros(1, 64, 64)
    strip[:, :, 30:33] = 1
    red = torch.tensor([1.0, 0, 0]).expand(1, 64, 64, 3)
    without = nodes.TextureMesh.execute(mesh, triplane, 512, 500).args[1]
    with_it = nodes.TextureMesh.execute(mesh, triplane, 512, 500, photograph=red, mask=strip)
    torch.testing.assert_close(with_it.args[1], without)
    assert "left out of the texture" in PromptServer.instance.texts[-1][1]
    ball = (torch.linspace(-1, 1, 64)[:, None] ** 2 + torch.linspace(-1, 1, 64) ** 2 < 0.7).float()
    nodes.TextureMesh.execute(mesh, triplane, 512, 500, photograph=red, mask=ball[None])
    assert "The photograph was taken from" in PromptServer.instance.texts[-1][1]


def test_texture_mesh_stops_while_it_fits_the_camera(nodes, monkeypatch):
    monkeypatch.setattr(model_management, "interrupted", True)
    monkeypatch.delattr(painting, "texture_from_images")
    mesh = nodes.mesh_sockets.mesh_socket([small_ball()])
    with pytest.raises(model_management.InterruptProcessingException):
        nodes.TextureMesh.execute(
            mesh, None, 512, 500, photograph=torch.ones(1, 64, 64, 3), mask=torch.ones(1, 64, 64)
        )


def test_texture_mesh_without_matching_images_names_them(nodes):
    mesh = nodes.mesh_sockets.mesh_socket([small_ball()])
    one = torch.ones(1, 8, 8, 3)
    for images, says in (
        ({}, "nothing to paint with"),
        ({"views": one}, "6 views for each mesh"),
        ({"photograph": one}, "needs its mask"),
        ({"photograph": one.expand(2, -1, -1, -1), "mask": torch.ones(1, 8, 8)}, "one photograph"),
        ({"photograph": one, "mask": torch.zeros(1, 8, 8)}, "no object"),
    ):
        with pytest.raises(InvalidInput, match=says):
            nodes.TextureMesh.execute(mesh, None, 512, 500, **images)
    with pytest.raises(InvalidInput, match="no uvs"):
        nodes.ApplyTexture.execute(mesh, one)
