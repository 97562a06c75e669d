"""Turn colours of fields, images and vertices into textures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..pipelines.cameras import Cameras, zero123plus_cameras
from ..pipelines.errors import InvalidInput
from ..pipelines.fields.field import Field, point_memory
from ..pipelines.meshes.mesh import Mesh
from ..pipelines.meshes.painting import ColorSources, paint
from ..pipelines.meshes.projection import PosedImages
from ..pipelines.meshes.texture import (
    CHUNK_SIZE,
    DEFAULT_TEXTURED_FACES,
    TextureLayout,
    bake_vertex_colors,
)
from . import host
from .errors import explained
from .mesh_sockets import mesh_socket, meshes_of, texture_socket, voxels_of
from .schema import from_setting, max_faces_input, node_schema
from .sockets import CamerasSocket, FieldSocket, images_of, masks_of

_FOLDER = "texturing"


def _size_inputs() -> list[Any]:
    return [
        from_setting(
            "size",
            setting="texture",
            default=1024,
            step=256,
            tooltip="Side of the texture in pixels.",
        ),
        max_faces_input(
            DEFAULT_TEXTURED_FACES,
            2_000_000,
            "Unwrapping more triangles takes longer. 0 keeps all.",
        ),
    ]


class TextureMesh(io.ComfyNode):
    """Unwraps each mesh and paints its texture from images, fields and voxels.

    The photograph covers the views, and these cover the colours of the triplane or the voxels.
    """

    define_schema = node_schema(
        "ImageTo3D_TextureMesh",
        "Texture Mesh",
        "unwrap, uv, bake texture, project texture, paint mesh",
        folder=_FOLDER,
        inputs=[
            io.Mesh.Input(
                "mesh", tooltip="Meshes of the triplanes, in the same order; cleaned meshes too."
            ),
            FieldSocket.Input(
                "triplane",
                optional=True,
                tooltip="Colours the parts that no image shows. Without it, these parts take the"
                " colours around them.",
            ),
            *_size_inputs(),
            io.Image.Input(
                "views",
                optional=True,
                tooltip="Images around each mesh, the same number for each: from Generate"
                " Views, or your own with cameras. Not for meshes that were moved or rotated.",
            ),
            CamerasSocket.Input(
                "cameras",
                optional=True,
                tooltip="The cameras of the views, unless these are the six of Generate Views.",
            ),
            io.Image.Input(
                "photograph",
                optional=True,
                tooltip="One for each mesh, from Frame Foreground. Its camera is found by matching"
                " outlines: near the front, or all around if neither the mesh nor the triplane has"
                " colours. A photograph that does not fit is skipped with a note.",
            ),
            io.Mask.Input(
                "mask", optional=True, tooltip="The mask of the photograph, from Frame Foreground."
            ),
            io.Voxel.Input(
                "voxel_colors",
                optional=True,
                tooltip="Colours, metalness and roughness from core's VAE Decode Texture for"
                " TRELLIS.2 and Pixal3D, instead of a triplane's.",
            ),
            io.Boolean.Input(
                "keep_uvs",
                default=False,
                optional=True,
                tooltip="Paint on the mesh's own uvs instead of unwrapping it.",
            ),
        ],
        outputs=[
            io.Mesh.Output("textured_mesh", display_name="mesh"),
            io.Image.Output(
                "texture",
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
        views: Tensor | None = None,
        cameras: Cameras | None = None,
        photograph: Tensor | None = None,
        mask: Tensor | None = None,
        voxel_colors: Any = None,
        keep_uvs: bool = False,
    ) -> io.NodeOutput:
        meshes = meshes_of(mesh)
        fields = _per_mesh(triplane, meshes, "triplane")
        around = _posed_views(views, cameras, meshes)
        photographs = _per_mesh(_photographs(photograph, mask), meshes, "photograph")
        voxels = voxels_of(voxel_colors, len(meshes))
        layout = TextureLayout(size, max_faces, keep_uvs)
        device = host.reserve(point_memory(CHUNK_SIZE))
        painted = []
        for one, *sources, progress in host.each(meshes, photographs, around, voxels, fields):
            colors = ColorSources(*sources).to(device)
            painted.append(paint(one, colors, layout, progress=progress))
        textured, notes = zip(*painted, strict=True)
        if any(notes):
            host.show_on_node(cls.hidden.unique_id, "\n".join(filter(None, notes)))
        return io.NodeOutput(mesh_socket(textured), texture_socket(textured))


def _per_mesh(values: Any, meshes: Sequence[Mesh], name: str, each: int = 1) -> list[Any]:
    """Split the values of a batch among its meshes; None for each mesh if there are no values."""
    if values is None:
        return [None] * len(meshes)
    if len(values) != each * len(meshes):
        wanted = f"one {name}" if each == 1 else f"{each} {name}s"
        raise InvalidInput(
            f"There must be {wanted} for each mesh, got {len(meshes)} meshes and {len(values)}"
            f" {name}s."
        )
    return list(values.split(each) if isinstance(values, Tensor) else values)


def _posed_views(
    views: Tensor | None, cameras: Cameras | None, meshes: Sequence[Mesh]
) -> list[PosedImages | None]:
    """Return the views of each mesh with their cameras, by default those of Generate Views."""
    images = None if views is None else images_of(views)
    cameras = zero123plus_cameras() if cameras is None else cameras
    own = _per_mesh(images, meshes, "view", len(cameras))
    return [None if images is None else PosedImages(images, cameras) for images in own]


def _photographs(photograph: Tensor | None, mask: Tensor | None) -> Tensor | None:
    """Return photographs with their masks as alpha (B, 4, S, S)."""
    if photograph is None:
        return None
    if mask is None:
        raise InvalidInput(
            "The photograph needs its mask: connect that of Frame Foreground as well."
        )
    images = images_of(photograph)[:, :3]
    return torch.cat([images, masks_of(mask, images)], dim=1)


class ApplyTexture(io.ComfyNode):
    """Replaces the texture of a mesh.

    For instance with the texture of Texture Mesh after you upscaled or repainted it.
    """

    define_schema = node_schema(
        "ImageTo3D_ApplyTexture",
        "Replace Mesh Texture",
        "apply texture, set texture, retexture",
        folder=_FOLDER,
        inputs=[
            io.Mesh.Input("mesh", tooltip="A mesh with uvs, such as Texture Mesh returns."),
            io.Image.Input("texture", tooltip="One for each mesh, or one for all, of any size."),
        ],
        outputs=[io.Mesh.Output("textured_mesh", display_name="mesh")],
    )

    @classmethod
    @explained
    def execute(cls, mesh: Any, texture: Tensor) -> io.NodeOutput:
        meshes = meshes_of(mesh)
        if any(one.uvs is None for one in meshes):
            raise InvalidInput(
                "The mesh has no uvs, so no texture fits it: put Texture Mesh or Bake Vertex Colors"
                " before this node."
            )
        images = images_of(texture).permute(0, 2, 3, 1)
        images = images.expand(len(meshes), -1, -1, -1) if len(images) == 1 else images
        chosen = _per_mesh(images, meshes, "texture")
        textured = [replace(one, texture=own[0]) for one, own in zip(meshes, chosen, strict=True)]
        return io.NodeOutput(mesh_socket(textured))


class BakeVertexColors(io.ComfyNode):
    """Unwraps each mesh and bakes its vertex colours into a texture.

    For meshes from other nodes and from files.
    """

    define_schema = node_schema(
        "ImageTo3D_BakeVertexColors",
        "Bake Vertex Colors",
        "vertex colors to texture, unwrap, uv",
        folder=_FOLDER,
        inputs=[io.Mesh.Input("mesh"), *_size_inputs()],
        outputs=[io.Mesh.Output("textured_mesh", display_name="mesh")],
    )

    @classmethod
    @explained
    def execute(cls, mesh: Any, size: int, max_faces: int) -> io.NodeOutput:
        baked = [
            bake_vertex_colors(one, TextureLayout(size, max_faces), progress=progress)
            for one, progress in host.each(meshes_of(mesh))
        ]
        return io.NodeOutput(mesh_socket(baked))
