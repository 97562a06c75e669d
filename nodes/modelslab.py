"""Picture to mesh in the cloud."""

from __future__ import annotations

import json
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..pipelines.mesh_io import load_mesh
from ..pipelines.pictures.reading import to_pillow
from . import host
from .sockets import FILE_3D, file_3d, images_of, mesh_socket


class ModelsLabImageTo3D(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageTo3D_ModelsLab",
            display_name="ModelsLab Image to 3D",
            category="3d/Image to 3D",
            description=(
                "Makes the mesh on ModelsLab's servers instead of here. The picture leaves this"
                " machine, and each job costs credits. The API key is read from the variable"
                " MODELSLAB_API_KEY or from user/modelslab_api_key.txt, never from a workflow."
            ),
            inputs=[
                io.Image.Input(
                    "image", tooltip="One or several pictures. They are uploaded to ModelsLab."
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
                        "The object's larger side over the picture's side; counts only with"
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
                    max=12000,
                    step=256,
                    tooltip="Points that the server evaluates at once.",
                ),
                io.Int.Input(
                    "seed",
                    default=1,
                    min=0,
                    max=2**32 - 1,
                    control_after_generate=True,
                    tooltip=(
                        "The same seed and picture are not sent and paid for again. 0 lets the"
                        " server draw one. Further pictures have the next seeds."
                    ),
                ),
                io.Boolean.Input("render", default=False, tooltip="Also have a video made."),
                io.Boolean.Input(
                    "temp",
                    default=False,
                    tooltip="Have the results kept in a temporary place on the server.",
                ),
                io.Combo.Input(
                    "output_format", options=["obj", "glb"], default="obj", tooltip="Of the file."
                ),
                io.String.Input(
                    "model_id", default="instantmesh", tooltip="ModelsLab's name of the model."
                ),
                io.String.Input(
                    "job_id",
                    default="",
                    tooltip=(
                        "Take up a job that was started and paid for before: its id is in the log"
                        " and in the error. Several, one for each picture, with commas between."
                    ),
                ),
                io.String.Input(
                    "filename_prefix",
                    default="3d/modelslab",
                    tooltip="Folder and beginning of the file's name, as in Save Image.",
                ),
            ],
            outputs=[
                io.Mesh.Output(
                    "mesh", display_name="mesh", tooltip="One mesh for each picture, y up."
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
        cls, image: Tensor, job_id: str, filename_prefix: str, **values: Any
    ) -> io.NodeOutput:
        from ..pipelines.modelslab.batch import images_to_3d  # httpx is needed here alone

        pictures = [to_pillow(one) for one in images_of(image)[:, :3].split(1)]
        folder, names = host.output_names(filename_prefix, len(pictures))
        results = await images_to_3d(
            host.modelslab_client(),
            pictures,
            values,
            [folder / name for name in names],
            job_ids=[job.strip() for job in job_id.split(",")],
            progress_of=lambda i: host.node_progress(i, len(pictures)),
            notice=lambda text: host.show_on_node(cls.hidden.unique_id, text),
        )
        paths = [
            host.below_output(file).as_posix()
            for file in (results[0].mesh, results[0].video)
            if file
        ]
        meta = [
            {
                "job_id": r.job_id,
                "seed": r.seed,
                "seconds": r.generation_seconds,
                "links": r.links,
                **r.meta,
            }
            for r in results
        ]
        return io.NodeOutput(
            mesh_socket([load_mesh(result.mesh) for result in results]),
            paths[0],
            paths[1] if len(paths) > 1 else "",
            json.dumps(meta, indent=2),
            *([file_3d(results[0].mesh)] if FILE_3D else []),
        )
