from __future__ import annotations

import pytest
import torch

from pipelines.cameras import FOUR_VIEWS, cameras_around, zero123plus_cameras
from pipelines.errors import InvalidInput
from pipelines.reconstruction.fields import Field, field_mlp
from pipelines.reconstruction.reconstruct import reconstruct


def test_four_views_are_views_0_2_4_and_5(pocket):
    views = torch.rand(6, 3, 128, 128)
    four = views[list(FOUR_VIEWS)]
    expected = reconstruct(pocket.reconstruction, four, zero123plus_cameras()[FOUR_VIEWS])
    torch.testing.assert_close(reconstruct(pocket.reconstruction, four).planes, expected.planes)


def test_views_of_ones_own_with_cameras_of_any_number(pocket):
    triplane = reconstruct(pocket.reconstruction, torch.rand(3, 3, 200, 200), cameras_around([0.0, 120.0, 240.0], [10.0] * 3, 3.0, 40.0))
    assert triplane.planes.shape == (3, 32, 32, 32)
    assert triplane.planes.dtype == torch.float32


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (torch.rand(5, 3, 32, 32), "must be 6 views, or 4"),
        (torch.rand(6, 3, 32, 40), r"\(N, 3, S, S\)"),
        (torch.rand(6, 4, 32, 32), r"\(N, 3, S, S\)"),
        (torch.full((6, 3, 32, 32), float("nan")), "not finite"),
    ],
)
def test_bad_views(pocket, views, message):
    with pytest.raises(InvalidInput, match=message):
        reconstruct(pocket.reconstruction, views)


def test_cameras_must_be_as_many_as_views(pocket):
    with pytest.raises(InvalidInput, match="6 cameras and 4 views"):
        reconstruct(pocket.reconstruction, torch.rand(4, 3, 32, 32), zero123plus_cameras())


def test_projected_planes_are_the_plain_mlp():
    """Against the formula as it is written: sample, concatenate, then the whole MLP."""
    torch.manual_seed(0)
    planes, mlp, points = torch.randn(3, 5, 12, 12), field_mlp(15, 2), torch.rand(300, 3) * 2.4 - 1.2
    coordinates = torch.stack([points[:, [0, 1]], points[:, [0, 2]], points[:, [2, 1]]])
    sampled = torch.nn.functional.grid_sample(planes, coordinates[:, None], align_corners=False)[:, :, 0]  # (3, 5, N)
    with torch.no_grad():
        expected = mlp(sampled.permute(2, 0, 1).flatten(1))
        field = Field(planes, mlp)
        torch.testing.assert_close(field.at(points, 77), expected, atol=1e-5, rtol=0)
        axes = [torch.linspace(-1, 1, n) for n in (5, 6, 7)]
        lattice = torch.cartesian_prod(*axes)
        for chunk in (3, 40, 1000):
            slabs = torch.cat([values for _, values in field.on_grid(*axes).slabs(chunk)])
            torch.testing.assert_close(slabs.flatten(0, 2), field.at(lattice, 1000), atol=1e-5, rtol=0)


def test_half_precision_is_near_single(pocket):
    views = torch.rand(6, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    single = reconstruct(pocket.reconstruction, views).planes
    import copy

    half = reconstruct(copy.deepcopy(pocket.reconstruction).bfloat16(), views)
    assert next(half.decoder.parameters()).dtype == torch.float32
    assert float((half.planes - single).norm() / single.norm()) < 2e-2
