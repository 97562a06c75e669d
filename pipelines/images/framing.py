"""Frame objects: centre them at a given size on a plain background."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InvalidInput, NothingInImage
from .checks import check_images, check_masks

WHITE = (1.0, 1.0, 1.0)
DEFAULT_SIZE, DEFAULT_RATIO = 512, 0.85
_OBJECT = 0.5  # mask value above which a pixel belongs to the object's box
_MIN_AREA_SHARE = 0.01  # components smaller than this share of the largest are ignored
_MIN_OBJECT_SIDE_PX = 2


def frame_foreground(
    images: Tensor,
    masks: Tensor,
    *,
    foreground_ratio: float = DEFAULT_RATIO,
    size: int = DEFAULT_SIZE,
    background: tuple[float, float, float] = WHITE,
) -> tuple[Tensor, Tensor]:
    """Centre each object in a square.

    Args:
        images: (B, 3, H, W) in [0, 1].
        masks: (B, 1, H, W) in [0, 1], 1 on the object.
        foreground_ratio: larger side of the object's box divided by the result's side, in (0, 1].
        size: side of the results, in pixels.
        background: RGB in [0, 1] behind the object.

    Returns:
        images: (B, 3, size, size) on the background colour, in [0, 1].
        masks: (B, 1, size, size) in [0, 1].

    Raises:
        InvalidInput: if shapes do not match or a number is out of range.
        NothingInImage: if a mask is empty.
    """
    _check(images, masks, foreground_ratio, size)
    sides = [framed_side(mask[None], foreground_ratio) for mask in masks]
    return _framed(images.split(1), masks.split(1), sides, size, background)


def frame_together(
    images: Sequence[Tensor],
    masks: Sequence[Tensor],
    *,
    elevation_deg: float = 0.0,
    foreground_ratio: float = DEFAULT_RATIO,
    size: int = DEFAULT_SIZE,
) -> tuple[Tensor, Tensor]:
    """Centre the object of several photographs in squares on white, at one common scale.

    Upright cameras at one elevation e see an object of height h, width w and depth d in a box of
    height h cos e + d sin e and width w. From the object's side, w and d are exchanged. So the
    box's height + width * sin e is h cos e + (w + d) sin e from the front and from the side. It
    measures the scale of each photograph, which depends on its distance and lens.

    Args:
        images: N photographs (1, 3, H, W) in [0, 1], of any sizes.
        masks: N masks (1, 1, H, W) in [0, 1], 1 on the object.
        elevation_deg: angle of the cameras above the horizon, in [-90, 90].
        foreground_ratio: largest side of all objects' boxes divided by the results' side.
        size: side of the results, in pixels.

    Returns:
        images: (N, 3, size, size) in [0, 1].
        masks: (N, 1, size, size) in [0, 1].

    Raises:
        InvalidInput, NothingInImage: as `frame_foreground`.
    """
    slope = abs(math.sin(math.radians(elevation_deg)))
    measures, largest = [], 0.0
    for image, mask in zip(images, masks, strict=True):
        _check(image, mask, foreground_ratio, size)
        top, bottom, left, right = object_box(mask[0, 0])
        measures.append(bottom - top + (right - left) * slope)
        largest = max(largest, max(bottom - top, right - left) / measures[-1])
    sides = [max(round(measure * largest / foreground_ratio), 1) for measure in measures]
    return _framed(images, masks, sides, size, WHITE)


def _check(images: Tensor, masks: Tensor, foreground_ratio: float, size: int) -> None:
    check_images(images, 3)
    check_masks(masks, images)
    if not 0 < foreground_ratio <= 1:
        raise InvalidInput(
            f"foreground ratio must be above 0 and at most 1, got {foreground_ratio}."
        )
    if size < 1:
        raise InvalidInput(f"size must be at least 1, got {size}.")


def framed_side(mask: Tensor, foreground_ratio: float) -> int:
    """Return the side of the square that `frame_foreground` crops, in pixels of the input image.

    Args:
        mask: (1, 1, H, W) in [0, 1], 1 on the object.
        foreground_ratio: as in `frame_foreground`.

    Raises:
        NothingInImage: if the mask is empty.
    """
    top, bottom, left, right = object_box(mask[0, 0])
    return max(round(max(bottom - top, right - left) / foreground_ratio), 1)


def cut_out(
    images: Tensor, masks: Tensor, background: tuple[float, float, float] = WHITE
) -> Tensor:
    """Fill the background, where the mask is 0, with one colour.

    Soft edges keep their colours. Therefore `composite` and `frame_foreground` give the same
    results for the returned images as for the original ones.

    Args:
        images: (B, 3, H, W) in [0, 1].
        masks: (B, 1, H, W) in [0, 1], 1 on the object.
        background: RGB in [0, 1].

    Returns:
        (B, 3, H, W).
    """
    return torch.where(masks > 0, images, images.new_tensor(background)[:, None, None])


def composite(
    images: Tensor, masks: Tensor, background: tuple[float, float, float] = WHITE
) -> Tensor:
    """Blend objects onto one colour.

    Args:
        images: (B, 3, H, W) in [0, 1].
        masks: (B, 1, H, W) in [0, 1], 1 on the object.
        background: RGB in [0, 1].

    Returns:
        (B, 3, H, W).
    """
    return images * masks + images.new_tensor(background)[:, None, None] * (1 - masks)


def _framed(
    images: Sequence[Tensor],
    masks: Sequence[Tensor],
    sides: Sequence[int],
    size: int,
    background: tuple[float, float, float],
) -> tuple[Tensor, Tensor]:
    """Crop squares of these sides around the objects' boxes, and resize them."""
    color = images[0].new_tensor(background)[:, None, None]
    framed = [
        _frame(image[0], mask[0], side, size, color)
        for image, mask, side in zip(images, masks, sides, strict=True)
    ]
    both = torch.stack(framed)  # (N, 4, size, size)
    return both[:, :3], both[:, 3:]


def _frame(image: Tensor, mask: Tensor, side: int, size: int, color: Tensor) -> Tensor:
    """Crop and resize one image and its mask; returns (4, size, size)."""
    top, bottom, left, right = object_box(mask[0])
    first_row = top - (side - (bottom - top)) // 2
    first_column = left - (side - (right - left)) // 2
    height, width = mask.shape[1:]
    alpha = mask.clamp(0, 1)
    # Resample the difference from the background, because it is 0 outside the image.
    resized = torch.cat([(image.clamp(0, 1) - color) * alpha, alpha])
    if side == size:  # all weights would be 0 or 1; products of large matrices take seconds
        right, bottom = first_column + side - width, first_row + side - height
        resized = F.pad(resized, (-first_column, right, -first_row, bottom))
    else:
        down = _resampling(first_row, side, size, height).to(image)
        across = _resampling(first_column, side, size, width).to(image)
        resized = down @ resized @ across.T  # (4, size, size)
    resized[:3] += color
    return resized.clamp(0, 1)


def _resampling(first: int, side: int, size: int, length: int) -> Tensor:
    """Return weights (size, length) that crop and resize one axis of an image.

    The crop starts at pixel `first`, which may be negative, and has `side` pixels. It is resized to
    `size` pixels by antialiased bicubic interpolation. The weights apply directly to the image's
    `length` pixels: with a small foreground ratio, the crop itself would take gigabytes.

    Source: Keys, "Cubic convolution interpolation" (1981), a = -0.5, stretched when shrinking, as
    Pillow and torch do.
    """
    scale = side / size
    stretch = max(scale, 1.0)
    reach = int(2 * stretch) + 2
    centers = (torch.arange(size, dtype=torch.float64) + 0.5) * scale
    around = torch.arange(-reach, reach + 1)
    taps = centers.floor().long()[:, None] + around  # (size, n), within the square
    x = ((taps + 0.5 - centers[:, None]) / stretch).abs()
    near, far = (1.5 * x - 2.5) * x**2 + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = torch.where(x < 1, near, torch.where(x < 2, far, 0.0)) * ((taps >= 0) & (taps < side))
    weights = weights / weights.sum(dim=1, keepdim=True)
    place = taps + first
    inside = (place >= 0) & (place < length)
    table = torch.zeros(size, length, dtype=torch.float64)
    return table.scatter_add_(1, place.clamp(0, length - 1), weights * inside)


def object_box(mask: Tensor) -> tuple[int, int, int, int]:
    """Return the object's box in a mask (H, W), ignoring specks.

    Returns:
        Top, bottom, left and right in pixels. Bottom and right are exclusive.
    """
    from scipy import ndimage  # slow to import

    solid = (mask > _OBJECT).cpu().numpy()
    parts, count = ndimage.label(solid)
    if not count:
        raise NothingInImage(
            "The mask holds no object: choose another background removal, or an image with one"
            " clear object."
        )
    areas = np.bincount(parts.ravel())[1:]
    kept = np.insert(areas >= _MIN_AREA_SHARE * areas.max(), 0, False)[parts]
    rows, columns = (np.flatnonzero(kept.any(axis=axis)).tolist() for axis in (1, 0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    if max(bottom - top, right - left) < _MIN_OBJECT_SIDE_PX:
        raise NothingInImage(
            "The object in the mask is a single pixel: choose another background removal, or a"
            " larger image."
        )
    return top, bottom, left, right
