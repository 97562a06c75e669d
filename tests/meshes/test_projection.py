from __future__ import annotations

import pytest
import torch

from pipelines.cameras import cameras_around, zero123plus_cameras
from pipelines.errors import InvalidInput
from pipelines.meshes.color_transfer import texture_colors
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.projection import PosedImages, SurfacePoints, projected_colors
from pipelines.meshes.texture import texture_from_images

from .posed import ball, flat_images, joined

ALL_AROUND = cameras_around(
    [30, 90, 150, 210, 270, 330, 0, 0], [20, -10, 20, -10, 20, -10, 80, -80], 4.0, 30.0
)


def _pattern(points: torch.Tensor) -> torch.Tensor:
    """Return colours (N, 3) with waves of length 0.1, finer than the mesh's edges."""
    return 0.5 + 0.3 * (points * 60).sin()


def _points(mesh: Mesh, count: int = 4000) -> tuple[SurfacePoints, torch.Tensor]:
    """Return random points on a mesh, and their positions (N, 3)."""
    generator = torch.Generator().manual_seed(0)
    triangle = torch.randint(len(mesh.faces), (count,), generator=generator)
    weights = torch.rand(count, 3, generator=generator)
    points = SurfacePoints(triangle, weights / weights.sum(dim=1, keepdim=True))
    return points, points.interpolate(mesh, mesh.vertices)


def test_projected_colors_are_sharper_than_vertex_colours():
    mesh = ball()
    points, positions = _points(mesh)
    found = projected_colors(mesh, points, [flat_images(mesh, ALL_AROUND, _pattern)], None)
    error = (found - _pattern(positions)).abs()
    assert float(error.mean()) < 0.02
    at_vertices = points.interpolate(mesh, _pattern(mesh.vertices))
    assert float(error.mean()) < 0.5 * float((at_vertices - _pattern(positions)).abs().mean())


def test_projected_colors_ignore_the_background():
    mesh = ball()
    points, _ = _points(mesh)
    for with_mask in (True, False):
        shots = flat_images(mesh, ALL_AROUND, lambda p: torch.full_like(p, 0.2), 256)
        shots = shots if with_mask else PosedImages(shots.images, shots.cameras)
        found = projected_colors(mesh, points, [shots], None)
        assert float((found - 0.2).abs().max()) < 0.02


def test_projected_colors_leave_out_hidden_points():
    front, back = ball(0.3, (0.6, 0.0, 0.0)), ball(0.4, (-0.5, 0.0, 0.0))
    both = joined(front, back)
    red, blue = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    shots = flat_images(
        both,
        cameras_around([0.0], [0.0], 4.0, 30.0),
        lambda p: torch.where(p[:, :1] > 0.1, red, blue),
    )
    points, positions = _points(both)
    found = projected_colors(
        both, points, [shots], lambda p: torch.where(p[:, :1] > 0.1, red, blue)
    )
    hidden = positions[:, 0] < 0.1
    assert float(found[hidden, 0].max()) < 0.05, "hidden points are red"
    assert float(found[~hidden, 2].max()) < 0.05


def test_projected_colors_shift_the_layer_below_to_meet_the_image():
    mesh = ball()
    one = flat_images(
        mesh, cameras_around([0.0], [0.0], 4.0, 30.0), lambda p: torch.full_like(p, 0.7)
    )
    points, positions = _points(mesh)
    found = projected_colors(mesh, points, [one], lambda p: torch.full_like(p, 0.4))
    assert float((found - 0.7).abs().max()) < 0.02
    # Differences within the layer below are kept.
    found = projected_colors(
        mesh, points, [one], lambda p: torch.where(p[:, :1] < -0.5, 0.2, 0.4).expand_as(p)
    )
    behind = positions[:, 0] < -0.6
    assert float((found[behind] - 0.5).abs().max()) < 0.03


def test_projected_colors_without_a_layer_below_fill_from_neighbours():
    mesh = ball()
    half = lambda p: torch.where(p[:, 2:] > 0, 0.9, 0.1).expand_as(p)  # noqa: E731
    points, positions = _points(mesh)
    found = projected_colors(
        mesh, points, [flat_images(mesh, cameras_around([0.0], [0.0], 4.0, 30.0), half)], None
    )
    behind = positions[:, 0] < -0.3
    up, down = behind & (positions[:, 2] > 0.5), behind & (positions[:, 2] < -0.5)
    assert float(found[up].mean()) > float(found[down].mean()) + 0.15


def test_projected_colors_of_a_later_layer_cover_the_earlier():
    mesh = ball()
    views = flat_images(mesh, zero123plus_cameras(), lambda p: torch.full_like(p, 0.5), 256)
    photograph = flat_images(mesh, cameras_around([0.0], [10.0], 4.0, 30.0), _pattern)
    points, positions = _points(mesh)
    found = projected_colors(mesh, points, [views, photograph], None)
    front = positions[:, 0] > 0.6
    assert float((found - _pattern(positions)).abs()[front].mean()) < 0.02


def test_texture_from_images_shows_the_images():
    pytest.importorskip("xatlas", reason="there is no wheel of xatlas for this Python or processor")
    mesh = ball()
    textured = texture_from_images(mesh, [flat_images(mesh, ALL_AROUND, _pattern)])
    points, positions = _points(textured)
    uvs = points.interpolate(textured, textured.uvs)
    assert float((texture_colors(textured.texture, uvs) - _pattern(positions)).abs().mean()) < 0.03


def test_projected_colors_refuse_cameras_that_see_nothing():
    mesh = ball()
    points, _ = _points(mesh, 10)
    past = cameras_around([0.0], [0.0], 4.0, 30.0)
    past.c2w[:, 1, 3] += 30
    with pytest.raises(InvalidInput, match="No image shows the mesh"):
        projected_colors(mesh, points, [PosedImages(torch.ones(1, 3, 64, 64), past)], None)
    away = cameras_around([0.0], [0.0], 4.0, 30.0)
    away.c2w[:, :3, 2] *= -1
    away.c2w[:, :3, 0] *= -1
    with pytest.raises(InvalidInput, match="No image shows the mesh"):
        projected_colors(mesh, points, [PosedImages(torch.ones(1, 3, 64, 64), away)], None)


@pytest.mark.parametrize(
    ("images", "masks", "says"),
    [
        (torch.ones(1, 3, 8, 9), None, "square"),
        (torch.ones(2, 3, 8, 8), None, "one camera for each image"),
        (torch.ones(1, 3, 8, 8), torch.ones(1, 1, 4, 4), "like their images"),
        (torch.ones(1, 3, 8, 8), torch.zeros(1, 1, 8, 8), "no object"),
    ],
)
def test_posed_images_refuse_shapes_that_do_not_match(images, masks, says):
    with pytest.raises(InvalidInput, match=says):
        PosedImages(images, cameras_around([0.0], [0.0], 4.0, 30.0), masks)
