"""Turn images into meshes on ModelsLab's servers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..pipelines.images.reading import to_pillow
from ..pipelines.modelslab.request import MAX_CHUNK_SIZE, OUTPUT_FORMATS
from ..pipelines.modelslab.servers import DEFAULT
from . import host
from .errors import explained
from .mesh_sockets import mesh_socket
from .schema import RARE, complaint, from_setting, schema
from .sockets import FILE_3D, file_3d, images_of, video_socket

# Versions that cannot start with a fixed seed get no control: each Run would pay.
_CONTROL = getattr(io, "ControlAfterGenerate", None)
FIXED = _CONTROL.fixed if _CONTROL else False


class ModelsLabImageTo3D(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="ImageTo3D_ModelsLab",
            display_name="ModelsLab Image to 3D",
            aliases=("image to 3d api", "cloud"),
            description=(
                "Makes the mesh on ModelsLab's servers instead of here. The image leaves this"
                " machine, and each job costs credits. The API key is read from the variable"
                " MODELSLAB_API_KEY or from user/modelslab_api_key.txt, never from a workflow."
            ),
            inputs=_inputs(),
            outputs=[
                io.Mesh.Output(
                    "mesh", display_name="mesh", tooltip="One mesh for each image, y up."
                ),
                io.String.Output(
                    "path",
                    display_name="path",
                    tooltip="The first file, relative to the output folder: for Preview 3D.",
                ),
                io.String.Output(
                    "video_path",
                    display_name="video path",
                    tooltip="The first video, relative to the output folder, or empty.",
                ),
                io.String.Output(
                    "meta",
                    display_name="meta",
                    tooltip="Job ids, seeds and the server's answer for each job, as JSON.",
                ),
                io.Video.Output(
                    "video", display_name="video", tooltip="The first video; needs render."
                ),
                *(
                    [
                        FILE_3D.Output(
                            "file_3d",
                            display_name="file_3d",
                            tooltip="The first file, for core's 3D nodes.",
                        )
                    ]
                    if FILE_3D
                    else []
                ),
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
    meta = [
        {
            **result.meta,
            "job_id": result.job_id,
            "seed": result.seed,
            "seconds": result.generation_seconds,
            "links": result.links,
        }
        for result in results
    ]
    return io.NodeOutput(
        mesh_socket([result.mesh for result in results]),
        host.below_output(first.path).as_posix(),
        host.below_output(first.video).as_posix() if first.video else "",
        json.dumps(meta, indent=2),
        video_socket(first.video),
        *([file_3d(first.path)] if FILE_3D else []),
    )


def _inputs() -> list[Any]:
    return [
        io.Image.Input("image", tooltip="One or more images. They are uploaded to the server."),
        io.Boolean.Input(
            "remove_bg", default=True, tooltip="Let the server remove the background."
        ),
        from_setting(
            io.Float,
            "foreground_ratio",
            step=0.01,
            tooltip=("Longer side of the object as a share of the image's side. Needs remove_bg."),
        ),
        from_setting(
            io.Int, "resolution", default=256, step=16, tooltip="Cells along an edge of the grid."
        ),
        io.Int.Input(
            "chunk_size",
            default=8192,
            min=512,
            max=MAX_CHUNK_SIZE,
            step=32,
            tooltip="Points that the server evaluates at once.",
            **RARE,
        ),
        io.Boolean.Input("render", default=False, tooltip="Also make a video."),
        io.Boolean.Input(
            "temp", default=False, tooltip="Keep the results on the server for a short time only."
        ),
        io.Combo.Input(
            "output_format",
            options=list(OUTPUT_FORMATS),
            default="obj",
            tooltip="Format of the file.",
        ),
        io.String.Input(
            "model_id", default="instantmesh", tooltip="The server's name of the model.", **RARE
        ),
        io.String.Input(
            "job_id",
            default="",
            tooltip=(
                "Resume a job that was paid for before: its id is in the log and in the error."
                " Separate several, one for each image, with commas."
            ),
            **RARE,
        ),
        io.String.Input(
            "filename_prefix",
            default="3d/modelslab",
            tooltip="Folder and start of the file name, as in Save Image. The job's id is added.",
        ),
        io.Combo.Input(
            "server",
            options=host.modelslab_servers(),
            default=DEFAULT,
            optional=True,
            tooltip=(
                "modelslab.com, or a server from user/modelslab_servers.txt. Each line there has an"
                " address and, after a space, the key that is sent to it alone."
            ),
        ),
        io.Boolean.Input(
            "pay_again",
            default=False,
            optional=True,
            tooltip=(
                "Pay for a new job even if the same image and settings were paid for before."
                " Otherwise that job is resumed, also after a Stop or an error."
            ),
        ),
        *_advanced(),
        # Last, since only some versions put a control behind it.
        io.Int.Input(
            "seed",
            default=1,
            min=0,
            max=2**32 - 1,
            control_after_generate=FIXED,
            optional=True,
            tooltip=(
                "The same seed, image and settings are not paid for again. 0 lets the server draw"
                " one. Further images use the next seeds."
            ),
        ),
    ]


def _advanced() -> list[Any]:
    """Return the parameters of the vendor's newer models."""

    def one(kind: Any, name: str, default: float, low: float, high: float, tooltip: str) -> Any:
        step = {"step": 0.01 if high < 1 else 0.1} if kind is io.Float else {}
        return kind.Input(
            name,
            default=default,
            min=low,
            max=high,
            optional=True,
            tooltip=f"For newer models: {tooltip}.",
            **step,
            **RARE,
        )

    return [
        one(
            io.Float,
            "ss_guidance_strength",
            7.5,
            0.0,
            100.0,
            "how closely the structure follows the image",
        ),
        one(io.Int, "ss_sampling_steps", 12, 1, 50, "steps of the structure"),
        one(
            io.Float,
            "slat_guidance_strength",
            3.0,
            0.0,
            10.0,
            "how closely the details follow the image",
        ),
        one(io.Int, "slat_sampling_steps", 12, 1, 50, "steps of the details"),
        one(io.Float, "mesh_simplify", 0.9, 0.9, 0.98, "the share of triangles to remove"),
    ]
