"""Meshes to better meshes, to textures, to text and to pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..pipelines.cameras import ZERO123PLUS_FOV_Y_DEG, Cameras, orbit_cameras, zero123plus_cameras
from ..pipelines.errors import InvalidInput
from ..pipelines.fields.field import Field, point_memory
from ..pipelines.mesh_io import FORMATS, load_mesh, mesh_files
from ..pipelines.meshes.camera_fit import CameraFit, fit_camera, fit_of
from ..pipelines.meshes.cleaning import clean
from ..pipelines.meshes.drawing import render_mesh
from ..pipelines.meshes.mesh import Mesh
from ..pipelines.meshes.projection import Shots
from ..pipelines.meshes.report import report
from ..pipelines.meshes.solid import (
    DEFAULT_SOLID_RESOLUTION,
    MAX_SOLID_RESOLUTION,
    MIN_SOLID_RESOLUTION,
    make_solid,
)
from ..pipelines.meshes.texture import (
    CHUNK_SIZE,
    DEFAULT_TEXTURED_FACES,
    MAX_SIZE,
    MIN_SIZE,
    bake_vertex_colors,
    texture_of_field,
    texture_of_pictures,
)
from . import host
from .sockets import (
    FILE_3D,
    CamerasSocket,
    FieldSocket,
    image_socket,
    images_of,
    masks_of,
    mesh_of_file_3d,
    mesh_socket,
    meshes_of,
    texture_socket,
)


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
                "Unfolds each mesh and paints its texture: with the photograph where it shows the"
                " object, else with the views, else with the colours of the triplane."
            ),
            inputs=[
                io.Mesh.Input(
                    "mesh",
                    tooltip="Meshes of the triplanes, in the same order; cleaned ones fit as well.",
                ),
                FieldSocket.Input(
                    "triplane",
                    optional=True,
                    tooltip=(
                        "Colours where no picture sees. Without it, the neighbourhood fills these"
                        " places."
                    ),
                ),
                _size_input(),
                _faces_input(),
                io.Image.Input(
                    "views",
                    optional=True,
                    tooltip=(
                        "Pictures around each mesh, as many for each: those of Generate Views, or"
                        " others with their cameras. Not for meshes that were moved or turned."
                    ),
                ),
                CamerasSocket.Input(
                    "cameras",
                    optional=True,
                    tooltip="Of the views, if they are not the six of Generate Views.",
                ),
                io.Image.Input(
                    "photograph",
                    optional=True,
                    tooltip=(
                        "One for each mesh, from Frame Foreground. Where its camera stood is found"
                        " from the outlines; a photograph that does not fit is left out."
                    ),
                ),
                io.Mask.Input("mask", optional=True, tooltip="Of the photograph, framed with it."),
            ],
            outputs=[
                io.Mesh.Output("textured_mesh", display_name="mesh"),
                io.Image.Output(
                    "texture",
                    display_name="texture",
                    tooltip="To be upscaled or repainted, and given back with Apply Texture.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @host.explained
    def execute(
        cls,
        mesh: Any,
        triplane: list[Field] | None = None,
        size: int = 1024,
        max_faces: int = DEFAULT_TEXTURED_FACES,
        views: torch.Tensor | None = None,
        cameras: Cameras | None = None,
        photograph: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        meshes = meshes_of(mesh)
        fields = _one_each(triplane, meshes, "triplane")
        shots = _view_shots(views, cameras, meshes)
        photographs = _photographs(photograph, mask, meshes)
        device = host.reserve(point_memory(CHUNK_SIZE))
        textured, notes = [], []
        for i, (one, own, around, picture) in enumerate(
            zip(meshes, fields, shots, photographs, strict=True)
        ):
            progress = host.node_progress(i, len(meshes))
            layers = [] if around is None else [around]
            if picture is not None:
                fit = _camera_of(one, own, *picture)
                notes.append(fit.sentence)
                layers += [Shots(picture[0], fit.camera, picture[1])] if fit.trusted else []
            field = None if own is None else own.to(device)
            if layers:
                textured.append(
                    texture_of_pictures(
                        one, layers, size, field=field, max_faces=max_faces, progress=progress
                    )
                )
            elif field is not None:
                textured.append(
                    texture_of_field(one, field, size, max_faces=max_faces, progress=progress)
                )
            else:
                raise InvalidInput(
                    "There is nothing to paint with: connect a triplane, views, or a photograph"
                    " that fits the mesh." + "".join(f" {note}" for note in notes[-1:])
                )
        if notes:
            host.show_on_node(cls.hidden.unique_id, "\n".join(notes))
        return io.NodeOutput(mesh_socket(textured), texture_socket(textured))


def _one_each(values: Any, meshes: list[Mesh], name: str) -> list[Any]:
    """The values, one for each mesh; None for each where there are none."""
    if values is None:
        return [None] * len(meshes)
    if len(values) != len(meshes):
        raise InvalidInput(
            f"There must be one {name} for each mesh, got {len(meshes)} meshes and"
            f" {len(values)} {name}s."
        )
    return list(values)


def _view_shots(
    views: torch.Tensor | None, cameras: Cameras | None, meshes: list[Mesh]
) -> list[Shots | None]:
    """The views of each mesh."""
    if views is None:
        return [None] * len(meshes)
    cameras = zero123plus_cameras() if cameras is None else cameras
    pictures = images_of(views)
    if len(pictures) != len(meshes) * len(cameras):
        raise InvalidInput(
            f"There must be {len(cameras)} views for each mesh, one for each camera, got"
            f" {len(pictures)} views and {len(meshes)} meshes."
        )
    return [Shots(own, cameras) for own in pictures.split(len(cameras))]


def _photographs(
    photograph: torch.Tensor | None, mask: torch.Tensor | None, meshes: list[Mesh]
) -> list[tuple[torch.Tensor, torch.Tensor] | None]:
    """The photograph (1, 3, S, S) and the mask (1, 1, S, S) of each mesh."""
    if photograph is None:
        return [None] * len(meshes)
    if mask is None:
        raise InvalidInput(
            "The photograph needs its mask: connect that of Frame Foreground as well."
        )
    pictures = images_of(photograph)
    if len(pictures) != len(meshes):
        raise InvalidInput(
            f"There must be one photograph for each mesh, got {len(pictures)} photographs and"
            f" {len(meshes)} meshes."
        )
    return list(zip(pictures.split(1), masks_of(mask, pictures).split(1), strict=True))


def _camera_of(
    mesh: Mesh, field: Field | None, picture: torch.Tensor, mask: torch.Tensor
) -> CameraFit:
    """Of the photograph: the field's own, where it has one that fits the mesh, else looked for."""
    known = None if field is None else field.camera
    if known is not None:
        fit = fit_of(mesh, known, mask)
        if fit.trusted:
            return fit
    return fit_camera(mesh, picture, mask)


class ApplyTexture(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageTo3D_ApplyTexture",
            display_name="Apply Texture",
            category="3d/Image to 3D",
            description=(
                "Gives a textured mesh another texture: the one of Texture Mesh, upscaled or"
                " repainted in between."
            ),
            inputs=[
                io.Mesh.Input("mesh", tooltip="With uvs, as Texture Mesh makes them."),
                io.Image.Input(
                    "texture", tooltip="One for each mesh, or one for all; of any size."
                ),
            ],
            outputs=[io.Mesh.Output("textured_mesh", display_name="mesh")],
        )

    @classmethod
    @host.explained
    def execute(cls, mesh: Any, texture: torch.Tensor) -> io.NodeOutput:
        meshes = meshes_of(mesh)
        if any(one.uvs is None for one in meshes):
            raise InvalidInput(
                "The mesh has no uvs, so no texture fits it: put Texture Mesh or Bake Vertex Colors"
                " before this node."
            )
        pictures = images_of(texture).permute(0, 2, 3, 1)
        pictures = pictures.expand(len(meshes), -1, -1, -1) if len(pictures) == 1 else pictures
        chosen = _one_each(pictures, meshes, "texture")
        return io.NodeOutput(
            mesh_socket(
                [replace(one, texture=own) for one, own in zip(meshes, chosen, strict=True)]
            )
        )


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
            if one.material is not None and one.material.pictures:
                lines.append(f"left out: {', '.join(one.material.pictures)}, which lay on its uvs")
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
                io.Int.Input(
                    "max_faces",
                    default=200_000,
                    min=0,
                    max=5_000_000,
                    step=1000,
                    tooltip="Decimate to at most so many triangles. 0 leaves all.",
                ),
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
