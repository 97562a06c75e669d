"""Preprocessing of Zero123++'s two input images, one for the VAE and one for CLIP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..images.resizing import resize_and_crop


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
        values = resize_and_crop(pixels, self.size, self.crop)
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.mean, self.std))
        return ((values - mean) / std).to(image.device)
