from __future__ import annotations

import pytest
import torch
import trimesh

from pipelines.cameras import cameras_around, orbit_cameras
from pipelines.errors import InvalidInput
from pipelines.mesh import Mesh
from pipelines.rendering.mesh import preview_sheet, render_mesh
from pipelines.rendering.triplane import render

from .test_isosurface import _triplane


def _ball(radius: float, center: tuple[float, float, float], color: tuple[float, float, float]) -> Mesh:
    ball = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    vertices = torch.tensor(ball.vertices, dtype=torch.float32) + torch.tensor(center)
    return Mesh(vertices, torch.tensor(ball.faces), torch.tensor(color).expand(len(vertices), 3))


def test_a_balls_silhouette_has_the_right_area_and_place():
    picture = render_mesh(_ball(0.5, (0.0, 0.0, 0.0), (1, 0, 0)), cameras_around([0.0], [0.0], 4.0, 30.0), 200)[0]
    covered = (picture[1] < 0.9).float()
    focal = 200 * 0.5 / torch.tan(torch.deg2rad(torch.tensor(15.0)))
    radius = focal * 0.5 / (4.0**2 - 0.5**2) ** 0.5
    assert float(covered.sum()) == pytest.approx(float(torch.pi * radius**2), rel=0.02)
    assert float((covered.sum(dim=0) * torch.arange(200)).sum() / covered.sum()) == pytest.approx(99.5, abs=0.5)


def test_what_is_at_plus_y_is_seen_at_the_right_from_the_front_and_hidden_things_are_hidden():
    camera = cameras_around([0.0], [0.0], 4.0, 30.0)
    right = render_mesh(_ball(0.2, (0.0, 0.5, 0.0), (0, 1, 0)), camera, 100)[0]
    assert float((right[0] < 0.9).float().sum(dim=0)[:50].sum()) == 0
    front, back = _ball(0.3, (0.5, 0.0, 0.0), (1, 0, 0)), _ball(0.3, (-0.5, 0.0, 0.0), (0, 0, 1))
    both = Mesh(
        torch.cat([back.vertices, front.vertices]),
        torch.cat([back.faces, front.faces + len(back.vertices)]),
        torch.cat([back.vertex_colors, front.vertex_colors]),
    )
    middle = render_mesh(both, camera, 100)[0, :, 50, 50]
    assert middle[0] > 0.9
    assert middle[2] < 0.1


def test_preview_shows_three_sides():
    assert preview_sheet(_ball(0.5, (0.0, 0.0, 0.0), (1, 0, 0)), 64).shape == (3, 64, 192)


@pytest.mark.parametrize("surface", ["mesh", "nerf"])
def test_chunks_change_no_pixel_and_empty_rays_are_white(surface):
    triplane = _triplane(surface)
    cameras = orbit_cameras(2)
    whole, chunked = render(triplane, cameras, 12), render(triplane, cameras, 12, chunk_size=50)
    for name in ("rgb", "depth", "weight"):
        torch.testing.assert_close(getattr(whole, name), getattr(chunked, name), atol=2e-4, rtol=0)
    assert float(whole.weight.min()) >= 0
    assert float(whole.weight.max()) <= 1 + 1e-5
    away = render(triplane, cameras_around([0.0], [0.0], 30.0, 60.0), 9)
    torch.testing.assert_close(away.rgb[0, :, 0, 0], torch.ones(3))
    assert float(away.weight[0, 0, 0, 0]) == 0.0


def test_sizes_out_of_range():
    with pytest.raises(InvalidInput):
        render(_triplane("nerf"), orbit_cameras(1), 0)
