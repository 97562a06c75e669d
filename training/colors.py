"""Colours in training: augmentation, and a space in which hue counts as much as brightness."""

from __future__ import annotations

import torch
from torch import Tensor


def opponent(colors: Tensor) -> Tensor:
    """Brightness, red-green and blue-yellow of (B, 3, ...), the hues four times as large, which
    makes all three vary alike.
    """
    red, green, blue = colors.unbind(dim=1)
    return torch.stack(
        [2 * (red + green + blue) / 3, 4 * (red - green), 4 * (blue - (red + green) / 2)], dim=1
    )


def permute_colors(generator: torch.Generator, *images: Tensor) -> list[Tensor]:
    """The same random order of red, green and blue for arrays (B, ..., 3, H, W), another one for
    each object.
    """
    orders = torch.stack([torch.randperm(3, generator=generator) for _ in range(len(images[0]))])
    return [
        torch.stack(
            [picture.index_select(-3, order) for picture, order in zip(image, orders, strict=True)]
        )
        for image in images
    ]
