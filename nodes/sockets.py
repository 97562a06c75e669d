"""Socket types, and ComfyUI's arrays as the library's and back."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from comfy_api.latest import InputImpl, io
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor
from torch.nn import functional as F

from ..pipelines.errors import InvalidInput
from ..pipelines.mesh_io import from_y_up, to_y_up
from ..pipelines.meshes.mesh import Mesh
from ..pipelines.meshes.painting import texture_to_vertex_colors
from ..pipelines.pictures.colors import to_linear, to_srgb

# No other pack has these names: nothing of another kind can be connected.
MultiviewModelSocket = io.Custom("IMAGE_TO_3D_MULTIVIEW_MODEL")
ReconstructionModelSocket = io.Custom("IMAGE_TO_3D_RECONSTRUCTION_MODEL")
FieldSocket = io.Custom("IMAGE_TO_3D_FIELD")
CamerasSocket = io.Custom("IMAGE_TO_3D_CAMERAS")
FILE_3D = getattr(io, "File3DAny", None)  # some version after 0.8.0


def video_socket(path: Path | None) -> Any:
    """A file as VIDEO, or what says to the nodes behind that there is none."""
    return InputImpl.VideoFromFile(str(path)) if path else ExecutionBlocker("There is no video.")


def images_of(image: Tensor) -> Tensor:
    """IMAGE (B, H, W, 1, 3 or 4) as (B, 3 or 4, H, W).

    Raises:
        InvalidInput: if it has another shape.
    """
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4) or not len(image):
        raise InvalidInput(
            "A picture must be (batch, height, width, 1, 3 or 4 channels), got"
            f" {tuple(image.shape)}."
        )
    images = image.permute(0, 3, 1, 2).float()
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def image_socket(images: Tensor) -> Tensor:
    """(B, C, H, W) as IMAGE."""
    return images.permute(0, 2, 3, 1).clamp(0, 1).contiguous().cpu()


def masks_of(mask: Tensor, images: Tensor) -> Tensor:
    """MASK (B, H, W) or (H, W) as (B, 1, H, W), at the size of pictures (B, C, H, W).

    One mask serves all pictures.

    Raises:
        InvalidInput: if there are neither one nor as many masks as pictures.
    """
    masks = mask.reshape(-1, 1, *mask.shape[-2:]).float()
    if len(masks) not in (1, len(images)):
        raise InvalidInput(
            f"There must be one mask, or one for each picture, got {len(masks)} masks and"
            f" {len(images)} pictures."
        )
    if masks.shape[-2:] != images.shape[-2:]:
        masks = F.interpolate(masks, size=images.shape[-2:], mode="bilinear", antialias=True)
    return masks.expand(len(images), -1, -1, -1).clamp(0, 1)


def mask_socket(masks: Tensor) -> Tensor:
    """(B, 1, H, W) as MASK."""
    return masks[:, 0].contiguous().cpu()


def mesh_socket(meshes: Sequence[Mesh]) -> Any:
    """MESH: y up, padded to one length, with all that the running version has a place for.

    Shorter meshes are padded with empty triangles.

    As core's savers write them into GLB as they are, uvs start from the upper left and colours at
    vertices are linear light. Where the version has no place for them, they and the lengths are
    attached all the same: this pack's nodes find them, core's ignore them.
    """
    textured = [mesh.texture is not None and mesh.uvs is not None for mesh in meshes]
    if any(textured) and not all(textured):
        meshes = [texture_to_vertex_colors(mesh) for mesh in meshes]
    turned = [to_y_up(mesh) for mesh in meshes]
    vertices = _padded([m.vertices for m in turned])
    faces = _padded([m.faces for m in turned], fill=0)
    fields: dict[str, Any] = {
        "vertex_counts": torch.tensor([len(m.vertices) for m in turned]),
        "face_counts": torch.tensor([len(m.faces) for m in turned]),
    }
    if any(m.vertex_colors is not None for m in turned):
        white = [
            torch.ones_like(m.vertices) if m.vertex_colors is None else m.vertex_colors
            for m in turned
        ]
        fields["vertex_colors"] = to_linear(_padded(white).clamp(0, 1))
    if all(textured):
        fields["uvs"] = _v_flipped(_padded([m.uvs for m in turned if m.uvs is not None]))
        fields["texture"] = _same_size([m.texture for m in turned if m.texture is not None])
    mesh_class = _mesh_class()
    known = {
        name: value
        for name, value in fields.items()
        if name in inspect.signature(mesh_class).parameters
    }
    mesh = mesh_class(vertices, faces, **known)
    for name in fields.keys() - known.keys():
        setattr(mesh, name, fields[name])
    return mesh


def texture_socket(meshes: Sequence[Mesh]) -> Tensor:
    """IMAGE of the textures that the meshes have, all at the size of the largest."""
    return _same_size([mesh.texture for mesh in meshes if mesh.texture is not None])


def meshes_of(mesh: Any) -> list[Mesh]:
    """The meshes of a MESH, whichever node and version made it.

    Raises:
        InvalidInput: if it is no batch of triangle meshes, or one of them is empty or holds numbers
            that are not finite.
    """
    colors, uvs, texture = (
        getattr(mesh, name, None) for name in ("vertex_colors", "uvs", "texture")
    )
    vertex_counts, face_counts = (
        getattr(mesh, name, None) for name in ("vertex_counts", "face_counts")
    )
    meshes = []
    for i, (vertices, faces) in enumerate(zip(mesh.vertices, mesh.faces, strict=True)):
        v = len(vertices) if vertex_counts is None else int(vertex_counts[i])
        f = len(faces) if face_counts is None else int(face_counts[i])
        if not f or not v:
            raise InvalidInput(
                f"Mesh {i + 1} of {len(mesh.vertices)} has no triangles: look at the node that"
                " made it."
            )
        color = (
            None
            if colors is None
            else to_srgb(colors[i][:v, :3].float().cpu().clamp(0, 1)).clamp(0, 1)
        )
        uv, picture = (
            (None, None)
            if uvs is None or texture is None
            else (_v_flipped(uvs[i][:v].float().cpu()), texture[i].float().cpu()[..., :3])
        )
        meshes.append(
            from_y_up(Mesh(vertices[:v].float().cpu(), faces[:f].long().cpu(), color, uv, picture))
        )
    return meshes


def _v_flipped(uvs: Tensor) -> Tensor:
    """Coordinates (..., 2) from a texture's lower left as those from its upper left, and back."""
    u, v = uvs.unbind(dim=-1)
    return torch.stack([u, 1 - v], dim=-1)


def _same_size(textures: list[Tensor]) -> Tensor:
    """Textures (H, W, 3) as one batch, all at the size of the largest."""
    height, width = (max(t.shape[axis] for t in textures) for axis in (0, 1))
    return torch.stack(
        [
            (
                t
                if t.shape[:2] == (height, width)
                else F.interpolate(t.permute(2, 0, 1)[None], size=(height, width), mode="bilinear")[
                    0
                ].permute(1, 2, 0)
            )
            for t in textures
        ]
    )


def file_3d(path: Path) -> Any:
    """FILE_3D of a saved file."""
    from comfy_api.latest import Types

    return Types.File3D(str(path))


def _padded(parts: list[Tensor], fill: int | None = None) -> Tensor:
    """Tensors (n, d) as (B, longest, d), filled up with a number or with their own first row."""
    longest = max(map(len, parts))
    return torch.stack(
        [
            torch.cat(
                [
                    p,
                    (p[:1] if fill is None else torch.full_like(p[:1], fill)).expand(
                        longest - len(p), -1
                    ),
                ]
            )
            for p in parts
        ]
    )


def _mesh_class() -> Any:
    try:
        from comfy_api.latest import Types

        return Types.MESH
    except AttributeError:  # 0.3.64
        from comfy_extras.nodes_hunyuan3d import MESH

        return MESH
