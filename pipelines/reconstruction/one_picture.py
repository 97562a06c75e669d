"""One picture to a field: what callers use of models that need no views."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..fields.field import Field


class PictureModel(Protocol):
    """A model that sees one picture.

    Attributes:
        background: grey level in [0, 1] behind the object in the pictures that it sees.
    """

    @property
    def sees(self) -> Literal["picture"]: ...

    @property
    def background(self) -> float: ...

    def field(self, picture: Tensor, mask: Tensor) -> Field:
        """The field of the object in a picture (1, 3, S, S) whose mask is (1, 1, S, S)."""


@torch.no_grad()
def reconstruct_picture(model: PictureModel, picture: Tensor, mask: Tensor) -> Field:
    """The field of the object in one picture.

    Args:
        model: on one device, in one precision.
        picture: (1, 3, S, S) in [0, 1], framed, on any plain colour: the model puts its own there.
        mask: (1, 1, S, S) in [0, 1], 1 is the object.

    Returns:
        the field, in float32.

    Raises:
        InvalidInput: if the picture or the mask has another shape, or is not finite, or the mask is
            empty.
    """
    if picture.ndim != 4 or picture.shape[:2] != (1, 3) or picture.shape[2] != picture.shape[3]:
        raise InvalidInput(
            f"The picture must be square, (1, 3, S, S), got {tuple(picture.shape)}: frame it first."
        )
    if mask.shape != (1, 1, *picture.shape[2:]):
        raise InvalidInput(
            f"The mask must be (1, 1, S, S) like its picture {tuple(picture.shape)}, got"
            f" {tuple(mask.shape)}."
        )
    if not bool(torch.isfinite(picture).all()) or not bool(torch.isfinite(mask).all()):
        raise InvalidInput(
            "The picture or its mask holds values that are not finite numbers (NaN or infinity)."
        )
    if not bool((mask > 0.5).any()):
        raise InvalidInput("The mask holds no object: look at the background removal.")
    mask = mask.to(picture.device).float()
    return model.field(_on_level(picture.float(), mask, model.background), mask)


def _on_level(picture: Tensor, mask: Tensor, level: float) -> Tensor:
    """The picture with grey in place of the plain colour that shows where the mask is 0."""
    outside = (mask < 1e-3).expand_as(picture)
    color = torch.where(outside, picture, 0).sum(dim=(2, 3)) / outside.sum(dim=(2, 3)).clamp_min(1)
    return picture + (1 - mask) * (level - color[..., None, None])
