"""Turn images into the object on white, and its mask."""

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
from .errors import explained
from .schema import RARE, schema
from .sockets import image_socket, images_of, mask_socket, masks_of

_EVERYTHING = (
    "The mask is 1 everywhere, so the whole image is the object. Load Image's mask of an opaque"
    " image, inverted, looks like this: disconnect it to remove the background here."
)


class RemoveBackground(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="ImageTo3D_RemoveBackground",
            display_name="Remove Background for 3D",
            aliases=(
                "remove background",
                "background removal",
                "rembg",
                "u2net",
                "cut out",
                "mask",
            ),
            description="Cuts the object out of each image, puts it on white and gives its mask.",
            inputs=[
                io.Image.Input(
                    "image", tooltip="One or more images. A fourth channel is used as alpha."
                ),
                io.Combo.Input(
                    "model",
                    options=list(METHODS),
                    default="auto",
                    tooltip=(
                        "auto: the image's alpha if it shows an object, plain if the border has one"
                        " colour, otherwise u2net. plain: removes the border's colour and needs no"
                        " model. The other names are models of rembg, read from models/rembg or"
                        " downloaded."
                    ),
                ),
                io.Float.Input(
                    "alpha_threshold",
                    default=DEFAULT_THRESHOLD,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Mask values below this become 0, which removes faint remains.",
                    **RARE,
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip=(
                        "Your own mask, 1 = object; no model runs then. Load Image's mask is the"
                        " other way round: put Invert Mask in between."
                    ),
                ),
            ],
            outputs=[
                io.Image.Output(
                    "image_on_white",
                    display_name="image",
                    tooltip=(
                        "The object on white. Its soft edge is in the mask: Frame Foreground blends"
                        " it."
                    ),
                ),
                io.Mask.Output("object_mask", display_name="mask", tooltip="1 = object."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @explained
    def execute(
        cls, image: Tensor, model: str, alpha_threshold: float, mask: Tensor | None = None
    ) -> io.NodeOutput:
        images = images_of(image)
        if mask is None:
            masks = _found_masks(images, model, alpha_threshold)
        else:
            masks = masks_of(mask, images).cpu()
            masks = masks * (masks >= alpha_threshold)
            if bool((masks == 1).all()):
                host.show_on_node(cls.hidden.unique_id, _EVERYTHING)
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
