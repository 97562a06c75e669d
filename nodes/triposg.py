"""Turn one image into a detailed shape with TripoSG."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..pipelines.errors import InvalidInput
from ..pipelines.multiview.sampling import choose_seeds
from ..pipelines.reconstruction.reconstruct import reconstruct
from ..pipelines.reconstruction.triposg import GUIDANCE, STEPS, TOKENS, Sampler, TripoSG
from ..pipelines.weights.reconstruction_models import AnyReconstructionModel
from . import host
from .errors import explained
from .schema import RARE, from_setting, node_schema, seed_input
from .sockets import FieldSocket, ReconstructionModelSocket, images_of, masks_of

_WORKING_MEMORY = 2**30  # bytes, at 2048 tokens


class ReconstructTripoSG(io.ComfyNode):
    """Samples the shape of the object in each framed image.

    The shape is detailed, without colours, upright and facing front.
    """

    define_schema = node_schema(
        "ImageTo3D_ReconstructTripoSG",
        "Reconstruct with TripoSG",
        "triposg, rectified flow, image to shape, image to 3d",
        inputs=[
            ReconstructionModelSocket.Input("model"),
            io.Image.Input("image", tooltip="Framed images, from Frame Foreground."),
            io.Mask.Input("mask", tooltip="The masks of the framed images, 1 = object."),
            seed_input(),
            from_setting("steps", default=STEPS, note="Time is proportional to the steps."),
            from_setting(
                "guidance",
                default=GUIDANCE,
                step=0.1,
                note="Turning it off halves the time.",
                **RARE,
            ),
            from_setting("shift", default=1.0, step=0.1, **RARE),
            from_setting("tokens", default=TOKENS, step=64, **RARE),
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
        seeds = choose_seeds(seed, len(images))
        if not seed:
            host.show_on_node(cls.hidden.unique_id, f"Seed: {seeds[0]}")
        device = model.load(_WORKING_MEMORY)
        fields = []
        with host.free_cores():
            for one, own, drawn, progress in host.each(images.split(1), masks.split(1), seeds):
                sampler = Sampler(
                    inner, drawn, steps, guidance, shift, tokens, device, progress=progress
                )
                field = reconstruct(sampler, one.to(device), masks=own.to(device))
                fields.append(field.to("cpu"))
        return io.NodeOutput(fields)
