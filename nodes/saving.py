"""Turn meshes into files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..pipelines.meshes.io import UpAxis, lost, mesh_path, save_mesh
from ..pipelines.meshes.io.glb_material import TextureFormat
from ..pipelines.meshes.placement import place
from . import host
from .cleaning import FOLDER
from .errors import explained
from .mesh_sockets import meshes_of
from .schema import RARE, complaint, from_setting, longest_side_input, node_schema, number
from .sockets import file_3d, file_3d_output, path_output


class SaveMesh(io.ComfyNode):
    """Saves meshes as files below ComfyUI's output folder."""

    define_schema = node_schema(
        "ImageTo3D_SaveMesh",
        "Save Mesh File",
        "save mesh, export mesh, obj, glb, stl, ply, 3mf, 3d print",
        folder=FOLDER,
        is_output_node=True,
        inputs=[
            io.Mesh.Input("mesh", tooltip="From this pack, from core or from other packs."),
            io.String.Input(
                "filename_prefix",
                default="3d/ComfyUI",
                tooltip="Folder and start of the file name, as in Save Image. %year% and so on"
                " work.",
            ),
            from_setting(
                "format",
                note="glb keeps everything; obj keeps colours, textures and most of a material; ply"
                " and 3mf keep colours; stl keeps the shape only.",
            ),
            from_setting(
                "up_axis", tooltip="y for viewers and game engines, z for printing and CAD."
            ),
            longest_side_input("Length in the file's unit: millimetres for stl and 3mf."),
            from_setting(
                "pivot", tooltip="The origin: unchanged, in the centre, or at the bottom.", **RARE
            ),
            number(
                "turn",
                (0.0, -360.0, 360.0),
                "Degrees around the vertical axis: 90 puts the front where the left side was.",
                step=90.0,
                **RARE,
            ),
            from_setting(
                "texture_format",
                optional=True,
                note="jpeg and webp are a few times smaller; not every viewer reads webp. The"
                " texture of an obj is always a png.",
                **RARE,
            ),
        ],
        outputs=[
            path_output(),
            file_3d_output(),
            io.String.Output(
                "paths",
                is_output_list=True,
                tooltip="A list of all files, relative to the output folder.",
            ),
        ],
        hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
    )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None) -> bool | str:
        return filename_prefix is None or complaint(lambda: host.check_prefix(filename_prefix))

    @classmethod
    @explained
    def execute(
        cls,
        mesh: Any,
        filename_prefix: str,
        format: str,
        up_axis: UpAxis,
        longest_side: float = 0.0,
        pivot: str = "keep",
        turn: float = 0.0,
        texture_format: TextureFormat = "png",
    ) -> io.NodeOutput:
        meshes = meshes_of(mesh)
        metadata = host.file_metadata(cls.hidden.prompt, cls.hidden.extra_pnginfo)
        folder, names = host.output_names(filename_prefix, len(meshes))
        paths = [
            mesh_path(folder, name, format, one) for one, name in zip(meshes, names, strict=True)
        ]
        for one, path, progress in host.each(meshes, paths):
            save_mesh(
                place(one, size=longest_side, pivot=pivot, turn_deg=turn),
                path,
                up_axis=up_axis,
                metadata=metadata,
                texture_format=texture_format if format == "glb" else "png",
            )
            progress(1, 1)
        if messages := sorted({lost(one, format) for one in meshes} - {""}):
            host.show_on_node(cls.hidden.unique_id, "\n".join(messages))
        return _output(paths)


def _output(paths: Sequence[Path]) -> io.NodeOutput:
    relative = [host.below_output(path) for path in paths]
    folders = [path.parent.as_posix().removeprefix(".") for path in relative]
    saved = [
        {"filename": path.name, "subfolder": folder, "type": "output"}
        for path, folder in zip(relative, folders, strict=True)
    ]
    names = [path.as_posix() for path in relative]
    return io.NodeOutput(names[0], file_3d(paths[0]), names, ui={"3d": saved})
