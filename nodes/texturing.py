"""Colours to textures: of fields, images and vertices."""

from __future__ import annotations

from dataclasses import replace
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
from . import host
from .sockets import (
    CamerasSocket,
    FieldSocket,
    images_of,
    masks_of,
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
                        "Colours where no image sees. Without it, the neighbourhood fills these"
                        " places."
                    ),
                ),
                _size_input(),
                _faces_input(),
                io.Image.Input(
                    "views",
                    optional=True,
                    tooltip=(
                        "Images around each mesh, as many for each: those of Generate Views, or"
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
        for i, (one, own, around, image) in enumerate(
            zip(meshes, fields, shots, photographs, strict=True)
        ):
            progress = host.node_progress(i, len(meshes))
            layers = [] if around is None else [around]
            if image is not None:
                fit = _camera_of(one, own, *image)
                notes.append(fit.sentence)
                layers += [PosedImages(image[0], fit.camera, image[1])] if fit.trusted else []
            field = None if own is None else own.to(device)
            if layers:
                textured.append(
                    texture_from_images(
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
) -> list[PosedImages | None]:
    """The views of each mesh."""
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
    """The photograph (1, 3, S, S) and the mask (1, 1, S, S) of each mesh."""
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
    """Of the photograph: the field's own, where it has one that fits the mesh, else looked for."""
    known = None if field is None else field.camera
    if known is not None:
        fit = fit_of(mesh, known, mask)
        if fit.trusted:
            return fit
    return fit_camera(mesh, image, mask)


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
