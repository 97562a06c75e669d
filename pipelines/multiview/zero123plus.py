"""The Zero123++ model, assembled from its parts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..devices import at_work
from .image_transform import ImageTransform

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPVisionModelWithProjection

WHITE = 1.0


@dataclass(frozen=True)
class MultiviewModel:
    """The networks and settings that a sampling run needs.

    Attributes:
        unet: v-prediction U-Net.
        vae: autoencoder with 8x downsampling and 4 latent channels.
        vision_encoder: CLIP image encoder with its projection.
        empty_prompt: (77, D), the embedding of the empty prompt; the text encoder itself is not
            kept.
        ramp: (77,), weight of the image embedding in each token.
        scheduler_config: the repository's scheduler config.
        vae_transform, clip_transform: preprocessing of the two image inputs.
        view_size: side of a view in pixels.
        device: the device that runs the model.
        offload: whether parts stay in host memory and move to the device only while in use.
        background: grey level in [0, 1] of the backgrounds that the U-Net was trained on.
        steps, guidance: the model's defaults, see `settings.ViewSettings`.
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    vision_encoder: CLIPVisionModelWithProjection
    empty_prompt: Tensor
    ramp: Tensor
    scheduler_config: Mapping[str, Any]
    vae_transform: ImageTransform
    clip_transform: ImageTransform
    view_size: int
    device: torch.device
    background: float = WHITE
    steps: int = 75
    guidance: float = 4.0
    offload: bool = False

    def at_work(self, part: nn.Module) -> AbstractContextManager[None]:
        """Return a context that keeps a part on the device while it is in use."""
        return at_work(part, self.device, self.offload)

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype
