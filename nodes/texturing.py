"""Turn colours of fields, images and vertices into textures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from comfy_api.latest import io

from ..pipelines.cameras import Cameras, zero123plus_cameras
from ..pipelines.errors import InvalidInput
from ..pipelines.fields.field import Field, point_memory
from ..pipelines.meshes.camera_fit import CameraFit, fit_camera, fit_of
from ..pipelines.meshes.mesh import Mesh
from ..pipelines.meshes.projection import PosedImages
from ..pipelines.meshes.texture import (
    CHUNK_SIZE,
    DEFAULT_TEXTURED_FACES,
    MAX_SIZE,
    MIN_SIZE,
    bake_vertex_colors,
    texture_from_images,
    texture_of_field,
)
from ..pipelines.progress import Progress
from . import host
from .errors import explained
from .mesh_sockets import mesh_socket, meshes_of, texture_socket
from .schema import schema
from .sockets import CamerasSocket, FieldSocket, images_of, masks_of

_FOLDER = "texturing"


def _size_input() -> io.Int.Input:
    return io.Int.Input(
        "size",
        default=1024,
        min=MIN_SIZE,
        max=MAX_SIZE,
        step=256,
        tooltip="Side of the texture in pixels.",
    )


def _faces_input() -> io.Int.Input:
    return io.Int.Input(
        "max_faces",
        default=DEFAULT_TEXTURED_FACES,
        min=0,
        max=2_000_000,
        step=1000,
        tooltip=(
            "Decimate larger meshes to this many triangles first: unwrapping takes longer the more"
            " there are. 0 keeps all."
        ),
    )


class TextureMesh(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="ImageTo3D_TextureMesh",
            display_name="Texture Mesh",
            folder=_FOLDER,
            aliases=("unwrap", "uv", "bake texture", "project texture", "paint mesh"),
            description=(
                "Unwraps each mesh and paints its texture: from the photograph where it shows the"
                " object, else from the views, else from the colours of the triplane."
            ),
            inputs=[
                io.Mesh.Input(
                    "mesh",
                    tooltip="Meshes of the triplanes, in the same order; cleaned ones fit too.",
                ),
                FieldSocket.Input(
                    "triplane",
                    optional=True,
                    tooltip=(
                        "Colours of what no image shows. Without it, such places take the colours"
                        " around them."
                    ),
                ),
                _size_input(),
                _faces_input(),
                io.Image.Input(
                    "views",
                    optional=True,
                    tooltip=(
                        "Images around each mesh, the same number for each: from Generate Views, or"
                        " your own with cameras. Not for meshes that were moved or rotated."
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
                        "One for each mesh, from Frame Foreground. Its camera is found from the"
                        " outlines; a photograph that does not fit is skipped with a note."
                    ),
                ),
                io.Mask.Input("mask", optional=True, tooltip="Of the photograph, framed with it."),
            ],
            outputs=[
                io.Mesh.Output("textured_mesh", display_name="mesh"),
                io.Image.Output(
                    "texture",
                    display_name="texture",
                    tooltip="Upscale or repaint it, and put it back with Replace Mesh Texture.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @explained
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
        sources = _sources(meshes, triplane, views, cameras, photograph, mask)
        device = host.reserve(point_memory(CHUNK_SIZE))
        textured, notes = [], []
        for i, (one, source) in enumerate(zip(meshes, sources, strict=True)):
            layers, note = source.layers(one)
            notes += [note] if note else []
            field = None if source.field is None else source.field.to(device)
            progress = host.node_progress(i, len(meshes))
            textured.append(_textured(one, layers, field, size, max_faces, progress, note))
        if notes:
            host.show_on_node(cls.hidden.unique_id, "\n".join(notes))
        return io.NodeOutput(mesh_socket(textured), texture_socket(textured))


@dataclass(frozen=True)
class _Source:
    """Colour sources of one mesh, all optional: a field, views, and a photograph with its mask."""

    field: Field | None
    views: PosedImages | None
    photograph: tuple[torch.Tensor, torch.Tensor] | None

    def layers(self, mesh: Mesh) -> tuple[list[PosedImages], str]:
        """Return the images to project, sharpest last, and a note on the photograph's fit."""
        layers = [] if self.views is None else [self.views]
        if self.photograph is None:
            return layers, ""
        image, mask = self.photograph
        fit = _camera_of(mesh, self.field, image, mask)
        return layers + (
            [PosedImages(image, fit.camera, mask)] if fit.trusted else []
        ), fit.sentence


def _sources(
    meshes: list[Mesh],
    triplane: list[Field] | None,
    views: torch.Tensor | None,
    cameras: Cameras | None,
    photograph: torch.Tensor | None,
    mask: torch.Tensor | None,
) -> list[_Source]:
    fields = _one_each(triplane, meshes, "triplane")
    posed = _posed_views(views, cameras, meshes)
    photographs = _photographs(photograph, mask, meshes)
    return [_Source(*own) for own in zip(fields, posed, photographs, strict=True)]


def _textured(
    mesh: Mesh,
    layers: list[PosedImages],
    field: Field | None,
    size: int,
    max_faces: int,
    progress: Progress,
    note: str,
) -> Mesh:
    if layers:
        return texture_from_images(
            mesh, layers, size, field=field, max_faces=max_faces, progress=progress
        )
    if field is not None:
        return texture_of_field(mesh, field, size, max_faces=max_faces, progress=progress)
    raise InvalidInput(
        "There is nothing to paint with: connect a triplane, views, or a photograph that fits the"
        f" mesh. {note}".rstrip()
    )


def _one_each(values: Any, meshes: list[Mesh], name: str) -> list[Any]:
    """Return one value per mesh; None for every mesh if no values are given."""
    if values is None:
        return [None] * len(meshes)
    if len(values) != len(meshes):
        raise InvalidInput(
            f"There must be one {name} for each mesh, got {len(meshes)} meshes and"
            f" {len(values)} {name}s."
        )
    return list(values)


def _posed_views(
    views: torch.Tensor | None, cameras: Cameras | None, meshes: list[Mesh]
) -> list[PosedImages | None]:
    """Split the views among the meshes; None for each mesh if there are no views."""
    if views is None:
        return [None] * len(meshes)
    cameras = zero123plus_cameras() if cameras is None else cameras
    images = images_of(views)
    if len(images) != len(meshes) * len(cameras):
        raise InvalidInput(
            f"There must be {len(cameras)} views for each mesh, one for each camera, got"
            f" {len(images)} views and {len(meshes)} meshes."
        )
    return [PosedImages(own, cameras) for own in images.split(len(cameras))]


def _photographs(
    photograph: torch.Tensor | None, mask: torch.Tensor | None, meshes: list[Mesh]
) -> list[tuple[torch.Tensor, torch.Tensor] | None]:
    """Return each mesh's photograph (1, 3, S, S) with its mask (1, 1, S, S), or None."""
    if photograph is None:
        return [None] * len(meshes)
    if mask is None:
        raise InvalidInput(
            "The photograph needs its mask: connect that of Frame Foreground as well."
        )
    images = images_of(photograph)
    if len(images) != len(meshes):
        raise InvalidInput(
            f"There must be one photograph for each mesh, got {len(images)} photographs and"
            f" {len(meshes)} meshes."
        )
    return list(zip(images.split(1), masks_of(mask, images).split(1), strict=True))


def _camera_of(
    mesh: Mesh, field: Field | None, image: torch.Tensor, mask: torch.Tensor
) -> CameraFit:
    """Return the field's camera if it fits the mesh; otherwise fit one to the photograph."""
    known = None if field is None else field.camera
    if known is not None:
        fit = fit_of(mesh, known, mask)
        if fit.trusted:
            return fit
    return fit_camera(mesh, image, mask)


class ApplyTexture(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="ImageTo3D_ApplyTexture",
            display_name="Replace Mesh Texture",
            folder=_FOLDER,
            aliases=("apply texture", "set texture", "retexture"),
            description=(
                "Replaces the texture of a mesh, for instance by that of Texture Mesh after it was"
                " upscaled or repainted."
            ),
            inputs=[
                io.Mesh.Input("mesh", tooltip="With uvs, as Texture Mesh makes them."),
                io.Image.Input(
                    "texture", tooltip="One for each mesh, or one for all, of any size."
                ),
            ],
            outputs=[io.Mesh.Output("textured_mesh", display_name="mesh")],
        )

    @classmethod
    @explained
    def execute(cls, mesh: Any, texture: torch.Tensor) -> io.NodeOutput:
        meshes = meshes_of(mesh)
        if any(one.uvs is None for one in meshes):
            raise InvalidInput(
                "The mesh has no uvs, so no texture fits it: put Texture Mesh or Bake Vertex Colors"
                " before this node."
            )
        images = images_of(texture).permute(0, 2, 3, 1)
        images = images.expand(len(meshes), -1, -1, -1) if len(images) == 1 else images
        chosen = _one_each(images, meshes, "texture")
        return io.NodeOutput(
            mesh_socket(
                [replace(one, texture=own) for one, own in zip(meshes, chosen, strict=True)]
            )
        )


class BakeVertexColors(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="ImageTo3D_BakeVertexColors",
            display_name="Bake Vertex Colors",
            folder=_FOLDER,
            aliases=("vertex colors to texture", "unwrap", "uv"),
            description=(
                "Unwraps each mesh and bakes its vertex colours into a texture: for meshes from"
                " other nodes and from files."
            ),
            inputs=[io.Mesh.Input("mesh"), _size_input(), _faces_input()],
            outputs=[io.Mesh.Output("textured_mesh", display_name="mesh")],
        )

    @classmethod
    @explained
    def execute(cls, mesh: Any, size: int, max_faces: int) -> io.NodeOutput:
        meshes = meshes_of(mesh)
        baked = [
            bake_vertex_colors(
                one, size, max_faces=max_faces, progress=host.node_progress(i, len(meshes))
            )
            for i, one in enumerate(meshes)
        ]
        return io.NodeOutput(mesh_socket(baked))
