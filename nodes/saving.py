"""Meshes to files."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..pipelines.meshes.io import FORMATS, UpAxis, lost, mesh_path, save_mesh
from ..pipelines.meshes.io.glb_material import TEXTURE_FORMATS, TextureFormat
from ..pipelines.meshes.placement import place
from . import host
from .sockets import FILE_3D, file_3d, meshes_of


class SaveMesh(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageTo3D_SaveMesh",
            display_name="Save Mesh",
            category="3d/Image to 3D",
            description=(
                "Saves meshes of this pack or of core's nodes below ComfyUI's output folder, whole"
                " or not at all."
            ),
            is_output_node=True,
            inputs=[
                io.Mesh.Input("mesh"),
                io.String.Input(
                    "filename_prefix",
                    default="3d/ComfyUI",
                    tooltip=(
                        "Folder and beginning of the file's name, as in Save Image; %year% and so"
                        " on work."
                    ),
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="obj",
                    tooltip=(
                        "glb carries all, obj colours, textures and most of a material, ply and 3mf"
                        " colours; stl is the shape alone."
                    ),
                ),
                io.Combo.Input(
                    "up_axis",
                    options=["y", "z"],
                    default="y",
                    tooltip="y for viewers and game engines, z for printing and CAD.",
                ),
                io.Float.Input(
                    "longest_side",
                    default=0.0,
                    min=0.0,
                    max=100_000.0,
                    step=1.0,
                    tooltip=(
                        "Length of the longest side in the file's unit: millimetres for stl and"
                        " 3mf. 0 keeps the size as it is."
                    ),
                ),
                io.Combo.Input(
                    "pivot",
                    options=["keep", "center", "bottom"],
                    default="keep",
                    tooltip="Where the origin lies: as it is, in the middle, or below it.",
                ),
                io.Float.Input(
                    "turn",
                    default=0.0,
                    min=-360.0,
                    max=360.0,
                    step=90.0,
                    tooltip=(
                        "Degrees around the upright axis: 90 puts the front where the left was."
                    ),
                ),
                io.Combo.Input(
                    "texture_format",
                    options=list(TEXTURE_FORMATS),
                    default="png",
                    optional=True,
                    tooltip=(
                        "Of the texture in a glb. jpeg and webp are a few times smaller; not every"
                        " viewer reads webp. Beside an obj it is a png."
                    ),
                ),
            ],
            outputs=[
                io.String.Output(
                    "path",
                    display_name="path",
                    tooltip="The first file, relative to the output folder: for Preview 3D.",
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
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
        )

    @classmethod
    @host.explained
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
        folder, names = host.output_names(filename_prefix, len(meshes))
        metadata = host.file_metadata(cls.hidden.prompt, cls.hidden.extra_pnginfo)
        paths = [
            mesh_path(folder, name, format, one) for one, name in zip(meshes, names, strict=True)
        ]
        for i, (one, path) in enumerate(zip(meshes, paths, strict=True)):
            save_mesh(
                place(one, size=longest_side, pivot=pivot, turn_deg=turn),
                path,
                up_axis=up_axis,
                metadata=metadata,
                texture_format=texture_format if format == "glb" else "png",
            )
            host.node_progress()(i + 1, len(meshes))
        if left_out := sorted({lost(one, format) for one in meshes} - {""}):
            host.show_on_node(cls.hidden.unique_id, "\n".join(left_out))
        below_output = [host.below_output(path) for path in paths]
        saved = [
            {
                "filename": path.name,
                "subfolder": path.parent.as_posix().removeprefix("."),
                "type": "output",
            }
            for path in below_output
        ]
        return io.NodeOutput(
            below_output[0].as_posix(), *([file_3d(paths[0])] if FILE_3D else []), ui={"3d": saved}
        )
