"""Previews of latents during sampling, without the VAE."""

from __future__ import annotations

import torch
from torch import Tensor

# Linear map from Stable Diffusion's four latent channels, scaled for the U-Net, to RGB; the last
# row is the constant term.
_RGB = torch.tensor(
    [
        [0.149, 0.104, 0.104],
        [0.094, 0.143, 0.087],
        [-0.079, 0.095, 0.132],
        [-0.092, -0.136, -0.237],
        [0.5, 0.5, 0.5],
    ]
)


def preview(latents: Tensor) -> Tensor:
    """Decode latents (1, 4, h, w) approximately to an image (1, 3, h, w) in [0, 1]."""
    table = _RGB.to(latents)
    last = latents.permute(0, 2, 3, 1)  # (1, h, w, 4)
    return (last @ table[:4] + table[4]).clamp(0, 1).permute(0, 3, 1, 2)
