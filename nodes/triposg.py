"""Turn one image into a fine shape with TripoSG."""

from __future__ import annotations

from functools import partial

from comfy_api.latest import io
from torch import Tensor

from ..pipelines.errors import InvalidInput
from ..pipelines.multiview.sampling import choose_seed
from ..pipelines.reconstruction.reconstruct import reconstruct
from ..pipelines.reconstruction.triposg import GUIDANCE, STEPS, TOKENS, Sampler, TripoSG
from ..pipelines.settings import ViewSettings, declared
from ..pipelines.weights.reconstruction_models import AnyReconstructionModel
from . import host
from .errors import explained
from .schema import RARE, schema
from .sockets import FieldSocket, ReconstructionModelSocket, images_of, masks_of

_WORKING_MEMORY = 2**30  # bytes, at 2048 tokens
_SETTINGS = declared(ViewSettings)


class ReconstructTripoSG(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="ImageTo3D_ReconstructTripoSG",
            display_name="Reconstruct with TripoSG",
            aliases=("triposg", "rectified flow", "image to shape", "image to 3d"),
            description=(
                "Samples the shape of the object in each framed image: fine, without colours,"
                " upright and facing front."
            ),
            inputs=[
                ReconstructionModelSocket.Input("model"),
                io.Image.Input("image", tooltip="Framed images, from Frame Foreground."),
                io.Mask.Input("mask", tooltip="The masks of the framed images, 1 = object."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=_SETTINGS["seed"].high,
                    control_after_generate=True,
                    tooltip=(
                        "The same seed and image give the same shape; 0 draws a seed and shows it."
                        " Further images of a batch use the next seeds."
                    ),
                ),
                io.Int.Input(
                    "steps",
                    default=STEPS,
                    min=_SETTINGS["steps"].low,
                    max=_SETTINGS["steps"].high,
                    tooltip="Sampling steps. Time is proportional to them.",
                ),
                io.Float.Input(
                    "guidance",
                    default=GUIDANCE,
                    min=_SETTINGS["guidance"].low,
                    max=_SETTINGS["guidance"].high,
                    step=0.1,
                    tooltip="How closely the shape follows the image. 1 or less halves the time.",
                    **RARE,
                ),
                io.Float.Input(
                    "shift",
                    default=1.0,
                    min=_SETTINGS["shift"].low,
                    max=_SETTINGS["shift"].high,
                    step=0.1,
                    tooltip="Above 1, more of the steps go to the coarse shape.",
                    **RARE,
                ),
                io.Int.Input(
                    "tokens",
                    default=TOKENS,
                    min=_SETTINGS["tokens"].low,
                    max=_SETTINGS["tokens"].high,
                    step=64,
                    tooltip="Latent vectors of the shape: fewer are faster and coarser.",
                    **RARE,
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[FieldSocket.Output("triplane", display_name="field")],
        )

    @classmethod
    @explained
    def execute(
        cls,
        model: host.Managed[AnyReconstructionModel],
        image: Tensor,
        mask: Tensor,
        seed: int,
        steps: int,
        guidance: float,
        shift: float,
        tokens: int,
    ) -> io.NodeOutput:
        inner = model.model
        if not isinstance(inner, TripoSG):
            raise InvalidInput(
                "This node needs the model triposg: choose it in Load Reconstruction Model, or use"
                " the node Reconstruct."
            )
        images = images_of(image)[:, :3]
        masks = masks_of(mask, images)
        first = choose_seed(seed)
        if not seed:
            host.show_on_node(cls.hidden.unique_id, f"Seed: {first}")
        device = model.load(_WORKING_MEMORY)
        sampler = partial(
            Sampler,
            inner,
            steps=steps,
            guidance=guidance,
            shift=shift,
            tokens=tokens,
            device=device,
        )
        fields = []
        with host.free_cores():
            for i, (one, own) in enumerate(zip(images.split(1), masks.split(1), strict=True)):
                chosen = sampler(
                    seed=(first + i - 1) % _SETTINGS["seed"].high + 1,
                    progress=host.node_progress(i, len(images)),
                )
                found = reconstruct(chosen, one.to(device), masks=own.to(device))
                fields.append(found.to("cpu"))
        return io.NodeOutput(fields)
