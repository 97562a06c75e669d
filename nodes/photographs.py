"""Turn several photographs of one object into views from all sides."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io
from torch import Tensor

from ..pipelines.errors import InvalidInput
from ..pipelines.images.background import forget_models
from ..pipelines.multiview.photographs import (
    SIDES,
    Photographs,
    Viewpoints,
    complete,
    frame_photographs,
)
from ..pipelines.multiview.zero123plus import MultiviewModel
from ..pipelines.settings import Settings, ViewSettings
from . import host
from .errors import explained
from .multiview import WORKING_MEMORY
from .schema import RARE, from_setting, node_schema, seed_input
from .sockets import CamerasSocket, MultiviewModelSocket, image_socket, images_of

_TOOLTIPS = {
    "front": "The side that will face front.",
    "left": "The object's own left side; its front points to the left of the image.",
    "back": "The back.",
    "right": "The object's own right side; its front points to the right of the image.",
}


class PhotographsOfOneObject(io.ComfyNode):
    """Turns photographs of up to four sides of one object into views for Reconstruct.

    Removes the backgrounds, frames the object at one scale and generates the missing sides.
    """

    define_schema = node_schema(
        "ImageTo3D_Photographs",
        "Photographs of One Object",
        "multiple images, front left back right, multi-view input, four views",
        inputs=[
            *(
                io.Image.Input(side, optional=True, tooltip=text)
                for side, text in _TOOLTIPS.items()
            ),
            MultiviewModelSocket.Input(
                "model",
                optional=True,
                tooltip="Generates the missing sides; four photographs need none.",
            ),
            from_setting("elevation"),
            from_setting("remove_bg"),
            from_setting("foreground_ratio", step=0.01, **RARE),
            seed_input(),
            from_setting("steps", default=75, note="75, or 28 for a quick look."),
            from_setting("guidance", default=4.0, max=20.0, step=0.1, **RARE),
            from_setting("scheduler", **RARE),
        ],
        hidden=[io.Hidden.unique_id],
        outputs=[
            io.Image.Output("views", tooltip="The photographs, then the generated views."),
            CamerasSocket.Output("cameras", tooltip="The cameras of the views."),
        ],
    )

    @classmethod
    @explained
    def execute(
        cls,
        elevation: float,
        remove_bg: str,
        foreground_ratio: float,
        seed: int,
        steps: int,
        guidance: float,
        scheduler: str,
        front: Tensor | None = None,
        left: Tensor | None = None,
        back: Tensor | None = None,
        right: Tensor | None = None,
        model: host.Managed[MultiviewModel] | None = None,
    ) -> io.NodeOutput:
        given = dict(zip(SIDES, (front, left, back, right), strict=True))
        framed = _framed(given, elevation, remove_bg, foreground_ratio)
        views = framed.posed
        if not framed.viewpoints.complete:
            if model is None:
                raise InvalidInput(
                    "Some sides are missing: connect Load Multiview Model, which generates them, or"
                    " photographs of all four sides."
                )
            device = model.load(WORKING_MEMORY * model.model.view_size**2 // 320**2)
            settings = ViewSettings(steps=steps, guidance=guidance, scheduler=scheduler, seed=seed)
            views, _, chosen = complete(
                replace(model.model, device=device), framed, settings, progress=host.node_progress()
            )
            if not seed:
                host.show_on_node(cls.hidden.unique_id, f"Seed: {chosen}")
        return io.NodeOutput(image_socket(views.images), views.cameras)


def _framed(
    given: dict[str, Tensor | None], elevation: float, remove_bg: str, foreground_ratio: float
) -> Photographs:
    images = {side: images_of(image) for side, image in given.items() if image is not None}
    if not images:
        raise InvalidInput("There is no photograph: connect at least one side.")
    for side, own in images.items():
        if len(own) != 1:
            raise InvalidInput(f"{side} must be one image, got a batch of {len(own)}.")
    settings = Settings(remove_bg=remove_bg, foreground_ratio=foreground_ratio, elevation=elevation)
    try:
        return frame_photographs(
            list(images.values()),
            Viewpoints.of(images, settings),
            settings,
            background_models=host.background_dir(remove_bg),
            device=host.working_device(),
            progress=host.node_progress(),
        )
    finally:
        forget_models()  # ComfyUI's memory management does not know rembg's models
