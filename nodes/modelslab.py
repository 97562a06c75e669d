"""Turn images into meshes on ModelsLab's servers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..pipelines.images.reading import to_pillow
from ..pipelines.modelslab.request import NEWER, Request
from ..pipelines.modelslab.servers import DEFAULT
from ..pipelines.settings import declared
from . import host
from .errors import explained
from .mesh_sockets import mesh_socket
from .schema import RARE, complaint, from_setting, node_schema
from .sockets import file_3d, file_3d_output, images_of, path_output, video_socket

# In versions whose seed control cannot start as "fixed", the seed gets no control: otherwise each
# Run would change the seed and pay for a new job.
_CONTROL = getattr(io, "ControlAfterGenerate", None)
FIXED = _CONTROL.fixed if _CONTROL else False
_REQUEST = declared(Request)


class ModelsLabImageTo3D(io.ComfyNode):
    """Makes the mesh on ModelsLab's servers instead of here.

    The image leaves this machine, and each job costs credits. The API key is read from the variable
    MODELSLAB_API_KEY or from user/modelslab_api_key.txt, never from a workflow.
    """

    define_schema = node_schema(
        "ImageTo3D_ModelsLab",
        "ModelsLab Image to 3D",
        "image to 3d api, cloud",
        inputs=lambda: [
            io.Image.Input("image", tooltip="One or more images. They are uploaded to the server."),
            _from_request("remove_bg", default=True),
            from_setting("foreground_ratio", step=0.01, note="Needs remove_bg."),
            from_setting("resolution", default=_REQUEST["resolution"].default, step=16),
            _from_request("chunk_size", min=512, step=32, **RARE),
            *map(_from_request, ("render", "temp", "output_format")),
            _from_request("model_id", **RARE),
            io.String.Input(
                "job_id",
                default="",
                tooltip="Resume a job that was paid for before. Its id is in the log and in the"
                " error. Separate the ids of several images with commas.",
                **RARE,
            ),
            io.String.Input(
                "filename_prefix",
                default="3d/modelslab",
                tooltip="Folder and start of the file name, as in Save Image. The job's id is"
                " added.",
            ),
            io.Combo.Input(
                "server",
                options=host.modelslab_servers(),
                default=DEFAULT,
                optional=True,
                tooltip="modelslab.com, or a server from user/modelslab_servers.txt. Each line"
                " there has an address and, after a space, the key that is sent to it alone.",
            ),
            io.Boolean.Input(
                "pay_again",
                default=False,
                optional=True,
                tooltip="Pay for a new job even if the same image and settings were paid for"
                " before. Otherwise that job is resumed, also after a Stop or an error.",
            ),
            *_newer_inputs(),
            # The seed must be last: only some versions add a control after it.
            _from_request("seed", default=1, control_after_generate=FIXED, optional=True),
        ],
        outputs=[
            io.Mesh.Output("mesh", tooltip="One mesh for each image, y up."),
            path_output(),
            io.String.Output(
                "video_path",
                display_name="video path",
                tooltip="The first video, relative to the output folder, or empty.",
            ),
            io.String.Output(
                "meta", tooltip="Job ids, seeds and the server's answer for each job, as JSON."
            ),
            io.Video.Output("video", tooltip="The first video; needs render."),
            file_3d_output(),
        ],
        hidden=[io.Hidden.unique_id],
    )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None) -> bool | str:
        return filename_prefix is None or complaint(lambda: host.check_prefix(filename_prefix))

    @classmethod
    @explained
    async def execute(
        cls,
        image: Tensor,
        job_id: str,
        filename_prefix: str,
        server: str = DEFAULT,
        pay_again: bool = False,
        **values: Any,
    ) -> io.NodeOutput:
        from ..pipelines.modelslab.client import images_to_3d  # the only one that needs httpx

        images = [to_pillow(one) for one in images_of(image)[:, :3].split(1)]
        folder, names = host.output_names(filename_prefix, len(images))
        results = await images_to_3d(
            host.modelslab_client(server),
            images,
            values,
            [folder / name.rstrip("_") for name in names],
            job_ids=[job.strip() for job in job_id.split(",")],
            pay_again=pay_again,
            progress_of=lambda i: host.node_progress(i, len(images)),
            notice=lambda text: host.show_on_node(cls.hidden.unique_id, text),
        )
        return _output(results)


def _output(results: Sequence[Any]) -> io.NodeOutput:
    first = results[0]
    video = host.below_output(first.video).as_posix() if first.video else ""
    return io.NodeOutput(
        mesh_socket([result.mesh for result in results]),
        host.below_output(first.path).as_posix(),
        video,
        json.dumps([result.record for result in results], indent=2),
        video_socket(first.video),
        file_3d(first.path),
    )


def _newer_inputs() -> list[Any]:
    """Return the parameters of the vendor's newer models."""
    steps = {"ss_guidance_strength": 0.1, "slat_guidance_strength": 0.1, "mesh_simplify": 0.01}
    own = {name: {"step": steps[name]} if name in steps else {} for name in NEWER}
    return [_from_request(name, optional=True, **own[name], **RARE) for name in NEWER]


def _from_request(name: str, **own: Any) -> Any:
    """Return a widget for a parameter of the service."""
    return from_setting(name, setting=_REQUEST[name], **own)
