from __future__ import annotations

import pytest
import torch

from pipelines.cameras import FOUR_VIEWS, cameras_around, zero123plus_cameras
from pipelines.errors import InvalidInput
from pipelines.fields.plane_networks import PlaneNetwork, plane_mlp, points_at_once
from pipelines.reconstruction.instant_mesh import split_objects
from pipelines.reconstruction.reconstruct import reconstruct

from ..sample_fields import random_triplane


def test_reconstruct_four_views_uses_cameras_0_2_4_and_5(tiny):
    views = torch.rand(6, 3, 128, 128)
    four = views[list(FOUR_VIEWS)]
    expected = reconstruct(tiny.reconstruction, four, zero123plus_cameras()[FOUR_VIEWS])
    torch.testing.assert_close(reconstruct(tiny.reconstruction, four).planes, expected.planes)


def test_reconstruct_takes_any_number_of_views_with_cameras(tiny):
    triplane = reconstruct(
        tiny.reconstruction,
        torch.rand(3, 3, 200, 200),
        cameras_around([0.0, 120.0, 240.0], [10.0] * 3, 3.0, 40.0),
    )
    assert triplane.planes.shape == (3, 8, 32, 32)
    assert triplane.planes.dtype == torch.float32


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (torch.rand(5, 3, 32, 32), "must be 6 views, or 4"),
        (torch.rand(6, 3, 32, 40), r"\(N, 3, S, S\)"),
        (torch.rand(6, 4, 32, 32), "images must be"),
        (torch.full((6, 3, 32, 32), float("nan")), "not finite"),
    ],
)
def test_reconstruct_refuses_invalid_views(tiny, views, message):
    with pytest.raises(InvalidInput, match=message):
        reconstruct(tiny.reconstruction, views)


def test_reconstruct_refuses_another_number_of_cameras(tiny):
    with pytest.raises(InvalidInput, match="6 cameras and 4 views"):
        reconstruct(tiny.reconstruction, torch.rand(4, 3, 32, 32), zero123plus_cameras())


def test_plane_network_equals_the_plain_mlp():
    """Compare with the plain formula: sample the planes, concatenate, and run the whole MLP."""
    torch.manual_seed(0)
    planes = torch.randn(3, 5, 12, 12)
    mlp = plane_mlp(15, 2)
    points = torch.rand(300, 3) * 2.4 - 1.2
    coordinates = torch.stack([points[:, [0, 1]], points[:, [0, 2]], points[:, [2, 1]]])
    sampled = torch.nn.functional.grid_sample(planes, coordinates[:, None], align_corners=False)[
        :, :, 0
    ]  # (3, 5, N)
    with torch.no_grad():
        expected = mlp(sampled.permute(2, 0, 1).flatten(1))
        field = PlaneNetwork(planes, mlp)
        torch.testing.assert_close(field.at(points, 77), expected, atol=1e-5, rtol=0)
        axes = [torch.linspace(-1, 1, n) for n in (5, 6, 7)]
        lattice = torch.cartesian_prod(*axes)
        for chunk in (3, 40, 1000):
            volume = field.on_grid(*axes).volume(chunk)
            expected = field.at(lattice, 1000)[:, 0]
            torch.testing.assert_close(volume.flatten(), expected, atol=1e-5, rtol=0)


def test_half_precision_is_near_single(tiny):
    views = torch.rand(6, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    single = reconstruct(tiny.reconstruction, views).planes
    import copy

    half = reconstruct(copy.deepcopy(tiny.reconstruction).bfloat16(), views)
    assert next(half.decoder.parameters()).dtype == torch.float32
    assert float((half.planes - single).norm() / single.norm()) < 2e-2


def test_triplane_to_another_device_is_an_equal_copy(tiny):
    triplane = reconstruct(
        tiny.reconstruction, torch.rand(6, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    )
    moved = triplane.to("cpu")
    points = torch.rand(50, 3) * 2 - 1
    torch.testing.assert_close(moved.colors(points, 7), triplane.colors(points, 100))
    assert moved.decoder is not triplane.decoder


@pytest.mark.parametrize("surface", ["mesh", "nerf"])
def test_triplane_colours_and_densities_come_from_their_own_outputs(surface):
    """Compare with the plain decoder, point by point."""
    triplane = random_triplane(surface)
    points = torch.rand(40, 3) * 2 - 1
    coordinates = torch.stack([points[:, [0, 1]], points[:, [0, 2]], points[:, [2, 1]]])
    features = (
        torch.nn.functional.grid_sample(triplane.planes, coordinates[:, None], align_corners=False)[
            :, :, 0
        ]
        .permute(2, 0, 1)
        .flatten(1)
    )
    decoder = triplane.decoder
    raw = decoder.net_rgb(features) if surface == "mesh" else decoder.net(features)[:, 1:]
    expected = raw.sigmoid() * 1.002 - 0.001
    torch.testing.assert_close(triplane.colors(points, 7), expected, atol=1e-5, rtol=0)
    level = decoder.net_sdf(features) if surface == "mesh" else decoder.net(features)[:, :1]
    torch.testing.assert_close(triplane.values(points, 7)[:, None], level, atol=1e-5, rtol=0)
    if surface == "nerf":
        density, colors = triplane.values_and_colors(points, 7)
        torch.testing.assert_close(density[:, None], level, atol=1e-5, rtol=0)
        torch.testing.assert_close(colors, expected, atol=1e-5, rtol=0)
        return
    axis = torch.linspace(-1.05, 1.05, 9)
    index = torch.randint(0, 9, (30, 3), generator=torch.Generator().manual_seed(0))
    places = axis[index]
    at = torch.stack([places[:, [0, 1]], places[:, [0, 2]], places[:, [2, 1]]])
    features = (
        torch.nn.functional.grid_sample(triplane.planes, at[:, None], align_corners=False)[:, :, 0]
        .permute(2, 0, 1)
        .flatten(1)
    )
    torch.testing.assert_close(
        triplane.deformation(axis, 7)(index),
        decoder.net_deformation(features).tanh() / 32,
        atol=1e-6,
        rtol=0,
    )


def test_cube_network_equals_the_mlp_of_eight_corners():
    triplane = random_triplane("mesh")
    axis = torch.linspace(-1, 1, 7)
    cubes = torch.randint(0, 6, (25, 3), generator=torch.Generator().manual_seed(0))
    offsets = torch.tensor([[k & 1, k >> 1 & 1, k >> 2 & 1] for k in range(8)])
    places = axis[cubes[:, None] + offsets]  # (N, 8, 3)
    at = torch.stack(
        [places[..., [0, 1]], places[..., [0, 2]], places[..., [2, 1]]]
    )  # (3, N, 8, 2)
    sampled = torch.nn.functional.grid_sample(
        triplane.planes, at, align_corners=False
    )  # (3, C, N, 8)
    features = sampled.permute(2, 3, 0, 1).flatten(1)
    torch.testing.assert_close(
        triplane.cube_weights(axis, 7)(cubes),
        triplane.decoder.net_weight(features) * 0.1,
        atol=1e-5,
        rtol=0,
    )


@pytest.mark.parametrize(
    ("chunk", "device", "expected"),
    [(100, "cpu", 100), (10**6, "cpu", 8192), (10**6, "meta", 10**6)],
)
def test_points_at_once_stay_in_a_cores_cache(chunk, device, expected):
    assert points_at_once(chunk, torch.device(device)) == expected


def test_split_objects_refuses_other_numbers_of_views():
    views = torch.arange(12).float().view(12, 1, 1, 1).expand(12, 3, 2, 2)
    assert [part[:, 0, 0, 0].tolist() for part in split_objects(views, 4)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
    ]
    for bad in (views[:0], views[:7]):
        with pytest.raises(InvalidInput, match="4 views"):
            split_objects(bad, 4)


def test_network_grid_progress_follows_x():
    calls: list[tuple[int, int]] = []
    planes, mlp = torch.randn(3, 5, 12, 12), plane_mlp(15, 1)
    axes = [torch.linspace(-1, 1, n) for n in (5, 6, 7)]
    grid = PlaneNetwork(planes, mlp.requires_grad_(False)).on_grid(*axes)
    grid.volume(42, lambda done, total, preview=None: calls.append((done, total)))
    assert calls == [(n, 5) for n in range(1, 6)]


@pytest.mark.parametrize("surface", ["mesh", "nerf"])
def test_triplane_keeps_its_decoder_if_the_model_changes(surface):
    triplane = random_triplane(surface)
    model_decoder = random_triplane(surface).decoder
    kept = model_decoder.triplane(triplane.planes)
    before = kept.values(torch.zeros(1, 3), 1).clone()
    for parameter in model_decoder.parameters():
        parameter.data.zero_()
    torch.testing.assert_close(kept.values(torch.zeros(1, 3), 1), before)
