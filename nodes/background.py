"""Turn images into the object on white, and its mask."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..pipelines.images.background import forget_models, remove_background
from ..pipelines.images.framing import cut_out
from . import host
from .errors import explained
from .schema import RARE, from_setting, node_schema
from .sockets import image_socket, images_of, mask_socket, masks_of

_EVERYTHING = (
    "The mask is 1 everywhere, so the whole image is the object. Load Image's mask of an opaque"
    " image, inverted, looks like this: disconnect it to remove the background here."
)


class RemoveBackground(io.ComfyNode):
    """Cuts the object out of each image, puts it on white and returns its mask."""

    define_schema = node_schema(
        "ImageTo3D_RemoveBackground",
        "Remove Background for 3D",
        "remove background, background removal, rembg, u2net, cut out, mask",
        inputs=[
            io.Image.Input(
                "image", tooltip="One or more images. A fourth channel is used as alpha."
            ),
            from_setting(
                "model",
                setting="remove_bg",
                note="Models of rembg are read from models/rembg or downloaded.",
            ),
            from_setting("alpha_threshold", step=0.01, **RARE),
            io.Mask.Input(
                "mask",
                optional=True,
                tooltip="Your own mask, 1 = object; no model runs then. Load Image's mask is"
                " inverted: put Invert Mask in between.",
            ),
        ],
        outputs=[
            io.Image.Output(
                "image_on_white",
                display_name="image",
                tooltip="The object on white. Frame Foreground blends its soft edge.",
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


def _found_masks(images: Tensor, method: str, threshold: float) -> Tensor:
    try:
        return remove_background(
            images,
            method,
            models_dir=host.background_dir(method),
            device=host.working_device().type,
            threshold=threshold,
            progress=host.node_progress(),
        )
    finally:
        forget_models()  # ComfyUI's memory management does not know rembg's models
