from __future__ import annotations

import pytest
import torch

from pipelines.errors import InvalidInput
from pipelines.fields.voxels import VoxelColors

from ..sample_fields import cube_of_voxels


def test_voxels_between_centres_are_interpolated_linearly():
    points = torch.rand(50, 3) * 1.8 - 0.9
    torch.testing.assert_close(
        cube_of_voxels().at(points), (points.repeat(1, 2) + 1) / 2, atol=1e-4, rtol=0
    )


def test_voxels_far_away_give_the_nearest_value():
    two = VoxelColors(torch.tensor([[0.0, 0, 0], [1, 0, 0]]), torch.eye(3)[:2], 0.1)
    found = two.at(torch.tensor([[-5.0, 0, 0], [9, 9, 9]]))
    torch.testing.assert_close(found, torch.eye(3)[:2])


def test_voxels_stop_when_the_check_raises():
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        cube_of_voxels().at(torch.zeros(1, 3), stop)


@pytest.mark.parametrize(
    ("centers", "values", "message"),
    [
        (torch.zeros(0, 3), torch.zeros(0, 3), "one colour for each cell"),
        (torch.zeros(2, 3), torch.zeros(3, 3), "one colour for each cell"),
        (torch.zeros(2, 3), torch.zeros(2, 2), "need colours"),
    ],
    ids=["none", "other-number", "no-colours"],
)
def test_voxels_without_matching_colours_are_refused(centers, values, message):
    with pytest.raises(InvalidInput, match=message):
        VoxelColors(centers, values, 0.1)
