"""Reconstruct a field from images: the common entry point of all reconstruction models."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

from ..cameras import Cameras
from ..errors import InvalidInput
from ..fields.field import Field
from ..images.checks import check_images, check_masks


class FieldModel(Protocol):
    """Interface of reconstruction models.

    Attributes:
        input_kind: "image" for one framed image with its mask, "views" for several images with
            cameras.
    """

    @property
    def input_kind(self) -> Literal["image", "views"]: ...

    def field(self, images: Tensor, cameras: Cameras | None, masks: Tensor | None) -> Field:
        """Reconstruct the field of one object.

        `reconstruct` describes the arguments and checks them before the call.
        """


@torch.no_grad()
def reconstruct(
    model: FieldModel, images: Tensor, cameras: Cameras | None = None, masks: Tensor | None = None
) -> Field:
    """Reconstruct the field of one object.

    Args:
        model: a model on one device, in one precision.
        images: (N, 3, S, S) in [0, 1]. For a model that takes views: N views on white. For a
            model that takes an image: one framed image on any plain colour, which the model
            replaces with its own background.
        cameras: N cameras, for a model that takes views. The default for six views are the cameras
            of Zero123++; for four views, those of its views 0, 2, 4 and 5.
        masks: (1, 1, S, S) in [0, 1], 1 on the object; for a model that takes an image.

    Returns:
        the field, in float32.

    Raises:
        InvalidInput: if the shapes or numbers are invalid, a value is not finite, or the mask is
            missing or empty.
    """
    check_images(images, 3)
    if images.shape[2] != images.shape[3]:
        raise InvalidInput(
            f"images must be square, (N, 3, S, S), got {tuple(images.shape)}: frame them first."
        )
    if model.input_kind == "views":
        return model.field(images.float(), cameras, None)
    _check_image(images, cameras, masks)
    assert masks is not None
    return model.field(images.float(), None, masks.to(images.device).float())


def _check_image(images: Tensor, cameras: Cameras | None, masks: Tensor | None) -> None:
    """Raise `InvalidInput` if the input is invalid for a model that takes one image."""
    if len(images) != 1 or cameras is not None:
        raise InvalidInput(
            f"This model takes one framed image without cameras, got {len(images)} images"
            f"{'' if cameras is None else ' with cameras'}."
        )
    if masks is None:
        raise InvalidInput("This model takes an image and its mask, but there is no mask.")
    check_masks(masks, images)
    if not bool((masks > 0.5).any()):
        raise InvalidInput("The mask holds no object: check the background removal.")


def on_grey(image: Tensor, mask: Tensor, level: float) -> Tensor:
    """Replace the background of an image, where its mask is 0, with grey.

    Args:
        image: (1, 3, S, S) in [0, 1].
        mask: (1, 1, S, S) in [0, 1].
        level: grey level in [0, 1].
    """
    outside = (mask < 1e-3).expand_as(image)
    color = torch.where(outside, image, 0).sum(dim=(2, 3)) / outside.sum(dim=(2, 3)).clamp_min(1)
    return image + (1 - mask) * (level - color[..., None, None])
