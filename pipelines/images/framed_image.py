"""Segment and frame the object of an image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..devices import CPU, timed
from ..progress import Progress, silent
from ..settings import Settings
from .background import remove_background
from .framing import DEFAULT_SIZE, frame_foreground, framed_side

MAX_PHOTOGRAPH = 2048


@dataclass(frozen=True)
class FramedImage:
    """The object of an image, centred in a square.

    Attributes:
        framed: (1, 3, S, S) object on white, for the models.
        framed_mask: (1, 1, S, S) mask of `framed`.
        photograph: (1, 3, T, T) the same square at the image's resolution, with T at most
            `MAX_PHOTOGRAPH`.
        mask: (1, 1, T, T) mask of `photograph`.
        seconds: duration of each stage.
    """

    framed: Tensor
    framed_mask: Tensor
    photograph: Tensor
    mask: Tensor
    seconds: dict[str, float]


def frame_image(
    image: Tensor,
    settings: Settings,
    *,
    size: int = DEFAULT_SIZE,
    background_models: Path | None = None,
    device: torch.device = CPU,
    progress: Progress = silent,
) -> FramedImage:
    """Segment and frame the object of an image, without the models of `ImageTo3D`.

    Args:
        image: (1, 3, H, W), or (1, 4, H, W) with straight alpha, in [0, 1].
        settings: only background and framing are used. Without a foreground ratio, the object
            keeps its size.
        size: side length S of `framed` in pixels.
        background_models: folder of rembg's models; None for rembg's default folder.
        device: device of rembg's models.
        progress: called after each step.

    Raises:
        InvalidInput, NothingInImage, EnvironmentProblem: as the stages do.
    """
    seconds: dict[str, float] = {}
    with timed("background", seconds):
        mask = object_mask(image, settings, background_models, device)
        progress(1, 1, stage="background")
    with timed("framing", seconds):
        colors, ratio = image[:, :3].cpu().float(), settings.foreground_ratio
        if ratio is None:  # keep the object's size in the image
            ratio = min(max(framed_side(mask, 1.0) / max(colors.shape[-2:]), 0.1), 1.0)
        framed, framed_mask = frame_foreground(colors, mask, foreground_ratio=ratio, size=size)
        sharp = min(framed_side(mask, ratio), MAX_PHOTOGRAPH)
        photograph, sharp_mask = frame_foreground(colors, mask, foreground_ratio=ratio, size=sharp)
        progress(1, 1, framed, stage="framing")
    return FramedImage(framed, framed_mask, photograph, sharp_mask, seconds)


def object_mask(
    image: Tensor,
    settings: Settings,
    background_models: Path | None = None,
    device: torch.device = CPU,
) -> Tensor:
    """Return the mask (1, 1, H, W) of an image's object; see `frame_image`."""
    return remove_background(
        image,
        settings.remove_bg,
        models_dir=background_models,
        device=device.type,
        threshold=settings.alpha_threshold,
    )
