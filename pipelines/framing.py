"""Pictures and masks to framed pictures: the object in the middle of a square, at a known size, on one colour."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import InvalidInput, NothingInPicture

WHITE = (1.0, 1.0, 1.0)
_OBJECT = 0.5  # mask value from which a pixel counts for the box
_SPECK = 0.01  # parts below this share of the largest part's area do not count for the box
_MIN_OBJECT_SIDE = 2


def frame_foreground(
    images: Tensor,
    masks: Tensor,
    *,
    foreground_ratio: float = 0.85,
    size: int = 512,
    background: tuple[float, float, float] = WHITE,
) -> tuple[Tensor, Tensor]:
    """Each object centred in a square of its own colour.

    Args:
        images: (B, 3, H, W) in [0, 1].
        masks: (B, 1, H, W) in [0, 1], 1 is the object.
        foreground_ratio: larger side of the object's box over the picture's side, in (0, 1].
        size: pixels of a side of the results.
        background: RGB in [0, 1] behind the object.

    Returns:
        images (B, 3, size, size) on the background and masks (B, 1, size, size).

    Raises:
        InvalidInput: if shapes do not fit or a number is out of range.
        NothingInPicture: if a mask is empty.
    """
    if images.ndim != 4 or images.shape[1] != 3 or masks.shape != (images.shape[0], 1, *images.shape[2:]):
        raise InvalidInput(f"Pictures must be (B, 3, H, W) and masks (B, 1, H, W), got {tuple(images.shape)} and {tuple(masks.shape)}.")
    if not 0 < foreground_ratio <= 1:
        raise InvalidInput(f"The foreground ratio must lie above 0 and be at most 1, got {foreground_ratio}.")
    if size < 1:
        raise InvalidInput(f"The framed picture's size must be at least 1, got {size}.")
    color = images.new_tensor(background)[:, None, None]
    framed = [_frame(image, mask, foreground_ratio, size, color) for image, mask in zip(images, masks, strict=True)]
    pictures, cut_masks = zip(*framed, strict=True)
    return torch.stack(pictures), torch.stack(cut_masks)


def composite(images: Tensor, masks: Tensor, background: tuple[float, float, float] = WHITE) -> Tensor:
    """Objects on one colour.

    Args:
        images: (B, 3, H, W) in [0, 1].
        masks: (B, 1, H, W) in [0, 1], 1 is the object.
        background: RGB in [0, 1].

    Returns:
        (B, 3, H, W).
    """
    return images * masks + images.new_tensor(background)[:, None, None] * (1 - masks)


def _frame(image: Tensor, mask: Tensor, ratio: float, size: int, color: Tensor) -> tuple[Tensor, Tensor]:
    top, bottom, left, right = _object_box(mask[0])
    side = max(round(max(bottom - top, right - left) / ratio), 1)
    first_row, first_column = top - (side - (bottom - top)) // 2, left - (side - (right - left)) // 2
    height, width = mask.shape[1:]
    padding = (-first_column, first_column + side - width, -first_row, first_row + side - height)
    alpha = mask.clamp(0, 1)
    # Padding by negative numbers cuts.
    on_color = F.pad(image.clamp(0, 1) * alpha + color * (1 - alpha) - color, padding) + color
    resized = F.interpolate(
        torch.cat([on_color, F.pad(alpha, padding)])[None], size=(size, size), mode="bicubic", antialias=True, align_corners=False
    )[0].clamp(0, 1)
    return resized[:3], resized[3:]


def _object_box(mask: Tensor) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the object, ends excluded; specks do not count."""
    from scipy import ndimage  # slow to import

    solid = (mask > _OBJECT).cpu().numpy()
    parts, count = ndimage.label(solid)
    if not count:
        raise NothingInPicture("The mask holds no object: choose another background removal, or a picture with one clear object.")
    areas = ndimage.sum_labels(solid, parts, range(1, count + 1))
    boxes = [box for box, area in zip(ndimage.find_objects(parts), areas, strict=True) if area >= _SPECK * areas.max()]
    rows, columns = zip(*boxes, strict=True)
    top, bottom = min(r.start for r in rows), max(r.stop for r in rows)
    left, right = min(c.start for c in columns), max(c.stop for c in columns)
    if max(bottom - top, right - left) < _MIN_OBJECT_SIDE:
        raise NothingInPicture("The object in the mask is a single pixel: choose another background removal, or a larger picture.")
    return top, bottom, left, right
