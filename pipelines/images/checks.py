"""Validate images and masks; shared by all stages and interfaces."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InvalidInput


def check_images(images: Tensor, *channels: int) -> None:
    """Check that images have the shape (B, C, H, W), are not empty and are finite.

    Args:
        images: the batch to check.
        channels: accepted values of C.

    Raises:
        InvalidInput: if the check fails.
    """
    if images.ndim != 4 or images.shape[1] not in channels or 0 in images.shape:
        counts = " or ".join(map(str, channels))
        raise InvalidInput(f"images must be (B, {counts}, H, W), got {tuple(images.shape)}.")
    check_finite("images", images)


def check_masks(masks: Tensor, images: Tensor) -> None:
    """Check that there is one finite mask (B, 1, H, W) for each image (B, C, H, W).

    Raises:
        InvalidInput: if the check fails.
    """
    wanted = (len(images), 1, *images.shape[2:])
    if masks.shape != wanted:
        raise InvalidInput(f"masks must be {wanted}, got {tuple(masks.shape)}.")
    check_finite("masks", masks)


def check_finite(name: str, values: Tensor) -> None:
    """Check that an array contains neither NaN nor infinity.

    Raises:
        InvalidInput: if it does; the message uses `name` for the array.
    """
    if not bool(torch.isfinite(values).all()):
        raise InvalidInput(f"some values of the {name} are not finite (NaN or infinity).")
