"""Meshes to better meshes, to text and to images; files to meshes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..pipelines.cameras import ZERO123PLUS_FOV_Y_DEG, orbit_cameras
from ..pipelines.errors import InvalidInput
from ..pipelines.meshes.cleaning import clean
from ..pipelines.meshes.io import FORMATS, load_mesh, mesh_files
from ..pipelines.meshes.report import report
from ..pipelines.meshes.solid import (
    DEFAULT_SOLID_RESOLUTION,
    MAX_SOLID_RESOLUTION,
    MIN_SOLID_RESOLUTION,
    make_solid,
)
from ..pipelines.rendering.render_mesh import render_mesh
from . import host
from .sockets import FILE_3D, image_socket, mesh_of_file_3d, mesh_socket, meshes_of


def _faces_input(default: int, most: int) -> io.Int.Input:
    return io.Int.Input(
        "max_faces",
        default=default,
        min=0,
        max=most,
        step=1000,
        tooltip="Decimate to at most so many triangles. 0 leaves all.",
    )


class CleanMesh(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageTo3D_CleanMesh",
            display_name="Clean Mesh",
            category="3d/Image to 3D",
            description=(
                "Merges double vertices and drops empty triangles, and does what else is asked for,"
                " in this order. A texture becomes colours of vertices: texture a mesh after it is"
                " cleaned."
            ),
            inputs=[
                io.Mesh.Input("mesh"),
                io.Float.Input(
                    "min_part_share",
                    default=0.05,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip=(
                        "Parts with a smaller surface than this share of the largest part's go. 1"
                        " keeps the largest alone, 0 all."
                    ),
                ),
                io.Int.Input(
                    "fill_holes",
                    default=32,
                    min=0,
                    max=10_000,
                    tooltip=(
                        "Holes with at most so many edges are filled. 0 fills none. The rim of a"
                        " sheet or of a bowl is no hole."
                    ),
                ),
                io.Int.Input(
                    "smooth",
                    default=0,
                    min=0,
                    max=100,
                    tooltip="Rounds of Taubin's smoothing: noise goes, volume stays.",
                ),
                _faces_input(default=0, most=2_000_000),
                io.Boolean.Input(
                    "watertight",
                    default=False,
                    tooltip=("Close the mesh for printing, as Make Solid does with 256 cells."),
                ),
            ],
            outputs=[
                io.Mesh.Output("cleaned_mesh", display_name="mesh"),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="What each mesh was like before and after.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @host.explained
    def execute(
        cls,
        mesh: Any,
        min_part_share: float,
        fill_holes: int,
        smooth: int,
        max_faces: int,
        watertight: bool,
    ) -> io.NodeOutput:
        cleaned, lines = [], []
        meshes = meshes_of(mesh)
        for i, one in enumerate(meshes):
            cleaned.append(
                clean(
                    one,
                    min_part_share=min_part_share,
                    hole_edges=fill_holes,
                    smoothing=smooth,
                    max_faces=max_faces,
                    watertight=watertight,
                )
            )
            lines += [f"before: {report(one)}", f"after: {report(cleaned[-1])}"]
            if one.material is not None and one.material.images:
                lines.append(f"left out: {', '.join(one.material.images)}, which lay on its uvs")
            host.node_progress()(i + 1, len(meshes))
        text = "\n".join(lines)
        host.show_on_node(cls.hidden.unique_id, text)
        return io.NodeOutput(mesh_socket(cleaned), text, ui=ui.PreviewText(text))


class MakeSolid(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageTo3D_MakeSolid",
            display_name="Make Solid",
            category="3d/Image to 3D",
            description=(
                "Makes one closed body for printing of double shells, open scans, parts that run"
                " through each other and loose triangles: inner walls and voids go. Parts that"
                " stand apart stay apart. A texture becomes colours of vertices."
            ),
            inputs=[
                io.Mesh.Input("mesh", tooltip="Of any node, core's TRELLIS and Hunyuan3D too."),
                io.Int.Input(
                    "resolution",
                    default=DEFAULT_SOLID_RESOLUTION,
                    min=MIN_SOLID_RESOLUTION,
                    max=MAX_SOLID_RESOLUTION,
                    step=16,
                    tooltip=(
                        "Cells along the longest side: details below a cell are lost. Twice as many"
                        " take four times as long. A mesh that is a body already keeps its"
                        " triangles."
                    ),
                ),
                _faces_input(default=200_000, most=5_000_000),
            ],
            outputs=[
                io.Mesh.Output("solid_mesh", display_name="mesh"),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="What each mesh was like before and after.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @host.explained
    def execute(cls, mesh: Any, resolution: int, max_faces: int) -> io.NodeOutput:
        solid, lines = [], []
        meshes = meshes_of(mesh)
        for i, one in enumerate(meshes):
            progress = host.node_progress(i, len(meshes))
            solid.append(make_solid(one, resolution, max_faces, progress=progress))
            lines += [f"before: {report(one)}", f"after: {report(solid[-1])}"]
        text = "\n".join(lines)
        host.show_on_node(cls.hidden.unique_id, text)
        return io.NodeOutput(mesh_socket(solid), text, ui=ui.PreviewText(text))


class MeshInfo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageTo3D_MeshInfo",
            display_name="Mesh Info",
            category="3d/Image to 3D",
            description=(
                "Says how many triangles, vertices and parts each mesh has, whether it is"
                " watertight, its volume and its size."
            ),
            is_output_node=True,
            inputs=[io.Mesh.Input("mesh")],
            outputs=[io.String.Output("info", display_name="info")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @host.explained
    def execute(cls, mesh: Any) -> io.NodeOutput:
        text = "\n".join(str(report(one)) for one in meshes_of(mesh))
        host.show_on_node(cls.hidden.unique_id, text)
        return io.NodeOutput(text, ui=ui.PreviewText(text))


class LoadMesh(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageTo3D_LoadMesh",
            display_name="Load Mesh",
            category="3d/Image to 3D",
            description=(
                "Reads a mesh file of ComfyUI's input or output folder: OBJ with its MTL and"
                " image, GLB, PLY, STL or 3MF."
            ),
            inputs=[
                io.String.Input(
                    "file",
                    default="3d/mesh.obj",
                    tooltip=(
                        "Path below ComfyUI's input folder, or else its output folder"
                        f" ({', '.join(FORMATS)}): Save Mesh's path fits."
                    ),
                ),
                *(
                    [
                        FILE_3D.Input(
                            "file_3d",
                            optional=True,
                            tooltip="A file of core's 3D nodes, in place of the path.",
                        )
                    ]
                    if FILE_3D
                    else []
                ),
            ],
            outputs=[
                io.Mesh.Output(
                    "mesh",
                    display_name="mesh",
                    tooltip="With its texture or the colours of its vertices.",
                )
            ],
        )

    @classmethod
    @host.explained
    def execute(cls, file: str, file_3d: Any = None) -> io.NodeOutput:
        if file_3d is not None:
            return io.NodeOutput(mesh_socket([mesh_of_file_3d(file_3d)]))
        return io.NodeOutput(mesh_socket([load_mesh(host.file_below_comfyui(file))]))

    @classmethod
    def fingerprint_inputs(cls, file: str, file_3d: Any = None) -> Any:
        try:
            files: list[Path] = mesh_files(host.file_below_comfyui(file))
        except InvalidInput:
            return file
        return file, [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files]


class RenderMesh(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageTo3D_RenderMesh",
            display_name="Render Mesh",
            category="3d/Image to 3D",
            description=(
                "Goes once around any mesh, without a graphics card: for previews, and for versions"
                " without the 3D viewer."
            ),
            inputs=[
                io.Mesh.Input("mesh"),
                io.Int.Input(
                    "frames",
                    default=12,
                    min=1,
                    max=360,
                    tooltip="Images of a full turn, for each mesh.",
                ),
                io.Float.Input(
                    "elevation",
                    default=20.0,
                    min=-85.0,
                    max=85.0,
                    step=1.0,
                    tooltip="Degrees above the horizon.",
                ),
                io.Int.Input(
                    "size",
                    default=384,
                    min=32,
                    max=1024,
                    step=8,
                    tooltip="Pixels of a side. The mesh fills the image, whatever its size.",
                ),
            ],
            outputs=[io.Image.Output("images", display_name="images", tooltip="On white.")],
        )

    @classmethod
    @host.explained
    def execute(cls, mesh: Any, frames: int, elevation: float, size: int) -> io.NodeOutput:
        images = []
        meshes = meshes_of(mesh)
        for i, one in enumerate(meshes):
            fitted, radius = one.center_for_camera(ZERO123PLUS_FOV_Y_DEG)
            cameras = orbit_cameras(frames, elevation, radius)
            for frame in range(frames):
                images.append(render_mesh(fitted, cameras[[frame]], size))
                host.node_progress(i, len(meshes))(frame + 1, frames, images[-1])
        return io.NodeOutput(image_socket(torch.cat(images)))
