"""Turn images and masks into framed images and masks."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..pipelines.images.colors import parse_color
from ..pipelines.images.framing import frame_foreground
from .errors import explained
from .schema import RARE, complaint, from_setting, node_schema, number
from .sockets import image_socket, images_of, mask_socket, masks_of


class FrameForeground(io.ComfyNode):
    """Centres each object in a square, at the size that the models expect."""

    define_schema = node_schema(
        "ImageTo3D_FrameForeground",
        "Frame Foreground",
        "resize foreground, center object, crop to mask",
        inputs=[
            io.Image.Input("image", tooltip="One or more images."),
            io.Mask.Input("mask", tooltip="1 = object; one for all images, or one for each."),
            from_setting("foreground_ratio", step=0.01),
            number("size", (512, 64, 2048), "Side of the result in pixels.", step=8, **RARE),
            io.String.Input(
                "background",
                default="#ffffff",
                tooltip="Colour behind the object: #rrggbb or a name. The models need white.",
                **RARE,
            ),
        ],
        outputs=[
            io.Image.Output("framed_image", display_name="image", tooltip="The framed image."),
            io.Mask.Output("framed_mask", display_name="mask", tooltip="1 = object."),
        ],
    )

    @classmethod
    def validate_inputs(cls, background: str | None = None) -> bool | str:
        return background is None or complaint(lambda: parse_color(background))

    @classmethod
    @explained
    def execute(
        cls, image: Tensor, mask: Tensor, foreground_ratio: float, size: int, background: str
    ) -> io.NodeOutput:
        images = images_of(image)[:, :3].cpu()
        framed, masks = frame_foreground(
            images,
            masks_of(mask, images).cpu(),
            foreground_ratio=foreground_ratio,
            size=size,
            background=parse_color(background),
        )
        return io.NodeOutput(image_socket(framed), mask_socket(masks))
