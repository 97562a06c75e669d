"""Meshes to better meshes, to textures, to text and to pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..pipelines.cameras import ZERO123PLUS_FOV_Y_DEG, orbit_cameras
from ..pipelines.errors import InvalidInput
from ..pipelines.fields.field import Field, point_memory
from ..pipelines.mesh_io import FORMATS, load_mesh, mesh_files
from ..pipelines.meshes.cleaning import clean
from ..pipelines.meshes.drawing import render_mesh
from ..pipelines.meshes.report import report
from ..pipelines.meshes.texture import (
    CHUNK_SIZE,
    DEFAULT_TEXTURED_FACES,
    MAX_SIZE,
    MIN_SIZE,
    bake_vertex_colors,
    texture_of_field,
)
from . import host
from .sockets import FieldSocket, image_socket, mesh_socket, meshes_of


def _size_input() -> io.Int.Input:
    return io.Int.Input(
        "size",
        default=1024,
        min=MIN_SIZE,
        max=MAX_SIZE,
        step=256,
        tooltip="Pixels of the texture's side.",
    )


def _faces_input() -> io.Int.Input:
    return io.Int.Input(
        "max_faces",
        default=DEFAULT_TEXTURED_FACES,
        min=0,
        max=2_000_000,
        step=1000,
        tooltip=(
            "Larger meshes are decimated to so many triangles first: unfolding takes time with"
            " their number. 0 leaves all."
        ),
    )


class TextureMesh(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageTo3D_TextureMesh",
            display_name="Texture Mesh",
            category="3d/Image to 3D",
            description=(
                "Unfolds each mesh and paints its texture with the colours of its triplane, much"
                " finer than colours at vertices."
            ),
            inputs=[
                io.Mesh.Input(
                    "mesh",
                    tooltip="Meshes of the triplanes, in the same order; cleaned ones fit as well.",
                ),
                FieldSocket.Input("triplane"),
                _size_input(),
                _faces_input(),
            ],
            outputs=[io.Mesh.Output("textured_mesh", display_name="mesh")],
        )

    @classmethod
    @host.explained
    def execute(cls, mesh: Any, triplane: list[Field], size: int, max_faces: int) -> io.NodeOutput:
        meshes = meshes_of(mesh)
        if len(meshes) != len(triplane):
            raise InvalidInput(
                f"There must be one triplane for each mesh, got {len(meshes)} meshes and"
                f" {len(triplane)} triplanes."
            )
        device = host.reserve(point_memory(CHUNK_SIZE))
        textured = [
            texture_of_field(
                one,
                own.to(device),
                size,
                max_faces=max_faces,
                progress=host.node_progress(i, len(meshes)),
            )
            for i, (one, own) in enumerate(zip(meshes, triplane, strict=True))
        ]
        return io.NodeOutput(mesh_socket(textured))


class BakeVertexColors(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageTo3D_BakeVertexColors",
            display_name="Bake Vertex Colors",
            category="3d/Image to 3D",
            description=(
                "Unfolds each mesh and turns the colours of its vertices into a texture: for meshes"
                " of other nodes, and of files."
            ),
            inputs=[io.Mesh.Input("mesh"), _size_input(), _faces_input()],
            outputs=[io.Mesh.Output("textured_mesh", display_name="mesh")],
        )

    @classmethod
    @host.explained
    def execute(cls, mesh: Any, size: int, max_faces: int) -> io.NodeOutput:
        meshes = meshes_of(mesh)
        baked = [
            bake_vertex_colors(
                one, size, max_faces=max_faces, progress=host.node_progress(i, len(meshes))
            )
            for i, one in enumerate(meshes)
        ]
        return io.NodeOutput(mesh_socket(baked))


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
                io.Int.Input(
                    "max_faces",
                    default=0,
                    min=0,
                    max=2_000_000,
                    step=1000,
                    tooltip="Decimate to at most so many triangles. 0 leaves all.",
                ),
                io.Boolean.Input(
                    "watertight",
                    default=False,
                    tooltip=(
                        "Close the mesh for printing, by its voxels if mending does not suffice."
                    ),
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
            host.node_progress()(i + 1, len(meshes))
        text = "\n".join(lines)
        host.show_on_node(cls.hidden.unique_id, text)
        return io.NodeOutput(mesh_socket(cleaned), text, ui=ui.PreviewText(text))


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
                " picture, GLB, PLY, STL or 3MF."
            ),
            inputs=[
                io.String.Input(
                    "file",
                    default="3d/mesh.obj",
                    tooltip=(
                        "Path below ComfyUI's input folder, or else its output folder"
                        f" ({', '.join(FORMATS)}): Save Mesh's path fits."
                    ),
                )
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
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(mesh_socket([load_mesh(host.file_below_comfyui(file))]))

    @classmethod
    def fingerprint_inputs(cls, file: str) -> Any:
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
                    tooltip="Pictures of a full turn, for each mesh.",
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
                    tooltip="Pixels of a side. The mesh fills the picture, whatever its size.",
                ),
            ],
            outputs=[io.Image.Output("images", display_name="images", tooltip="On white.")],
        )

    @classmethod
    @host.explained
    def execute(cls, mesh: Any, frames: int, elevation: float, size: int) -> io.NodeOutput:
        pictures = []
        meshes = meshes_of(mesh)
        for i, one in enumerate(meshes):
            fitted, radius = one.fitted(ZERO123PLUS_FOV_Y_DEG)
            cameras = orbit_cameras(frames, elevation, radius)
            for frame in range(frames):
                pictures.append(render_mesh(fitted, cameras[[frame]], size))
                host.node_progress(i, len(meshes))(frame + 1, frames, pictures[-1])
        return io.NodeOutput(image_socket(torch.cat(pictures)))
