"""Latents to a small picture without the VAE, to watch the views grow."""

from __future__ import annotations

import torch
from torch import Tensor

# Least-squares fit of RGB against Stable Diffusion's four latent channels; the last row is the constant.
_LATENT_TO_RGB = torch.tensor(
    [[0.298, 0.207, 0.208], [0.187, 0.286, 0.173], [-0.158, 0.189, 0.264], [-0.184, -0.271, -0.473], [0.5, 0.5, 0.5]]
)


def preview(latents: Tensor) -> Tensor:
    """(3, h, w) picture in [0, 1] of scaled latents (1, 4, h, w)."""
    table = _LATENT_TO_RGB.to(latents.device)
    flat = latents[0].float().permute(1, 2, 0)  # (h, w, 4)
    return (flat @ table[:4] / 2 + table[4]).clamp(0, 1).permute(2, 0, 1)
