"""Image and mask to a framed image and mask."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..pipelines.images.colors import parse_color
from ..pipelines.images.framing import frame_foreground
from . import host
from .sockets import image_socket, images_of, mask_socket, masks_of


class FrameForeground(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageTo3D_FrameForeground",
            display_name="Frame Foreground",
            category="3d/Image to 3D",
            description=(
                "Puts each object in the middle of a square, at the size that the models expect."
            ),
            inputs=[
                io.Image.Input("image", tooltip="One or several images."),
                io.Mask.Input("mask", tooltip="1 = object; one for all images, or one for each."),
                io.Float.Input(
                    "foreground_ratio",
                    default=0.85,
                    min=0.1,
                    max=1.0,
                    step=0.01,
                    tooltip="The object's larger side over the image's side.",
                ),
                io.Int.Input(
                    "size",
                    default=512,
                    min=64,
                    max=2048,
                    step=8,
                    tooltip="Pixels of a side of the result.",
                ),
                io.String.Input(
                    "background",
                    default="#ffffff",
                    tooltip=(
                        "Colour behind the object, as #rrggbb or a name. The models expect white."
                    ),
                ),
            ],
            outputs=[
                io.Image.Output("framed_image", display_name="image", tooltip="The framed image."),
                io.Mask.Output("framed_mask", display_name="mask", tooltip="1 = object."),
            ],
        )

    @classmethod
    @host.explained
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
