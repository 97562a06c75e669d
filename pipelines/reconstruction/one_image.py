"""One image to a field: what callers use of models that need no views."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..fields.field import Field
from ..images.checks import check_finite


class ImageModel(Protocol):
    """A model that sees one image.

    Attributes:
        background: grey level in [0, 1] behind the object in the images that it sees.
    """

    @property
    def sees(self) -> Literal["picture"]: ...

    @property
    def background(self) -> float: ...

    def field(self, image: Tensor, mask: Tensor) -> Field:
        """Reconstruct the object in an image (1, 3, S, S) with mask (1, 1, S, S)."""


@torch.no_grad()
def reconstruct_image(model: ImageModel, image: Tensor, mask: Tensor) -> Field:
    """Reconstruct the field of the object in one image.

    Args:
        model: on one device, in one precision.
        image: (1, 3, S, S) in [0, 1], framed, on any plain colour: the model puts its own there.
        mask: (1, 1, S, S) in [0, 1], 1 is the object.

    Returns:
        the field, in float32.

    Raises:
        InvalidInput: if the image or the mask has another shape, or is not finite, or the mask is
            empty.
    """
    if image.ndim != 4 or image.shape[:2] != (1, 3) or image.shape[2] != image.shape[3]:
        raise InvalidInput(
            f"The image must be square, (1, 3, S, S), got {tuple(image.shape)}: frame it first."
        )
    if mask.shape != (1, 1, *image.shape[2:]):
        raise InvalidInput(
            f"The mask must be (1, 1, S, S) like its image {tuple(image.shape)}, got"
            f" {tuple(mask.shape)}."
        )
    check_finite("image", image)
    check_finite("mask", mask)
    if not bool((mask > 0.5).any()):
        raise InvalidInput("The mask holds no object: look at the background removal.")
    mask = mask.to(image.device).float()
    return model.field(_on_level(image.float(), mask, model.background), mask)


def _on_level(image: Tensor, mask: Tensor, level: float) -> Tensor:
    """Replace the plain colour where the mask is 0 by grey."""
    outside = (mask < 1e-3).expand_as(image)
    color = torch.where(outside, image, 0).sum(dim=(2, 3)) / outside.sum(dim=(2, 3)).clamp_min(1)
    return image + (1 - mask) * (level - color[..., None, None])
