"""Preprocessing of Zero123++'s two input images, one for the VAE and one for CLIP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class ImageTransform:
    """Resizing of the shorter side, centre crop and normalisation.

    These are the steps that a `preprocessor_config.json` of transformers' CLIP describes.

    Attributes:
        size: shorter side in pixels after the bicubic resize.
        crop: side of the square crop in pixels.
        mean, std: normalisation constants of each channel.
    """

    size: int
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ImageTransform:
        """Read the fields of a `preprocessor_config.json`."""
        size, crop = config["size"], config["crop_size"]
        return cls(
            size=size["shortest_edge"] if isinstance(size, Mapping) else size,
            crop=crop["height"] if isinstance(crop, Mapping) else crop,
            mean=tuple(config["image_mean"]),
            std=tuple(config["image_std"]),
        )

    def __call__(self, image: Tensor) -> Tensor:
        """Resize, crop and normalise an image.

        Args:
            image: (1, 3, H, W) in [0, 1].

        Returns:
            (1, 3, crop, crop) float32.
        """
        pixels = (image[0].permute(1, 2, 0).cpu() * 255).round().byte().numpy()
        pillow = Image.fromarray(pixels)
        scale = self.size / min(pillow.size)
        width, height = (max(self.size, int(side * scale)) for side in pillow.size)
        left, top = (width - self.crop) // 2, (height - self.crop) // 2
        # Pillow, because the reference uses it and rounds to 8 bits: other bicubic filters differ
        # by whole 8-bit levels.
        cropped = pillow.resize((width, height), Image.Resampling.BICUBIC).crop(
            (left, top, left + self.crop, top + self.crop)
        )
        values = torch.from_numpy(np.array(cropped)).permute(2, 0, 1).float() / 255
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.mean, self.std))
        return ((values - mean) / std)[None].to(image.device)
