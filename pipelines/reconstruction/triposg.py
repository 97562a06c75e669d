"""TripoSG: one image to a fine shape without colours, by a rectified flow of latent vectors.

Source: Li et al., TripoSG (arXiv 2502.06608); Liu et al., rectified flow (arXiv 2209.03003).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..cameras import Cameras
from ..devices import at_work
from ..fields.latent_set import LatentSet, LatentSetConfig, LatentSetDecoder
from ..progress import Progress, silent
from .flow_transformer import FlowConfig, FlowTransformer
from .reconstruct import on_grey
from .vision_transformer import EncoderConfig, VisionTransformer

log = logging.getLogger(__name__)

STEPS, GUIDANCE, TOKENS = 50, 7.0, 2048
BACKGROUND = 1.0  # white
_TIMES = 1000
_FACE_POINTS = 8  # along an edge of the box, where the sign is checked
_MARGIN = 0.1  # of the object's larger side, on each side of it


@dataclass(frozen=True)
class TripoSGConfig:
    """Sizes of the model.

    Attributes:
        encoder: of the image.
        flow: of the transformer.
        decoder: of the field.
        resized: pixels of the shorter side of an image before its centre is cropped.
        shift: of the times, if the caller gives none.
    """

    encoder: EncoderConfig = field(
        default_factory=lambda: EncoderConfig(1024, 24, 16, 4096, 1e-6, 518, 14, 224)
    )
    flow: FlowConfig = field(default_factory=FlowConfig)
    decoder: LatentSetConfig = field(default_factory=LatentSetConfig)
    resized: int = 256
    shift: float = 1.0

    def build(self) -> TripoSG:
        """Build a model of these sizes, without weights."""
        return TripoSG(self)


class TripoSG(nn.Module):
    """Three parts, which work one after the other; `Sampler` makes fields with them."""

    def __init__(self, config: TripoSGConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = VisionTransformer(config.encoder, version=2)
        self.transformer = FlowTransformer(config.flow)
        self.decoder = LatentSetDecoder(config.decoder)

    def pixels(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return what the encoder sees, (1, 3, S, S) in [0, 1].

        Args:
            image: (1, 3, H, W) in [0, 1], on white.
            mask: (1, 1, H, W) in [0, 1].
        """
        framed = frame_as_in_training(image, mask)
        return resize_and_crop(framed, self.config.resized, self.config.encoder.view_size)


def frame_as_in_training(image: Tensor, mask: Tensor) -> np.ndarray:
    """Crop the object and put a white margin around it.

    Args:
        image: (1, 3, H, W) in [0, 1], on white.
        mask: (1, 1, H, W) in [0, 1].

    Returns:
        (S, S, 3) uint8; one side may be a pixel shorter, as in the reference.
    """
    rows, columns = ((mask[0, 0] > 0).any(dim=axis).nonzero().flatten() for axis in (1, 0))
    top, bottom, left, right = (int(x) for x in (rows[0], rows[-1], columns[0], columns[-1]))
    cropped = image[0, :, top : bottom + 1, left : right + 1]
    longer = max(cropped.shape[1:])
    square = longer + 2 * int(longer * _MARGIN)
    down, right = ((square - side) // 2 for side in cropped.shape[1:])
    padded = nn.functional.pad(cropped, (right, right, down, down), value=1.0)
    return (padded.permute(1, 2, 0).cpu().float().clamp(0, 1) * 255).byte().numpy()


def resize_and_crop(pixels: np.ndarray, resized: int, crop: int) -> Tensor:
    """Resize the shorter side and cut the centre out: (1, 3, crop, crop) in [0, 1]."""
    image = Image.fromarray(pixels)
    shorter = min(image.size)
    width, height = (int(resized * side / shorter) for side in image.size)
    left, top = (width - crop) // 2, (height - crop) // 2
    # Pillow, because the reference resizes with it, rounding to 8 bits on the way.
    cut = image.resize((width, height), Image.Resampling.BICUBIC).crop(
        (left, top, left + crop, top + crop)
    )
    return torch.from_numpy(np.array(cut)).permute(2, 0, 1)[None].float() / 255


def flow_sigmas(steps: int, shift: float) -> Tensor:
    """Return shares of noise (steps + 1,), from 1 to 0, in float32."""
    even = 1 - torch.arange(steps, dtype=torch.float64) / steps
    shifted = shift * even / (1 + (shift - 1) * even)
    return torch.cat([shifted, torch.zeros(1, dtype=torch.float64)]).float()


@torch.no_grad()
def sample_latents(
    model: FlowTransformer,
    noise: Tensor,
    image_tokens: Tensor,
    sigmas: Tensor,
    guidance: float,
    progress: Progress = silent,
) -> Tensor:
    """Sample the latent vectors of an object.

    Args:
        model: on the device of its inputs.
        noise: (1, T, channels) standard normal.
        image_tokens: (1, M, context_dim).
        sigmas: (steps + 1,) see `flow_sigmas`.
        guidance: how strictly the shape follows the image; 1 or less: off, and half the work.
        progress: called after each step; what it raises ends the sampling.

    Returns:
        (1, T, channels) float32.
    """
    latents, image = noise.float(), model.image_keys_values(image_tokens)
    rows = 2 if guidance > 1 else 1  # the first has no image
    for step, (sigma, following) in enumerate(pairwise(sigmas)):
        times = (sigma * _TIMES).expand(rows).to(latents.device)
        velocity = model(latents.expand(rows, -1, -1), times, image)
        if rows == 2:
            velocity = velocity[:1] + guidance * (velocity[1:] - velocity[:1])
        latents = latents + (sigma - following).to(latents.device) * velocity
        progress(step + 1, len(sigmas) - 1)
    return latents


@dataclass(frozen=True)
class Sampler:
    """TripoSG with what decides about a sample: a `reconstruct.FieldModel`.

    Attributes:
        model: in one precision.
        seed: of the noise.
        steps: of the sampling.
        guidance: see `sample_latents`.
        shift: above 1, more of the steps are spent where there is much noise; the checkpoint's if
            None.
        tokens: latent vectors; fewer are faster and coarser.
        device: where the model works; that of its weights if None.
        offload: keep on the device only the part that is at work.
        progress: called after each step; what it raises ends the sampling.
    """

    model: TripoSG
    seed: int
    steps: int = STEPS
    guidance: float = GUIDANCE
    shift: float | None = None
    tokens: int = TOKENS
    device: torch.device | None = None
    offload: bool = False
    progress: Progress = silent
    input_kind: Literal["image"] = "image"

    def field(self, images: Tensor, cameras: Cameras | None, masks: Tensor | None) -> LatentSet:
        """Sample the shape in one image; see `reconstruct.FieldModel.field`."""
        assert masks is not None
        model, offload = self.model, self.offload
        # A parameter of no layer: where ComfyUI loads a model in part, it is on the device.
        device = self.device or model.encoder.embeddings.cls_token.device
        pixels = model.pixels(on_grey(images, masks, BACKGROUND), masks)
        # On the CPU, so that a seed gives the same shape on every device.
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(1, self.tokens, model.config.flow.channels, generator=generator)
        shift = model.config.shift if self.shift is None else self.shift
        with at_work(model.encoder, device, offload):
            tokens = model.encoder(pixels.to(device, model.encoder.embeddings.cls_token.dtype))
        with at_work(model.transformer, device, offload):
            latents = sample_latents(
                model.transformer,
                noise.to(device),
                tokens,
                flow_sigmas(self.steps, shift),
                self.guidance,
                self.progress,
            )
        with at_work(model.decoder, device, offload):
            return _with_outside_negative(model.decoder.field(latents))


def _with_outside_negative(found: LatentSet) -> LatentSet:
    """Flip a field whose values are positive where the box ends, with a warning."""
    line = torch.linspace(-found.half_side, found.half_side, _FACE_POINTS, device=found.device)
    points = torch.cartesian_prod(line, line, line)
    faces = points[(points.abs() == found.half_side).any(dim=1)]
    if float(found.values(faces, len(faces)).median()) <= 0:
        return found
    log.warning("TripoSG: the field is positive outside the object; its sign is flipped.")
    return replace(found, sign=-found.sign)
