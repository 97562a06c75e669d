"""The parts of a Zero123++ model, put together."""

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

WHITE, GREY = 1.0, 127 / 255


@dataclass(frozen=True)
class MultiviewModel:
    """Everything that one sampling run needs.

    Attributes:
        unet: v-prediction U-Net.
        vae: 8x autoencoder of 4 latent channels.
        vision_encoder: CLIP image encoder with its projection.
        empty_prompt: (77, D), the text encoder's answer to the empty prompt; the text encoder
            itself is not kept.
        ramp: (77,), how much of the image embedding each token receives.
        scheduler_config: the repository's scheduler config.
        vae_transform, clip_transform: what the two image inputs go through.
        view_size: pixels of a view's side.
        device: where the work is done.
        offload: whether the parts stay in host memory and come to the device only while they work.
        background: grey level, in [0, 1], on which the U-Net was trained to see and to draw.
        steps, guidance: what suits the model, see `settings.ViewSettings`.
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
        """Keep one of the parts on the device while it works."""
        return at_work(part, self.device, self.offload)

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype
