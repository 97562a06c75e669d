"""Image to mesh in the cloud."""

from __future__ import annotations

import json
from inspect import signature
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..pipelines.images.reading import to_pillow
from ..pipelines.modelslab.request import MAX_CHUNK_SIZE, OUTPUT_FORMATS
from ..pipelines.modelslab.servers import DEFAULT
from . import host
from .sockets import FILE_3D, file_3d, images_of, mesh_socket, video_socket

# Where the version cannot begin as fixed, there is no control: each Run would pay.
_CONTROL = getattr(io, "ControlAfterGenerate", None)
FIXED = _CONTROL.fixed if _CONTROL else False


class ModelsLabImageTo3D(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageTo3D_ModelsLab",
            display_name="ModelsLab Image to 3D",
            category="3d/Image to 3D",
            description=(
                "Makes the mesh on ModelsLab's servers instead of here. The image leaves this"
                " machine, and each job costs credits. The API key is read from the variable"
                " MODELSLAB_API_KEY or from user/modelslab_api_key.txt, never from a workflow."
            ),
            inputs=[
                io.Image.Input(
                    "image", tooltip="One or several images. They are uploaded to ModelsLab."
                ),
                io.Boolean.Input(
                    "remove_bg", default=True, tooltip="Let ModelsLab remove the background."
                ),
                io.Float.Input(
                    "foreground_ratio",
                    default=0.85,
                    min=0.1,
                    max=1.0,
                    step=0.01,
                    tooltip=(
                        "The object's larger side over the image's side; counts only with"
                        " remove_bg."
                    ),
                ),
                io.Int.Input(
                    "resolution",
                    default=256,
                    min=32,
                    max=512,
                    step=16,
                    tooltip="Of the surface grid.",
                ),
                io.Int.Input(
                    "chunk_size",
                    default=8192,
                    min=512,
                    max=MAX_CHUNK_SIZE,
                    step=32,
                    tooltip="Points that the server evaluates at once.",
                ),
                io.Boolean.Input("render", default=False, tooltip="Also have a video made."),
                io.Boolean.Input(
                    "temp",
                    default=False,
                    tooltip="Have the results kept in a temporary place on the server.",
                ),
                io.Combo.Input(
                    "output_format",
                    options=list(OUTPUT_FORMATS),
                    default="obj",
                    tooltip="Of the file.",
                ),
                io.String.Input(
                    "model_id", default="instantmesh", tooltip="ModelsLab's name of the model."
                ),
                io.String.Input(
                    "job_id",
                    default="",
                    tooltip=(
                        "Take up a job that was started and paid for before: its id is in the log"
                        " and in the error. Several, one for each image, with commas between."
                    ),
                ),
                io.String.Input(
                    "filename_prefix",
                    default="3d/modelslab",
                    tooltip=(
                        "Folder and beginning of the file's name, as in Save Image. The job's id"
                        " is added."
                    ),
                ),
                io.Combo.Input(
                    "server",
                    options=host.modelslab_servers(),
                    default=DEFAULT,
                    optional=True,
                    tooltip=(
                        "modelslab.com, or one of those in user/modelslab_servers.txt: a line each,"
                        " with the address and, after a space, the key that goes there alone."
                    ),
                ),
                io.Boolean.Input(
                    "pay_again",
                    default=False,
                    optional=True,
                    tooltip=(
                        "Pay for a new job even if the same image and settings were paid for"
                        " before. Otherwise that job is taken up, after a Stop or an error too."
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
                        "The same seed, image and settings are not paid for again. 0 lets the"
                        " server draw one. Further images have the next seeds."
                    ),
                ),
            ],
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
                    tooltip="Job ids, seeds and what the server said of each job, as JSON.",
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
    @host.explained
    async def execute(
        cls,
        image: Tensor,
        job_id: str,
        filename_prefix: str,
        server: str = DEFAULT,
        pay_again: bool = False,
        **values: Any,
    ) -> io.NodeOutput:
        from ..pipelines.modelslab.client import images_to_3d  # httpx is needed here alone

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


def _advanced() -> list[Any]:
    """Parameters of the vendor's newer documents, folded away where the version does that."""
    folded = {"advanced": True} if "advanced" in signature(io.Int.Input).parameters else {}

    def one(kind: Any, name: str, default: float, low: float, high: float, tooltip: str) -> Any:
        step = {"step": 0.01 if high < 1 else 0.1} if kind is io.Float else {}
        return kind.Input(
            name,
            default=default,
            min=low,
            max=high,
            optional=True,
            tooltip=f"Of newer models: {tooltip}.",
            **step,
            **folded,
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
        one(io.Float, "mesh_simplify", 0.9, 0.9, 0.98, "the share of triangles that is taken away"),
    ]
