"""Checks of images and masks."""

from __future__ import annotations

import pytest
import torch

from pipelines.errors import InvalidInput
from pipelines.images.checks import check_images, check_masks

IMAGES = torch.rand(2, 3, 20, 30)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(3, 20, 30), r"must be \(B, 3 or 4, H, W\), got \(3, 20, 30\)"),
        (torch.rand(1, 2, 20, 30), "must be"),
        (torch.rand(1, 3, 0, 30), "must be"),
        (torch.rand(0, 3, 20, 30), "must be"),
        (torch.full((1, 3, 2, 2), torch.nan), "images are not finite"),
        (torch.full((1, 4, 2, 2), torch.inf), "images are not finite"),
    ],
)
def test_check_images_refuses_other_arrays(images, message):
    with pytest.raises(InvalidInput, match=message):
        check_images(images, 3, 4)


def test_check_images_of_four_channels_depends_on_the_accepted_counts():
    images = torch.rand(1, 4, 1, 1)
    check_images(images, 3, 4)
    with pytest.raises(InvalidInput, match=r"must be \(B, 3, H, W\), got \(1, 4, 1, 1\)"):
        check_images(images, 3)


@pytest.mark.parametrize(
    "masks", [torch.rand(1, 1, 20, 30), torch.rand(2, 1, 20, 31), torch.rand(2, 3, 20, 30)]
)
def test_check_masks_refuses_other_shapes(masks):
    with pytest.raises(InvalidInput, match=r"masks must be \(2, 1, 20, 30\), got"):
        check_masks(masks, IMAGES)


def test_check_masks_refuses_nan():
    with pytest.raises(InvalidInput, match="masks are not finite"):
        check_masks(torch.full((2, 1, 20, 30), torch.nan), IMAGES)
