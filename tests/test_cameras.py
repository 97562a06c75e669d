from __future__ import annotations

import pytest
import torch

from pipelines.cameras import (
    FOUR_VIEWS,
    Cameras,
    cameras_around,
    intrinsics_from_fov,
    look_at_origin,
    orbit_cameras,
    parse_cameras,
    zero123plus_cameras,
)
from pipelines.errors import InvalidInput


def test_look_at_origin_from_the_front_is_on_x_with_y_to_the_right():
    c2w = look_at_origin([0.0], [0.0], 4.0)[0]
    expected = torch.tensor([[0.0, 0, 1, 4], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    torch.testing.assert_close(c2w, expected)


def test_look_at_origin_returns_rotations_toward_the_origin():
    c2w = look_at_origin([10.0, 200.0, 345.0], [-60.0, 0.0, 80.0], [1.0, 2.0, 3.0])
    rotation = c2w[:, :3, :3]
    torch.testing.assert_close(
        rotation @ rotation.transpose(1, 2), torch.eye(3).expand(3, 3, 3), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(3))
    torch.testing.assert_close(
        torch.linalg.inv(c2w) @ c2w, torch.eye(4).expand(3, 4, 4), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(c2w[:, :3, 3], c2w[:, :3, 2] * torch.tensor([1.0, 2, 3])[:, None])


def test_rays_through_the_middle_pass_the_origin_and_rows_go_down():
    cameras = zero123plus_cameras()
    origins, directions = cameras.rays(3, 3)
    torch.testing.assert_close(
        directions[:, 4], -torch.nn.functional.normalize(origins[:, 4], dim=1), atol=1e-6, rtol=0
    )
    assert (directions[:, 1, 2] > directions[:, 7, 2]).all()


def test_rays_at_the_edge_span_half_the_field_of_view():
    _, directions = cameras_around([0.0], [0.0], 2.0, 90.0).rays(1000, 1000)
    corner = directions[0, 0] / -directions[0, 0, 0]
    torch.testing.assert_close(corner, torch.tensor([-1.0, -0.999, 0.999]), atol=1e-5, rtol=0)


def test_look_at_origin_from_above_tilts_the_camera_down():
    c2w = look_at_origin([90.0], [30.0], 2.0)[0]
    torch.testing.assert_close(c2w[:3, 3], torch.tensor([0.0, 3**0.5, 1.0]), atol=1e-6, rtol=0)
    # Columns of the matrix: right, up, backward.
    torch.testing.assert_close(c2w[:3, 0], torch.tensor([-1.0, 0.0, 0.0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(c2w[:3, 1], torch.tensor([0.0, -0.5, 3**0.5 / 2]), atol=1e-6, rtol=0)
    torch.testing.assert_close(c2w[:3, 2], torch.tensor([0.0, 3**0.5 / 2, 0.5]), atol=1e-6, rtol=0)
    assert c2w[3].tolist() == [0, 0, 0, 1]


def test_rays_start_from_the_principal_point_and_follow_both_focal_lengths():
    """fx, fy, cx and cy all differ, and so do width and height."""
    intrinsics = torch.tensor([[2.0, 0, 0.3], [0, 0.5, 0.8], [0, 0, 1]])
    cameras = Cameras(torch.eye(4)[None], intrinsics[None])
    origins, directions = cameras.rays(2, 5)
    assert origins.shape == directions.shape == (1, 10, 3)
    for row in range(2):
        for column in range(5):
            x, y = ((column + 0.5) / 5 - 0.3) / 2.0, ((row + 0.5) / 2 - 0.8) / 0.5
            expected = torch.nn.functional.normalize(torch.tensor([x, -y, -1.0]), dim=0)
            torch.testing.assert_close(directions[0, row * 5 + column], expected)


def test_rays_follow_the_pose_of_each_camera():
    cameras = cameras_around([90.0, 0.0], [0.0, 60.0], [2.0, 3.0], 40.0)
    origins, directions = cameras.rays(1, 1)
    torch.testing.assert_close(
        origins[:, 0], torch.tensor([[0.0, 2, 0], [1.5, 0, 3 * 0.75**0.5]]), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        directions[:, 0], torch.tensor([[0.0, -1, 0], [-0.5, 0, -(0.75**0.5)]]), atol=1e-6, rtol=0
    )


def test_tokens_are_the_rows_of_c2w_and_then_the_intrinsics():
    intrinsics = torch.tensor([[2.0, 0, 0.3], [0, 0.5, 0.8], [0, 0, 1]])
    c2w = torch.arange(16.0).view(4, 4)
    assert Cameras(c2w[None], intrinsics[None]).tokens()[0].tolist() == pytest.approx(
        [*range(12), 2.0, 0.5, 0.3, 0.8]
    )


@pytest.mark.parametrize(
    ("azimuths", "elevations", "expected"),
    [
        ("0, 90", "10", ([0, 90], [10, 10])),
        ("0 90;180", "10 20 -30", ([0, 90, 180], [10, 20, -30])),
        ("-45", "0", ([-45], [0])),
    ],
)
def test_parse_cameras_accepts_separators_and_refuses_other_text(azimuths, elevations, expected):
    found = parse_cameras(azimuths, elevations, 2.5, 35.0)
    torch.testing.assert_close(found.c2w, look_at_origin(*expected, 2.5))
    torch.testing.assert_close(found.intrinsics_normalized[0], intrinsics_from_fov(35.0))
    for bad in ("", "front", "1, two"):
        with pytest.raises(InvalidInput, match="numbers separated by commas"):
            parse_cameras(bad, "0", 2.5, 35.0)
        with pytest.raises(InvalidInput, match="elevations"):
            parse_cameras("0", bad, 2.5, 35.0)


def test_cameras_have_tokens_and_can_be_indexed():
    cameras = zero123plus_cameras()
    assert cameras.tokens().shape == (6, 16)
    torch.testing.assert_close(
        cameras.tokens()[:, 12:], torch.tensor([[1.8660254, 1.8660254, 0.5, 0.5]]).expand(6, 4)
    )
    torch.testing.assert_close(cameras[FOUR_VIEWS].c2w, cameras.c2w[[0, 2, 4, 5]])


def test_orbit_cameras_are_on_a_circle():
    orbit = orbit_cameras(8, elevation_deg=30.0, radius=2.0)
    torch.testing.assert_close(orbit.c2w[:, 2, 3], torch.ones(8))
    torch.testing.assert_close(
        orbit.c2w[2, :3, 3], torch.tensor([0.0, 3**0.5, 1.0]), atol=1e-6, rtol=0
    )


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
def test_camera_functions_refuse_invalid_arguments(call):
    with pytest.raises(InvalidInput):
        call()


@pytest.mark.parametrize("fov", [0.0, 180.0, -1.0])
def test_intrinsics_from_fov_refuses_angles_out_of_range(fov):
    with pytest.raises(InvalidInput):
        intrinsics_from_fov(fov)
