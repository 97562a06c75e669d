"""Colours of meshes whose fields have no colours and whose pose differs from the photograph's."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch

from pipelines.cameras import (
    ZERO123PLUS_AZIMUTHS_DEG,
    ZERO123PLUS_ELEVATIONS_DEG,
    Cameras,
    cameras_around,
    zero123plus_cameras,
)
from pipelines.images.framed_image import FramedImage
from pipelines.meshes import painting, projection
from pipelines.meshes.projection import PosedImages
from pipelines.rendering.render_mesh import render_mesh
from pipelines.result import Result

from .sample_fields import AnalyticField
from .shapes import stairs

SHAPE, POSE = stairs(), (40.0, 15.0)


def _images(cameras: Cameras, size: int = 192) -> tuple[torch.Tensor, torch.Tensor]:
    """Return unlit images of the shape, and its masks."""
    black = replace(SHAPE, vertex_colors=torch.zeros_like(SHAPE.vertices))
    image, shadow = (render_mesh(one, cameras, size, shaded=False) for one in (SHAPE, black))
    return image, 1 - shadow[:, :1]


@functools.cache
def _result(azimuth: float, elevation: float) -> Result:
    """Return a grey mesh and its photograph, whose camera was estimated."""
    image, mask = _images(cameras_around([azimuth], [elevation], 4.0, 30.0))
    photo = FramedImage(image, mask, image, mask, {})
    grey = replace(SHAPE, vertex_colors=torch.full_like(SHAPE.vertices, 0.5))
    field = AnalyticField(lambda points: 1 - points.norm(dim=1), lambda _: None)
    return Result(grey, field, photo, None, 0, {}).with_cameras(None)


@pytest.mark.parametrize(("azimuth", "elevation"), [POSE, (150.0, 0.0)])
def test_with_cameras_finds_the_camera_of_a_turned_object(azimuth, elevation):
    fit = _result(azimuth, elevation).fit
    assert fit.trusted
    assert fit.azimuth_deg == pytest.approx(azimuth, abs=4)
    assert fit.elevation_deg == pytest.approx(elevation, abs=4)


def test_painted_puts_the_photographs_colours_where_they_belong():
    painted = _result(*POSE).painted("pictures").mesh
    error = (painted.vertex_colors - SHAPE.vertex_colors).abs().mean(dim=1)
    assert float(error.mean()) < 0.12
    seen = SHAPE.vertices[:, 0] > 0.05  # the front
    assert float(error[seen].mean()) < 0.08
    red = painted.vertex_colors[:, 0] > 0.5
    assert float(SHAPE.vertices[red, 1].mean()) < -0.3, "and not mirrored"


def test_painted_with_views_puts_them_around_the_photographs_direction():
    found = _result(*POSE)
    around = [POSE[0] + a for a in ZERO123PLUS_AZIMUTHS_DEG]
    views, _ = _images(cameras_around(around, ZERO123PLUS_ELEVATIONS_DEG, 4.0, 30.0), 128)
    posed = found.with_cameras(PosedImages(views, zero123plus_cameras()))
    assert posed.views is not None
    assert len(posed.views.cameras) == 6
    painted = posed.painted("views").mesh
    error = (painted.vertex_colors - SHAPE.vertex_colors).abs().mean(dim=1)
    assert float(error.mean()) < 0.05, "the views show all sides"


def test_painted_stays_grey_where_the_photograph_shows_something_else(caplog, monkeypatch):
    found = _result(*POSE)
    poor = replace(found.fit, overlap=0.5)
    monkeypatch.setattr(painting, "fit_camera", lambda *_, **__: poor)
    views = PosedImages(torch.ones(6, 3, 8, 8), zero123plus_cameras())
    other = found.with_cameras(views)
    assert "stays plain grey" in caplog.text
    assert bool((other.painted("pictures").mesh.vertex_colors == 0.5).all())
    assert other.views is None


def test_color_vertices_of_a_large_mesh_agree_with_those_of_a_small_one(monkeypatch):
    pytest.importorskip("igl")
    layers = _result(*POSE).layers()
    grey = _result(*POSE).mesh
    whole = projection.color_vertices(grey, layers).vertex_colors
    monkeypatch.setattr(projection, "_MAX_SOLVED_FACES", 1000)
    assert len(grey.faces) > 1000
    parts = projection.color_vertices(grey, layers).vertex_colors
    assert float((whole - parts).abs().mean()) < 0.05
