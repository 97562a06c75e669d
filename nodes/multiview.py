"""Turn a framed image into six views."""

from __future__ import annotations

from dataclasses import replace

import torch
from comfy_api.latest import io
from torch import Tensor

from ..pipelines.devices import DTYPES
from ..pipelines.multiview.generation import generate_views
from ..pipelines.multiview.sampling import choose_seed
from ..pipelines.multiview.schedulers import SCHEDULERS
from ..pipelines.multiview.zero123plus import MultiviewModel
from ..pipelines.settings import ViewSettings
from ..pipelines.weights.multiview_models import load_multiview_model
from ..pipelines.weights.presets import MULTIVIEW_PRESETS
from . import host
from .errors import explained
from .graph import check_loaders
from .schema import RARE, schema
from .sockets import MultiviewModelSocket, image_socket, images_of, masks_of

_WORKING_MEMORY = 3 * 2**30  # bytes at views of 320 x 320


class LoadMultiviewModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="ImageTo3D_LoadMultiviewModel",
            display_name="Load Multiview Model",
            aliases=("zero123", "zero123plus", "zero123++", "multiview diffusion"),
            description=(
                "Loads a model that draws six views of an object. Looks in models/image_to_3d,"
                " then in the Hugging Face cache, then downloads."
            ),
            inputs=[
                io.Combo.Input(
                    "model",
                    options=list(MULTIVIEW_PRESETS),
                    default="zero123plus-instantmesh",
                    tooltip=(
                        "zero123plus-instantmesh: Zero123++ v1.2 with InstantMesh's U-Net, best for"
                        " photographs (about 6 GB, CC-BY-NC). zero123plus: the stock v1.2."
                    ),
                ),
                io.Combo.Input(
                    "dtype",
                    options=["auto", *DTYPES],
                    default="auto",
                    tooltip="auto follows ComfyUI's options and the device.",
                    **RARE,
                ),
            ],
            outputs=[MultiviewModelSocket.Output("multiview_model", display_name="model")],
            hidden=[io.Hidden.prompt],
        )

    @classmethod
    @explained
    def execute(cls, model: str, dtype: str) -> io.NodeOutput:
        check_loaders(cls.hidden.prompt, model, host.models_dirs())
        loaded = load_multiview_model(
            model,
            models_dirs=host.models_dirs(),
            device=host.offload_device(),
            dtype=host.chosen_dtype(dtype),
            progress=host.node_progress(),
        )
        return io.NodeOutput(host.manage(loaded, loaded.unet, loaded.vae, loaded.vision_encoder))


class GenerateViews(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="ImageTo3D_GenerateViews",
            display_name="Generate Views",
            aliases=("zero123", "multiview", "novel views", "instantmesh"),
            description=(
                "Draws six views around the object in each image: azimuths 30 to 330 degrees,"
                " elevations 20 and -10 in turn."
            ),
            inputs=[
                MultiviewModelSocket.Input("model"),
                io.Image.Input("image", tooltip="Framed images on white, from Frame Foreground."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip=(
                        "The same seed and image give the same views; 0 draws a seed and shows it."
                        " Further images of a batch use the next seeds."
                    ),
                ),
                io.Int.Input(
                    "steps",
                    default=75,
                    min=1,
                    max=1000,
                    tooltip="Denoising steps: 75, or 28 for a quick look.",
                ),
                io.Float.Input(
                    "guidance",
                    default=4.0,
                    min=0.0,
                    max=20.0,
                    step=0.1,
                    tooltip="How closely the views follow the image.",
                    **RARE,
                ),
                io.Combo.Input(
                    "scheduler",
                    options=list(SCHEDULERS),
                    default="euler_ancestral",
                    tooltip="The sampling method.",
                    **RARE,
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip=(
                        "1 = object. The stock zero123plus needs it to put the object on grey."
                    ),
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                io.Image.Output(
                    "views", display_name="views", tooltip="Six views for each image, in order."
                ),
                io.Image.Output(
                    "grid",
                    display_name="grid",
                    tooltip="The six views as one image, three rows of two, for each image.",
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
        steps: int,
        guidance: float,
        scheduler: str,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        images = images_of(image)[:, :3]
        masks = [None] * len(images) if mask is None else masks_of(mask, images).split(1)
        device = model.load(_WORKING_MEMORY * model.model.view_size**2 // 320**2)
        first = choose_seed(seed)
        if not seed:
            host.show_on_node(cls.hidden.unique_id, f"Seed: {first}")
        generated = [
            generate_views(
                replace(model.model, device=device),
                one,
                its_mask,
                ViewSettings(
                    steps=steps,
                    guidance=guidance,
                    scheduler=scheduler,
                    seed=(first + i - 1) % 0xFFFFFFFFFFFFFFFF + 1,
                ),
                progress=host.node_progress(i, len(images)),
            )
            for i, (one, its_mask) in enumerate(zip(images.split(1), masks, strict=True))
        ]
        return io.NodeOutput(
            *(
                image_socket(torch.cat(images))
                for images in zip(*((g.views, g.grid) for g in generated), strict=True)
            )
        )
