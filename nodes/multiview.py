"""Turn a framed image into six views."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..pipelines.multiview.generation import generate_views
from ..pipelines.multiview.sampling import choose_seeds
from ..pipelines.multiview.zero123plus import MultiviewModel
from ..pipelines.settings import ViewSettings
from ..pipelines.weights.multiview_models import load_multiview_model
from . import host
from .errors import explained
from .graph import check_loaders
from .schema import RARE, dtype_input, from_setting, node_schema, seed_input
from .sockets import MultiviewModelSocket, image_socket, images_of, masks_of

WORKING_MEMORY = 3 * 2**30  # bytes at views of 320 x 320


class LoadMultiviewModel(io.ComfyNode):
    """Loads a model that draws six views of an object.

    Looks in models/image_to_3d, then in the Hugging Face cache, then downloads.
    """

    define_schema = node_schema(
        "ImageTo3D_LoadMultiviewModel",
        "Load Multiview Model",
        "zero123, zero123plus, zero123++, multiview diffusion",
        inputs=[
            from_setting(
                "model",
                setting="views_model",
                default="zero123plus-instantmesh",
                note="zero123plus-instantmesh: Zero123++ v1.2 with InstantMesh's U-Net, best"
                " for photographs (about 4.5 GB, CC-BY-NC). zero123plus: the stock v1.2.",
            ),
            dtype_input(),
        ],
        outputs=[MultiviewModelSocket.Output("multiview_model", display_name="model")],
        hidden=[io.Hidden.prompt],
    )

    @classmethod
    @explained
    def execute(cls, model: str, dtype: str) -> io.NodeOutput:
        check_loaders(cls.hidden.prompt, model, host.models_dirs())
        loaded = load_multiview_model(model, **host.loading(dtype))
        return io.NodeOutput(host.manage(loaded, loaded.unet, loaded.vae, loaded.vision_encoder))


class GenerateViews(io.ComfyNode):
    """Draws six views around the object in each image.

    The azimuths are 30 to 330 degrees, the elevations 20 and -10 in turn.
    """

    define_schema = node_schema(
        "ImageTo3D_GenerateViews",
        "Generate Views",
        "zero123, multiview, novel views, instantmesh",
        inputs=[
            MultiviewModelSocket.Input("model"),
            io.Image.Input("image", tooltip="Framed images on white, from Frame Foreground."),
            seed_input(),
            from_setting("steps", default=75, note="75, or 28 for a quick look."),
            from_setting("guidance", default=4.0, max=20.0, step=0.1, **RARE),
            from_setting("scheduler", **RARE),
            io.Mask.Input(
                "mask",
                optional=True,
                tooltip="1 = object. The stock zero123plus needs it to put the object on grey.",
            ),
        ],
        hidden=[io.Hidden.unique_id],
        outputs=[
            io.Image.Output("views", tooltip="Six views for each image, in order."),
            io.Image.Output(
                "grid", tooltip="The six views as one image, three rows of two, for each image."
            ),
        ],
    )

    @classmethod
    @explained
    def execute(
        cls,
        model: host.Managed[MultiviewModel],
        image: Tensor,
        seed: int,
        mask: Tensor | None = None,
        **values: Any,
    ) -> io.NodeOutput:
        images = images_of(image)[:, :3]
        masks = [None] * len(images) if mask is None else masks_of(mask, images).split(1)
        device = model.load(WORKING_MEMORY * model.model.view_size**2 // 320**2)
        placed = replace(model.model, device=device)
        seeds = choose_seeds(seed, len(images))
        if not seed:
            host.show_on_node(cls.hidden.unique_id, f"Seed: {seeds[0]}")
        generated = []
        for one, own, drawn, progress in host.each(images.split(1), masks, seeds):
            settings = ViewSettings(seed=drawn, **values)
            generated.append(generate_views(placed, one, own, settings, progress=progress))
        return io.NodeOutput(
            image_socket(torch.cat([g.views for g in generated])),
            image_socket(torch.cat([g.grid for g in generated])),
        )
