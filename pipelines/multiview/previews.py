"""Latents to a small picture without the VAE, to watch the views grow."""

from __future__ import annotations

import torch
from torch import Tensor

# RGB from Stable Diffusion's four latent channels, in the U-Net's scale; the last row is the constant.
STABLE_DIFFUSION_RGB = torch.tensor(
    [[0.149, 0.104, 0.104], [0.094, 0.143, 0.087], [-0.079, 0.095, 0.132], [-0.092, -0.136, -0.237], [0.5, 0.5, 0.5]]
)


def preview(latents: Tensor, latent_rgb: Tensor) -> Tensor:
    """(3, h, w) picture in [0, 1] of latents (1, 4, h, w) by a linear map (5, 3)."""
    table = latent_rgb.to(latents)
    flat = latents[0].permute(1, 2, 0)  # (h, w, 4)
    return (flat @ table[:4] + table[4]).clamp(0, 1).permute(2, 0, 1)
