from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import trimesh
from torch.nn import functional as F

from pipelines.cameras import Cameras, cameras_around, zero123plus_cameras
from pipelines.errors import InvalidInput
from pipelines.meshes.camera_fit import LEAST_OVERLAP, fit_camera
from pipelines.meshes.color_transfer import texture_colors
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.projection import PosedImages, SurfacePoints, projected_colors
from pipelines.meshes.rasterization import Silhouette, on_screen, visible_triangles
from pipelines.meshes.texture import texture_from_images

from ..shapes import l_shape

ALL_AROUND = cameras_around(
    [30, 90, 150, 210, 270, 330, 0, 0], [20, -10, 20, -10, 20, -10, 80, -80], 4.0, 30.0
)


def _ball(radius: float = 0.9, center=(0.0, 0.0, 0.0), subdivisions: int = 4) -> Mesh:
    ball = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    vertices = torch.tensor(ball.vertices, dtype=torch.float32) + torch.tensor(center)
    return Mesh(vertices, torch.tensor(ball.faces))


def _pattern(points: torch.Tensor) -> torch.Tensor:
    """Finer than vertices are: waves of 0.1."""
    return 0.5 + 0.3 * (points * 60).sin()


def _together(*meshes: Mesh) -> Mesh:
    faces, start = [], 0
    for mesh in meshes:
        faces.append(mesh.faces + start)
        start += len(mesh.vertices)
    return Mesh(torch.cat([m.vertices for m in meshes]), torch.cat(faces))


def _shots(
    mesh: Mesh, cameras: Cameras, color, size: int = 384, ground: float = 1.0
) -> PosedImages:
    """Images without light, four samples a pixel: exact colours."""
    images, masks = [], []
    for i in range(len(cameras)):
        screen = on_screen(mesh.vertices, cameras[[i]], 2 * size)[mesh.faces]
        triangle, weights = visible_triangles(screen, 2 * size)
        seen = triangle >= 0
        w = weights[seen] * screen[triangle[seen], :, 2]
        w = w / w.sum(dim=1, keepdim=True)
        points = (mesh.vertices[mesh.faces[triangle[seen]]] * w[..., None]).sum(dim=1)
        image = torch.full((len(seen), 3), ground)
        image[seen] = color(points)
        images.append(F.avg_pool2d(image.T.view(3, 2 * size, 2 * size), 2))
        masks.append(F.avg_pool2d(seen.float().view(1, 2 * size, 2 * size), 2))
    return PosedImages(torch.stack(images), cameras, torch.stack(masks))


def _points(mesh: Mesh, count: int = 4000) -> tuple[SurfacePoints, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    triangle = torch.randint(len(mesh.faces), (count,), generator=generator)
    weights = torch.rand(count, 3, generator=generator)
    points = SurfacePoints(triangle, weights / weights.sum(dim=1, keepdim=True))
    return points, points.interpolate(mesh, mesh.vertices)


def test_projected_colors_are_sharper_than_vertex_colours():
    ball = _ball()
    points, positions = _points(ball)
    found = projected_colors(ball, points, [_shots(ball, ALL_AROUND, _pattern)], None)
    error = (found - _pattern(positions)).abs()
    assert float(error.mean()) < 0.02
    at_vertices = points.interpolate(ball, _pattern(ball.vertices))
    assert float(error.mean()) < 0.5 * float((at_vertices - _pattern(positions)).abs().mean())


def test_projected_colors_ignore_the_background():
    ball = _ball()
    points, _ = _points(ball)
    for with_mask in (True, False):
        shots = _shots(ball, ALL_AROUND, lambda p: torch.full_like(p, 0.2), 256)
        shots = shots if with_mask else PosedImages(shots.images, shots.cameras)
        found = projected_colors(ball, points, [shots], None)
        assert float((found - 0.2).abs().max()) < 0.02


def test_projected_colors_leave_out_hidden_points():
    front, back = _ball(0.3, (0.6, 0.0, 0.0)), _ball(0.4, (-0.5, 0.0, 0.0))
    both = _together(front, back)
    red, blue = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    shots = _shots(
        both,
        cameras_around([0.0], [0.0], 4.0, 30.0),
        lambda p: torch.where(p[:, :1] > 0.1, red, blue),
    )
    points, positions = _points(both)
    found = projected_colors(
        both, points, [shots], lambda p: torch.where(p[:, :1] > 0.1, red, blue)
    )
    hidden = positions[:, 0] < 0.1
    assert float(found[hidden, 0].max()) < 0.05, "red went through"
    assert float(found[~hidden, 2].max()) < 0.05


def test_projected_colors_shift_the_layer_below_to_meet_the_image():
    ball = _ball()
    one = _shots(ball, cameras_around([0.0], [0.0], 4.0, 30.0), lambda p: torch.full_like(p, 0.7))
    points, positions = _points(ball)
    found = projected_colors(ball, points, [one], lambda p: torch.full_like(p, 0.4))
    assert float((found - 0.7).abs().max()) < 0.02
    # What has another colour below keeps the difference.
    found = projected_colors(
        ball, points, [one], lambda p: torch.where(p[:, :1] < -0.5, 0.2, 0.4).expand_as(p)
    )
    behind = positions[:, 0] < -0.6
    assert float((found[behind] - 0.5).abs().max()) < 0.03


def test_projected_colors_without_a_layer_below_fill_from_neighbours():
    ball = _ball()
    half = lambda p: torch.where(p[:, 2:] > 0, 0.9, 0.1).expand_as(p)  # noqa: E731
    points, positions = _points(ball)
    found = projected_colors(
        ball, points, [_shots(ball, cameras_around([0.0], [0.0], 4.0, 30.0), half)], None
    )
    behind = positions[:, 0] < -0.3
    up, down = behind & (positions[:, 2] > 0.5), behind & (positions[:, 2] < -0.5)
    assert float(found[up].mean()) > float(found[down].mean()) + 0.15


def test_projected_colors_of_a_later_layer_cover_the_earlier():
    ball = _ball()
    views = _shots(ball, zero123plus_cameras(), lambda p: torch.full_like(p, 0.5), 256)
    photograph = _shots(ball, cameras_around([0.0], [10.0], 4.0, 30.0), _pattern)
    points, positions = _points(ball)
    found = projected_colors(ball, points, [views, photograph], None)
    front = positions[:, 0] > 0.6
    assert float((found - _pattern(positions)).abs()[front].mean()) < 0.02


def test_texture_from_images_shows_the_images():
    pytest.importorskip("xatlas", reason="there is no wheel of xatlas for this Python or processor")
    ball = _ball()
    textured = texture_from_images(ball, [_shots(ball, ALL_AROUND, _pattern)], 1024)
    points, positions = _points(textured)
    uvs = points.interpolate(textured, textured.uvs)
    assert float((texture_colors(textured.texture, uvs) - _pattern(positions)).abs().mean()) < 0.03


def test_projected_colors_refuse_cameras_that_see_nothing():
    ball = _ball()
    points, _ = _points(ball, 10)
    past = cameras_around([0.0], [0.0], 4.0, 30.0)
    past.c2w[:, 1, 3] += 30
    with pytest.raises(InvalidInput, match="see nothing of the mesh"):
        projected_colors(ball, points, [PosedImages(torch.ones(1, 3, 64, 64), past)], None)
    away = cameras_around([0.0], [0.0], 4.0, 30.0)
    away.c2w[:, :3, 2] *= -1
    away.c2w[:, :3, 0] *= -1
    with pytest.raises(InvalidInput, match="see nothing of the mesh"):
        projected_colors(ball, points, [PosedImages(torch.ones(1, 3, 64, 64), away)], None)


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


@pytest.mark.parametrize("kept", [slice(None), slice(0, None, 3)], ids=["closed", "torn"])
def test_silhouette_covers_the_pixels_of_the_visible_triangles(kept):
    mesh, _ = _figure()
    faces, camera = mesh.faces[kept], cameras_around([70.0], [20.0], 3.2, 45.0)
    screen = on_screen(mesh.vertices, camera, 128)
    hit = (visible_triangles(screen[faces], 128)[0] >= 0).view(128, 128)
    assert torch.equal(Silhouette(faces).covered(screen, 128), hit)
    assert 1000 < int(hit.sum()) < 10_000


def _figure() -> tuple[Mesh, Callable[[torch.Tensor], torch.Tensor]]:
    """Three balls, the third one red: no view of it is like another."""
    figure = _together(
        _ball(0.5, (0.0, 0.0, -0.4), 3),
        _ball(0.35, (0.0, 0.0, 0.4), 3),
        _ball(0.2, (0.45, 0.5, 0.1), 3),
    )

    def color(points: torch.Tensor) -> torch.Tensor:
        return torch.where(
            points[:, 1:2] > 0.35, torch.tensor([1.0, 0, 0]), torch.tensor([0.2, 0.4, 0.6])
        )

    return replace(figure, vertex_colors=color(figure.vertices)), color


@pytest.mark.parametrize("elevation", [-10.0, 12.0, 40.0])
@pytest.mark.parametrize("colored", [True, False])
def test_fit_camera_finds_the_photographs_camera(elevation, colored):
    mesh, color = _figure()
    camera = cameras_around([0.0], [elevation], 3.2, 45.0)
    shots = _shots(mesh, camera, color, 128)
    fit = fit_camera(
        mesh if colored else Mesh(mesh.vertices, mesh.faces), shots.images, shots.masks
    )
    assert fit.trusted
    assert fit.overlap > 0.95
    assert fit.elevation_deg == pytest.approx(elevation, abs=3.0)
    assert abs(fit.roll_deg) < 2.0
    found, true = (on_screen(mesh.vertices, each, 128)[:, :2] for each in (fit.camera, camera))
    assert float((found - true).norm(dim=1).mean()) < 1.0


def test_fit_camera_finds_a_rolled_camera():
    mesh, color = _figure()
    camera = cameras_around([0.0], [15.0], 4.0, 35.0)
    turn = torch.deg2rad(torch.tensor(8.0))
    c, s = float(turn.cos()), float(turn.sin())
    camera.c2w[:, :3, :2] = camera.c2w[:, :3, :2] @ torch.tensor([[c, s], [-s, c]])
    shots = _shots(mesh, camera, color, 128)
    fit = fit_camera(mesh, shots.images, shots.masks)
    assert fit.roll_deg == pytest.approx(8.0, abs=1.5)


def test_fit_camera_does_not_trust_another_object():
    ball = _ball()
    camera = cameras_around([0.0], [15.0], 4.0, 35.0)
    shots = _shots(ball, camera, lambda p: torch.full_like(p, 0.5), 128)
    fit = fit_camera(l_shape(), shots.images, shots.masks)
    assert fit.overlap < LEAST_OVERLAP
    assert not fit.trusted


def test_fit_camera_refuses_photographs_that_do_not_fit():
    mesh = l_shape()
    with pytest.raises(InvalidInput, match="square"):
        fit_camera(mesh, torch.ones(1, 3, 8, 9), torch.ones(1, 1, 8, 9))
    with pytest.raises(InvalidInput, match="like its photograph"):
        fit_camera(mesh, torch.ones(1, 3, 8, 8), torch.ones(1, 1, 4, 4))
    with pytest.raises(InvalidInput, match="no object"):
        fit_camera(mesh, torch.ones(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))
    with pytest.raises(InvalidInput, match="no triangles"):
        fit_camera(
            Mesh(torch.zeros(1, 3), torch.zeros(0, 3).long()),
            torch.ones(1, 3, 8, 8),
            torch.ones(1, 1, 8, 8),
        )
