"""Textures from voxel colours, and on a mesh's own uvs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipelines.cameras import cameras_around
from pipelines.errors import InvalidInput
from pipelines.meshes import painting
from pipelines.meshes.camera_fit import CameraFit
from pipelines.meshes.color_transfer import texture_to_vertex_colors
from pipelines.meshes.material import Material
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.painting import ColorSources, paint
from pipelines.meshes.projection import PosedImages
from pipelines.meshes.texture import TextureLayout

from ..sample_fields import AnalyticField, cube_of_voxels
from ..shapes import ball, textured_l

RED = torch.tensor([0.8, 0.1, 0.2])


def _red_view() -> PosedImages:
    return PosedImages(RED[:, None, None].expand(1, 3, 64, 64), cameras_around([0], [0], 4, 40))


def _marked_l() -> Mesh:
    """Return a textured L whose material has two images."""
    images = dict.fromkeys(("metallic_roughness", "normal_map"), torch.full((4, 4, 3), 0.5))
    return replace(textured_l(), material=Material(**images))


@pytest.mark.parametrize("channels", [3, 6])
def test_paint_takes_colours_and_metalness_from_voxels(channels):
    mesh = replace(textured_l(), material=Material(factors={"metallic_factor": 0.3}))
    painted, note = paint(
        mesh, ColorSources(voxels=cube_of_voxels(channels)), TextureLayout(512, keep_uvs=True)
    )
    assert not note
    colors = texture_to_vertex_colors(painted).vertex_colors
    torch.testing.assert_close(colors, (mesh.vertices + 1) / 2, atol=0.04, rtol=0)
    metalness = painted.material.metallic_roughness
    assert (metalness is None) == (channels == 3)
    if channels == 6:
        assert "metallic_factor" not in painted.material.factors
        as_texture = replace(painted, texture=metalness, material=None)
        found = texture_to_vertex_colors(as_texture).vertex_colors  # occlusion, roughness, metal
        expected = torch.stack(
            [torch.ones(len(found)), *((mesh.vertices[:, i] + 1) / 2 for i in (1, 0))], dim=1
        )
        torch.testing.assert_close(found, expected, atol=0.04, rtol=0)


def test_paint_covers_voxels_with_images():
    painted, _ = paint(
        textured_l(),
        ColorSources(voxels=cube_of_voxels(), views=_red_view()),
        TextureLayout(512, keep_uvs=True),
    )
    colors = texture_to_vertex_colors(painted).vertex_colors
    assert float((colors - RED).abs().amax(dim=1).amin()) < 0.05


def test_paint_keeps_uvs_triangles_and_the_other_images():
    mesh = _marked_l()
    painted, _ = paint(mesh, ColorSources(views=_red_view()), TextureLayout(512, 4, True))
    torch.testing.assert_close(painted.uvs, mesh.uvs)
    assert torch.equal(painted.faces, mesh.faces)
    assert painted.material.images.keys() == mesh.material.images.keys()
    assert painted.texture.shape == (512, 512, 3)


@pytest.mark.parametrize(
    ("mesh", "message"),
    [
        (ball(), "no uvs to keep"),
        (replace(textured_l(), uvs=textured_l().uvs * 3), "repeat its texture"),
    ],
    ids=["no-uvs", "tiled"],
)
def test_paint_refuses_uvs_that_cannot_be_kept(mesh, message):
    with pytest.raises(InvalidInput, match=message):
        paint(mesh, ColorSources(views=_red_view()), TextureLayout(512, keep_uvs=True))


def test_paint_leaves_views_out_if_the_direction_of_their_photograph_is_unknown(monkeypatch):
    poor = CameraFit(cameras_around([0], [0], 4, 40), 0.5, 0.0, 0.0, 0.0)
    monkeypatch.setattr(painting, "fit_camera", lambda *_, **__: poor)
    grey = replace(ball(), vertex_colors=None)
    colorless = AnalyticField(lambda points: 1 - points.norm(dim=1), lambda _: None)
    sources = ColorSources(torch.ones(1, 4, 64, 64), _red_view(), field=colorless)
    with pytest.raises(InvalidInput, match="no colours"):
        paint(grey, sources)
