"""Resize images exactly as the reference implementations do."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def resize_and_crop(pixels: np.ndarray, resized: int, crop: int) -> Tensor:
    """Resize the shorter side of an image and crop its centre.

    Args:
        pixels: (H, W, 3) uint8.
        resized: shorter side in pixels before the crop.
        crop: side of the crop in pixels.

    Returns:
        (1, 3, crop, crop) in [0, 1].
    """
    image = Image.fromarray(pixels)
    shorter = min(image.size)
    width, height = (int(resized * side / shorter) for side in image.size)
    left, top = (width - crop) // 2, (height - crop) // 2
    # Pillow rounds to 8 bits, as in the reference implementations. Other bicubic filters differ by
    # whole 8-bit levels.
    cut = image.resize((width, height), Image.Resampling.BICUBIC).crop(
        (left, top, left + crop, top + crop)
    )
    return torch.from_numpy(np.array(cut)).permute(2, 0, 1)[None].float() / 255
