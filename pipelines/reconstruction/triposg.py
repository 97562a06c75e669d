"""TripoSG: sample a detailed shape without colours from one image, by rectified flow.

Source: Li et al., TripoSG (arXiv 2502.06608); Liu et al., rectified flow (arXiv 2209.03003).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from ..cameras import Cameras
from ..devices import at_work
from ..fields.latent_set import LatentSet, LatentSetConfig, LatentSetDecoder
from ..images.resizing import resize_and_crop
from ..packing import packed
from ..progress import Progress, silent
from .flow_transformer import FlowConfig, FlowTransformer
from .reconstruct import on_grey
from .vision_transformer import EncoderConfig, VisionTransformer

log = logging.getLogger(__name__)

STEPS, GUIDANCE, TOKENS = 50, 7.0, 2048
BACKGROUND = 1.0  # white
_TIMES = 1000  # the transformer's time for pure noise
_FACE_POINTS = 8  # points per edge of the box, for the check of the sign
_MARGIN = 0.1  # width of the margin on each side, relative to the object's larger side


@dataclass(frozen=True)
class TripoSGConfig:
    """Sizes of the model.

    Attributes:
        encoder: sizes of the image encoder.
        flow: sizes of the transformer.
        decoder: sizes of the field decoder.
        resized: shorter side of the image in pixels, before the centre crop.
        shift: default shift of the times, see `flow_sigmas`.
    """

    encoder: EncoderConfig = field(
        default_factory=lambda: EncoderConfig(1024, 24, 16, 4096, 1e-6, 518, 14, 224)
    )
    flow: FlowConfig = field(default_factory=FlowConfig)
    decoder: LatentSetConfig = field(default_factory=LatentSetConfig)
    resized: PositiveInt = 256
    shift: PositiveFloat = 1.0

    def build(self) -> TripoSG:
        """Build a model of these sizes, without weights."""
        return TripoSG(self)


class TripoSG(nn.Module):
    """The image encoder, transformer and field decoder; `Sampler` runs them in this order."""

    def __init__(self, config: TripoSGConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = VisionTransformer(config.encoder, version=2)
        self.transformer = FlowTransformer(config.flow)
        self.decoder = LatentSetDecoder(config.decoder)

    def pixels(self, image: Tensor, mask: Tensor) -> Tensor:
        """Prepare an image for the encoder: (1, 3, S, S) in [0, 1].

        Args:
            image: (1, 3, H, W) in [0, 1], on white.
            mask: (1, 1, H, W) in [0, 1].
        """
        framed = frame_as_in_training(image, mask)
        return resize_and_crop(framed, self.config.resized, self.config.encoder.view_size)


def frame_as_in_training(image: Tensor, mask: Tensor) -> np.ndarray:
    """Crop the object and pad it with white to a square with a margin.

    Args:
        image: (1, 3, H, W) in [0, 1], on white.
        mask: (1, 1, H, W) in [0, 1].

    Returns:
        (S, S, 3) uint8; one side may be a pixel shorter, as in the reference implementation.
    """
    rows, columns = ((mask[0, 0] > 0).any(dim=axis).nonzero().flatten() for axis in (1, 0))
    top, bottom, left, right = (int(x) for x in (rows[0], rows[-1], columns[0], columns[-1]))
    cropped = image[0, :, top : bottom + 1, left : right + 1]
    longer = max(cropped.shape[1:])
    square = longer + 2 * int(longer * _MARGIN)
    down, right = ((square - side) // 2 for side in cropped.shape[1:])
    padded = nn.functional.pad(cropped, (right, right, down, down), value=1.0)
    return (padded.permute(1, 2, 0).cpu().float().clamp(0, 1) * 255).byte().numpy()


def flow_sigmas(steps: int, shift: float) -> Tensor:
    """Return decreasing noise levels (steps + 1,) float32, from 1 to 0.

    A shift above 1 spends more steps at high noise levels.
    """
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
        model: the transformer, on the same device as its inputs.
        noise: (1, T, channels), standard normal.
        image_tokens: (1, M, context_dim).
        sigmas: (steps + 1,), see `flow_sigmas`.
        guidance: how closely the shape follows the image. At 1 or less, guidance is off and
            sampling takes half the time.
        progress: called after each step; if it raises, sampling stops.

    Returns:
        (1, T, channels) float32.
    """
    latents, image = noise.float(), model.image_keys_values(image_tokens)
    rows = 2 if guidance > 1 else 1  # the first row has no image
    with packed(model):
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
    """A `reconstruct.FieldModel` that combines TripoSG with sampling settings.

    Attributes:
        model: the networks, in one precision.
        seed: seed of the noise.
        steps: number of sampling steps.
        guidance: see `sample_latents`.
        shift: see `flow_sigmas`; the default of the checkpoint if None.
        tokens: number of latent vectors; fewer are faster and give a coarser shape.
        device: the device that runs the model; that of its weights if None.
        offload: keep only the part in use on the device.
        progress: called after each step; if it raises, sampling stops.
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
        """Sample the shape of the object in one image; see `reconstruct.FieldModel.field`."""
        assert masks is not None
        model, offload = self.model, self.offload
        # Use a parameter outside standard layers: it is on the device even if ComfyUI loads a model
        # in part.
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
    """Flip the sign of a field that is positive on the faces of its box, and log a warning."""
    line = torch.linspace(-found.half_side, found.half_side, _FACE_POINTS, device=found.device)
    points = torch.cartesian_prod(line, line, line)
    faces = points[(points.abs() == found.half_side).any(dim=1)]
    if float(found.values(faces, len(faces)).median()) <= 0:
        return found
    log.warning("TripoSG: the field is positive outside the object; its sign is flipped.")
    return replace(found, sign=-found.sign)
