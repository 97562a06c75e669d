"""Image to object on white, and a mask."""

from __future__ import annotations

import torch
from comfy_api.latest import io
from torch import Tensor

from ..pipelines.images.background import (
    DEFAULT_THRESHOLD,
    METHODS,
    forget_models,
    remove_background,
)
from ..pipelines.images.framing import cut_out
from . import host
from .sockets import image_socket, images_of, mask_socket, masks_of


class RemoveBackground(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageTo3D_RemoveBackground",
            display_name="Remove Background",
            category="3d/Image to 3D",
            description="Finds what stands in front of each image, and leaves white around it.",
            inputs=[
                io.Image.Input(
                    "image", tooltip="One or several images. A fourth channel counts as alpha."
                ),
                io.Combo.Input(
                    "model",
                    options=list(METHODS),
                    default="auto",
                    tooltip=(
                        "auto: the image's own alpha where it describes an object, 'plain' where"
                        " the border has one colour, otherwise u2net. plain: takes away the"
                        " border's colour, needs no model. The names are models of rembg, found in"
                        " models/rembg or downloaded."
                    ),
                ),
                io.Float.Input(
                    "alpha_threshold",
                    default=DEFAULT_THRESHOLD,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Less alpha than this counts as background: takes away faint remains.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip=(
                        "Your own mask, 1 = object: no model runs then. LoadImage's mask is the"
                        " other way round: put Invert Mask between."
                    ),
                ),
            ],
            outputs=[
                io.Image.Output(
                    "image_on_white",
                    display_name="image",
                    tooltip=(
                        "The object, white around it. Its soft edge is in the mask: Frame"
                        " Foreground blends it."
                    ),
                ),
                io.Mask.Output("object_mask", display_name="mask", tooltip="1 = object."),
            ],
        )

    @classmethod
    @host.explained
    def execute(
        cls, image: Tensor, model: str, alpha_threshold: float, mask: Tensor | None = None
    ) -> io.NodeOutput:
        images = images_of(image)
        if mask is None:
            masks = _found_masks(images, model, alpha_threshold)
        else:
            masks = masks_of(mask, images).cpu()
            masks = masks * (masks >= alpha_threshold)
        return io.NodeOutput(image_socket(cut_out(images[:, :3].cpu(), masks)), mask_socket(masks))


def _found_masks(images: Tensor, model: str, threshold: float) -> Tensor:
    found = []
    device = host.working_device().type
    folder = host.background_dir(model)
    progress = host.node_progress()
    try:
        for i, one in enumerate(images):
            found.append(
                remove_background(
                    one[None], model, models_dir=folder, device=device, threshold=threshold
                )
            )
            progress(i + 1, len(images))
    finally:
        forget_models()  # ComfyUI's memory management does not know them
    return torch.cat(found)
