from __future__ import annotations

import pytest
import torch

from pipelines.cameras import FOUR_VIEWS, cameras_around, intrinsics_from_fov, look_at_origin, orbit_cameras, zero123plus_cameras
from pipelines.errors import InvalidInput


def test_front_camera_stands_on_x_and_sees_y_to_the_right():
    c2w = look_at_origin([0.0], [0.0], 4.0)[0]
    expected = torch.tensor([[0.0, 0, 1, 4], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    torch.testing.assert_close(c2w, expected)


def test_matrices_are_rotations_that_look_at_the_origin():
    c2w = look_at_origin([10.0, 200.0, 345.0], [-60.0, 0.0, 80.0], [1.0, 2.0, 3.0])
    rotation = c2w[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), torch.eye(3).expand(3, 3, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(3))
    torch.testing.assert_close(torch.linalg.inv(c2w) @ c2w, torch.eye(4).expand(3, 4, 4), atol=1e-6, rtol=0)
    torch.testing.assert_close(c2w[:, :3, 3], c2w[:, :3, 2] * torch.tensor([1.0, 2, 3])[:, None])


def test_middle_ray_passes_through_the_origin_and_rows_go_down():
    cameras = zero123plus_cameras()
    origins, directions = cameras.rays(3, 3)
    torch.testing.assert_close(directions[:, 4], -torch.nn.functional.normalize(origins[:, 4], dim=1), atol=1e-6, rtol=0)
    assert (directions[:, 1, 2] > directions[:, 7, 2]).all()


def test_a_pixel_at_the_edge_sees_half_the_field_of_view():
    _, directions = cameras_around([0.0], [0.0], 2.0, 90.0).rays(1000, 1000)
    corner = directions[0, 0] / -directions[0, 0, 0]
    torch.testing.assert_close(corner, torch.tensor([-1.0, -0.999, 0.999]), atol=1e-5, rtol=0)


def test_tokens_and_subsets():
    cameras = zero123plus_cameras()
    assert cameras.tokens().shape == (6, 16)
    torch.testing.assert_close(cameras.tokens()[:, 12:], torch.tensor([[1.8660254, 1.8660254, 0.5, 0.5]]).expand(6, 4))
    torch.testing.assert_close(cameras[FOUR_VIEWS].c2w, cameras.c2w[[0, 2, 4, 5]])


def test_orbit_is_a_circle():
    orbit = orbit_cameras(8, elevation_deg=30.0, radius=2.0)
    torch.testing.assert_close(orbit.c2w[:, 2, 3], torch.ones(8))
    torch.testing.assert_close(orbit.c2w[2, :3, 3], torch.tensor([0.0, 3**0.5, 1.0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: look_at_origin([0.0, 1.0], [0.0], 1.0),
        lambda: look_at_origin([0.0], [90.0], 1.0),
        lambda: look_at_origin([0.0], [0.0], 0.0),
        lambda: look_at_origin([float("nan")], [0.0], 1.0),
        lambda: intrinsics_from_fov(180.0),
        lambda: orbit_cameras(0),
    ],
)
def test_impossible_cameras_are_refused(call):
    with pytest.raises(InvalidInput):
        call()
