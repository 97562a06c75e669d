"""Rendered fields, compared with analytic results."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from pipelines.cameras import Cameras, cameras_around, orbit_cameras
from pipelines.errors import InvalidInput
from pipelines.fields.field import Field
from pipelines.meshes.mesh import Mesh
from pipelines.rendering.frames import Rendering, box_interval, depth_images
from pipelines.rendering.render_field import render_field, render_memory
from pipelines.rendering.render_mesh import render_mesh
from pipelines.surface.extraction import extract_surface

from ..sample_fields import AnalyticField, random_triplane

CENTER, RADIUS = torch.tensor([0.2, -0.3, 0.25]), 0.45


def _ball_field(points: torch.Tensor) -> torch.Tensor:
    return RADIUS - (points - CENTER).norm(dim=-1)


def _normal_as_color(points: torch.Tensor) -> torch.Tensor:
    return F.normalize(points - CENTER, dim=-1) / 2 + 0.5


def test_render_field_of_a_sphere_has_its_silhouette_depth_and_normals():
    size, cameras = 48, orbit_cameras(3, 25.0, 3.0, 40.0)
    found = render_field(AnalyticField(_ball_field, _normal_as_color), cameras, size)
    origins, directions = cameras.rays(2 * size, 2 * size)
    toward = CENTER - origins
    along = (toward * directions).sum(dim=-1)
    height = toward.norm(dim=-1) ** 2 - along**2
    hit = height < RADIUS**2
    depth = along - (RADIUS**2 - height).clamp_min(0).sqrt()
    expected_normals = _normal_as_color(origins + depth[..., None] * directions)
    fine = hit.view(3, 1, 2 * size, 2 * size).float()
    coverage = F.avg_pool2d(fine, 2)
    assert float((found.weight - coverage).abs().mean()) < 1e-3
    whole = coverage[:, 0] == 1
    # Compare depths near the centre, where they change slowly.
    inner = F.avg_pool2d(coverage, 3, stride=1, padding=1)[:, 0] > 0.999
    expected_depth = F.avg_pool2d(depth.view(3, 1, 2 * size, 2 * size), 2)[:, 0]
    torch.testing.assert_close(found.depth[:, 0][inner], expected_depth[inner], atol=2e-4, rtol=0)
    normals = F.avg_pool2d(expected_normals.view(3, 2 * size, 2 * size, 3).permute(0, 3, 1, 2), 2)
    torch.testing.assert_close(
        found.rgb.permute(0, 2, 3, 1)[inner], normals.permute(0, 2, 3, 1)[inner], atol=2e-3, rtol=0
    )
    assert int(whole.sum()) > 500
    empty = coverage == 0
    torch.testing.assert_close(
        found.rgb[empty.expand_as(found.rgb)], torch.ones(int(empty.sum()) * 3)
    )
    torch.testing.assert_close(found.depth[empty], torch.full((int(empty.sum()),), 3.0))


def _unlike_its_mirror_images(points: torch.Tensor) -> torch.Tensor:
    """Return the signed distance of three bars of different lengths along x, y and z."""
    found = []
    for low, high in (
        ((-0.6, -0.6, -0.6), (0.8, -0.3, -0.3)),
        ((-0.6, -0.6, -0.6), (-0.3, 0.2, -0.3)),
        ((-0.6, -0.6, -0.6), (-0.3, -0.3, 0.5)),
    ):
        a, b = torch.tensor(low), torch.tensor(high)
        q = (points - (a + b) / 2).abs() - (b - a) / 2
        found.append(-(q.clamp_min(0).norm(dim=-1) + q.amax(dim=-1).clamp_max(0)))
    return torch.stack(found).amax(dim=0)


def test_render_field_shows_the_extracted_mesh():
    triplane = AnalyticField(_unlike_its_mirror_images, lambda points: torch.zeros_like(points))
    vertices, faces = extract_surface(triplane)
    cameras = orbit_cameras(5, 25.0, 4.0)
    cast = render_field(triplane, cameras, 64)
    drawn = render_mesh(Mesh(vertices, faces, torch.zeros_like(vertices)), cameras, 64)
    silhouette = 1 - drawn[:, :1]
    assert float((cast.weight - silhouette).abs().mean()) < 0.01
    assert (
        float((cast.weight * silhouette).sum() / torch.maximum(cast.weight, silhouette).sum())
        > 0.95
    )
    assert float(cast.weight.mean()) > 0.05


@pytest.mark.parametrize("threshold", [0.0, 0.02])
def test_render_field_hits_a_thin_shell_where_rays_enter(threshold):
    """A ray stops at values above 0, not at 0 or next to it."""

    def shell(points: torch.Tensor) -> torch.Tensor:
        return 0.05 - (points.norm(dim=-1) - 0.5).abs() - threshold

    found = render_field(
        AnalyticField(shell, lambda points: points.abs()),
        cameras_around([0.0], [0.0], 3.0, 20.0),
        17,
    )
    assert float(found.depth[0, 0, 8, 8]) == pytest.approx(3 - 0.55 + threshold, abs=5e-4)


def test_render_field_from_inside_the_box_shows_what_is_in_front():
    found = render_field(
        AnalyticField(_ball_field, _normal_as_color), cameras_around([0.0], [0.0], 0.9, 90.0), 16
    )
    ray = torch.tensor([-1.0, 0, 0])
    along = float(((CENTER - torch.tensor([0.9, 0, 0])) * ray).sum())
    assert float(found.weight.mean()) > 0
    assert float(found.depth[found.weight > 0.99].amin()) > 0
    assert float(found.depth[found.weight > 0.99].amin()) < along


def test_render_field_of_an_empty_field_is_white():
    found = render_field(
        AnalyticField(lambda p: -torch.ones_like(p[..., 0]), _normal_as_color), orbit_cameras(2), 8
    )
    assert float(found.rgb.amin()) == 1.0
    assert float(found.weight.amax()) == 0.0


def test_box_interval_is_where_rays_enter_and_leave():
    origins = torch.tensor([[3.0, 0, 0], [3.0, 0.5, 0], [3.0, 5, 0], [0.0, 0, 0]])
    directions = torch.tensor([[-1.0, 1e-9, 1e-9]] * 4)
    start, end = box_interval(origins, directions, -1, 1)
    assert start[[0, 1, 3]].tolist() == pytest.approx([2, 2, -1])
    assert end[[0, 1, 3]].tolist() == pytest.approx([4, 4, 1])
    assert start[2] > end[2]
    start, end = box_interval(
        origins[:1], directions[:1], torch.tensor([0.0, -1, -1]), torch.tensor([0.5, 1, 1])
    )
    assert (float(start), float(end)) == pytest.approx((2.5, 3.0))


def test_depth_images_are_white_near_and_black_far():
    depth = torch.tensor([[[[2.0, 3.0, 4.0]]], [[[4.0, 2.5, 9.0]]]])
    weight = torch.tensor([[[[1.0, 1.0, 1.0]]], [[[1.0, 1.0, 0.2]]]])
    found = depth_images(Rendering(torch.ones(2, 3, 1, 3), depth, weight))
    assert found.shape == (2, 3, 1, 3)
    assert found[0, 0, 0].tolist() == pytest.approx([1.0, 0.55, 0.1])
    assert found[1, 0, 0].tolist() == pytest.approx([0.1, 0.775, 0.0])
    assert torch.equal(found[:, 0], found[:, 2])
    assert (
        float(
            depth_images(
                Rendering(torch.ones(1, 3, 1, 2), depth[:1, ..., :2], torch.zeros(1, 1, 1, 2))
            ).amax()
        )
        == 0.0
    )


def _field(surface: str) -> Field | AnalyticField:
    return (
        random_triplane("nerf")
        if surface == "nerf"
        else AnalyticField(_ball_field, _normal_as_color)
    )


@pytest.mark.parametrize("surface", ["mesh", "nerf"])
def test_render_field_renders_frames_one_by_one(surface):
    """A frame rendered alone equals that frame of an orbit.

    At most one frame's rays exist at a time.
    """
    triplane = _field(surface)
    cameras = orbit_cameras(3, 10.0)
    together = render_field(triplane, cameras, 10)
    seen = []

    class Counted(Cameras):
        def rays(self, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
            seen.append(len(self))
            return super().rays(height, width)

        def __getitem__(self, index: list[int]) -> Cameras:
            return Counted(self.c2w[list(index)], self.intrinsics_normalized[list(index)])

    counted = render_field(triplane, Counted(cameras.c2w, cameras.intrinsics_normalized), 10)
    assert set(seen) == {1}
    torch.testing.assert_close(counted.rgb, together.rgb)
    for i in range(3):
        alone = render_field(triplane, cameras[[i]], 10)
        seen_pixels = alone.weight > 0.5
        torch.testing.assert_close(alone.rgb, together.rgb[i : i + 1], atol=1e-4, rtol=0)
        torch.testing.assert_close(
            alone.depth[seen_pixels], together.depth[i : i + 1][seen_pixels], atol=1e-4, rtol=0
        )


def test_render_memory_grows_with_the_image_but_not_with_frames():
    assert (
        render_memory(512) - render_memory(256) == 3 * (render_memory(256) - render_memory(0)) // 1
    )
    assert (
        render_memory(64, 2000) - render_memory(64, 1000)
        == render_memory(8, 3000) - render_memory(8, 2000)
        > 0
    )


def test_render_field_progress_has_each_frame(monkeypatch):
    for surface in ("mesh", "nerf"):
        calls: list[tuple[int, int, torch.Tensor]] = []
        found = render_field(
            _field(surface), orbit_cameras(2), 8, progress=lambda *c, calls=calls: calls.append(c)
        )
        assert [call[:2] for call in calls] == [(1, 2), (2, 2)]
        for (*_, preview), frame in zip(calls, found.rgb, strict=True):
            torch.testing.assert_close(preview, frame[None].clamp(0, 1))
        assert found.depth.shape == found.weight.shape == (2, 1, 8, 8)


@pytest.mark.parametrize("surface", ["mesh", "nerf"])
def test_render_field_in_chunks_has_the_same_pixels(surface):
    triplane = random_triplane(surface)
    cameras = orbit_cameras(2)
    whole, chunked = (
        render_field(triplane, cameras, 12),
        render_field(triplane, cameras, 12, chunk_size=1000),
    )
    for name in ("rgb", "depth", "weight"):
        torch.testing.assert_close(getattr(whole, name), getattr(chunked, name), atol=2e-4, rtol=0)
    assert float(whole.weight.min()) >= 0
    assert float(whole.weight.max()) <= 1 + 1e-5
    away = render_field(triplane, cameras_around([0.0], [0.0], 30.0, 60.0), 9)
    torch.testing.assert_close(away.rgb[0, :, 0, 0], torch.ones(3))
    assert float(away.weight[0, 0, 0, 0]) == 0.0


def test_render_field_refuses_sizes_out_of_range():
    with pytest.raises(InvalidInput):
        render_field(random_triplane("nerf"), orbit_cameras(1), 0)


def test_render_field_shows_parts_at_the_first_plane_of_the_grid():
    """The ends of a bar lie on the outermost points of the grid."""

    def bar(points: torch.Tensor) -> torch.Tensor:
        return 0.2 - points[..., :2].abs().amax(dim=-1)

    found = render_field(AnalyticField(bar), cameras_around([0.0], [0.0], 4.0, 40.0), 64)
    rows = (found.weight[0, 0, :, 32] > 0.5).nonzero()[:, 0]
    focal = 64 * 0.5 / math.tan(math.radians(20))
    half = 1.05 / (4 - 0.2) * focal
    assert float(rows.min()) == pytest.approx(31.5 - half, abs=1)
    assert float(rows.max()) == pytest.approx(31.5 + half, abs=1)


def test_render_field_ignores_values_of_0_in_front_of_the_object():
    def level(points: torch.Tensor) -> torch.Tensor:
        return torch.where(points[..., 0] > 0.652, 0.0, _ball_field(points))

    plain, veiled = (
        render_field(AnalyticField(f), cameras_around([0.0], [0.0], 3.0, 40.0), 32)
        for f in (_ball_field, level)
    )
    torch.testing.assert_close(veiled.weight, plain.weight, atol=0.01, rtol=0)


def test_render_field_previews_are_in_range():
    previews = []
    field = AnalyticField(_ball_field, lambda points: points * 9)
    render_field(field, orbit_cameras(1), 16, progress=lambda *call: previews.append(call[2]))
    assert float(previews[0].amin()) == 0.0
    assert float(previews[0].amax()) == 1.0


def test_render_field_shows_thin_parts_from_far_away():
    """A sheet of two cells is found from any distance, since steps only cover the box."""
    sheet = AnalyticField(lambda points: 0.018 - points[..., 0].abs())
    found = render_field(sheet, cameras_around([0.0], [0.0], 60.0, 1.0), 16)
    assert float(found.weight.amin()) == 1.0
    assert float(found.depth.median()) == pytest.approx(60 - 0.018, abs=1e-2)
