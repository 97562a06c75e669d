"""Socket types, and ComfyUI's arrays as the library's and back."""

from __future__ import annotations

import inspect
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from comfy_api.latest import InputImpl, io
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor
from torch.nn import functional as F

from ..pipelines.errors import InvalidInput
from ..pipelines.images.colors import to_linear, to_srgb
from ..pipelines.meshes.color_transfer import texture_to_vertex_colors
from ..pipelines.meshes.io import from_y_up, load_mesh, to_y_up
from ..pipelines.meshes.material import Material
from ..pipelines.meshes.mesh import Mesh

log = logging.getLogger(__name__)

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
            "An image must be (batch, height, width, 1, 3 or 4 channels), got"
            f" {tuple(image.shape)}."
        )
    images = image.permute(0, 3, 1, 2).float()
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def image_socket(images: Tensor) -> Tensor:
    """(B, C, H, W) as IMAGE."""
    return images.permute(0, 2, 3, 1).clamp(0, 1).contiguous().cpu()


def masks_of(mask: Tensor, images: Tensor) -> Tensor:
    """MASK (B, H, W) or (H, W) as (B, 1, H, W), at the size of images (B, C, H, W).

    One mask serves all images.

    Raises:
        InvalidInput: if there are neither one nor as many masks as images.
    """
    masks = mask.reshape(-1, 1, *mask.shape[-2:]).float()
    if len(masks) not in (1, len(images)):
        raise InvalidInput(
            f"There must be one mask, or one for each image, got {len(masks)} masks and"
            f" {len(images)} images."
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
    vertices are linear light. What the version has no place for is attached all the same: this
    pack's nodes find it, core's ignore it. A batch has one set of a material's numbers.
    """
    textured = [mesh.texture is not None and mesh.uvs is not None for mesh in meshes]
    if any(textured) and not all(textured):
        meshes = [texture_to_vertex_colors(mesh) for mesh in meshes]
    upright = [to_y_up(mesh) for mesh in meshes]
    fields: dict[str, Any] = {
        "vertex_counts": torch.tensor([len(m.vertices) for m in upright]),
        "face_counts": torch.tensor([len(m.faces) for m in upright]),
    }
    if any(m.vertex_colors is not None or m.vertex_alpha is not None for m in upright):
        fields["vertex_colors"] = _padded([_linear_colors(m) for m in _alike(upright)])
    for name in ("uvs", "normals", "tangents"):
        values = [getattr(m, name) for m in upright]
        if all(value is not None for value in values):
            padded = _padded(values)
            fields[name] = _v_flipped(padded) if name == "uvs" else padded
    if all(textured):
        fields["texture"] = _same_size([m.texture for m in upright if m.texture is not None])
    fields |= _material_fields([m.material or Material() for m in upright])
    mesh_class = _mesh_class()
    known = {
        name: value
        for name, value in fields.items()
        if name in inspect.signature(mesh_class).parameters
    }
    mesh = mesh_class(
        _padded([m.vertices for m in upright]), _padded([m.faces for m in upright], fill=0), **known
    )
    for name in fields.keys() - known.keys():
        setattr(mesh, name, fields[name])
    return mesh


def _alike(meshes: Sequence[Mesh]) -> list[Mesh]:
    """The meshes with opacities, if one of them has any."""
    if all(m.vertex_alpha is None for m in meshes):
        return list(meshes)
    return [
        m if m.vertex_alpha is not None else replace(m, vertex_alpha=torch.ones(len(m.vertices)))
        for m in meshes
    ]


def _linear_colors(mesh: Mesh) -> Tensor:
    """(V, 3 or 4) linear light of a mesh's vertices, and their opacity; white where none is."""
    srgb = torch.ones_like(mesh.vertices) if mesh.vertex_colors is None else mesh.vertex_colors
    linear = to_linear(srgb.clamp(0, 1))
    alpha = mesh.vertex_alpha
    return linear if alpha is None else torch.cat([linear, alpha[:, None]], dim=1)


#: What a material's images are where they say nothing, for the meshes of a batch without one.
_PLAIN = {
    "metallic_roughness": (1.0, 1.0, 0.0),
    "normal_map": (0.5, 0.5, 1.0),
    "emissive": (0.0, 0.0, 0.0),
}


def _material_fields(materials: list[Material]) -> dict[str, Any]:
    """MESH's fields of the materials of a batch."""
    found: dict[str, Any] = {}
    for name, plain in _PLAIN.items():
        images = [getattr(material, name) for material in materials]
        if any(image is not None for image in images):
            found[name] = _same_size(
                [torch.tensor(plain).expand(1, 1, 3) if p is None else p for p in images]
            )
    first = materials[0]
    if any(material.unlit for material in materials):
        found["unlit"] = all(material.unlit for material in materials)
    if all(material.occlusion_in_mr for material in materials):
        found["occlusion_in_mr"] = True
    if all(dict(material.factors) == dict(first.factors) for material in materials):
        if first.factors:
            found["material"] = dict(first.factors)
    else:
        log.warning("The meshes of a batch have different materials: their numbers are left out.")
    return found


def texture_socket(meshes: Sequence[Mesh]) -> Tensor:
    """IMAGE of the textures that the meshes have, all at the size of the largest."""
    return _same_size([mesh.texture for mesh in meshes if mesh.texture is not None])


def meshes_of(mesh: Any) -> list[Mesh]:
    """The meshes of a MESH, whichever node and version made it.

    Raises:
        InvalidInput: if it is no batch of triangle meshes, or one of them is empty or holds numbers
            that are not finite.
    """
    items = _items_of(mesh)
    meshes = []
    for i, item in enumerate(items):
        vertices, faces, colors, uvs = (
            item.get(name) for name in ("vertices", "faces", "vertex_colors", "uvs")
        )
        if vertices is None or faces is None or not len(faces) or not len(vertices):
            raise InvalidInput(
                f"Mesh {i + 1} of {len(items)} has no triangles: look at the node that made it."
            )
        material = Material(
            **{name: item[name][..., :3] for name in _PLAIN if name in item},
            occlusion_in_mr=bool(getattr(mesh, "occlusion_in_mr", None)),
            unlit=bool(getattr(mesh, "unlit", None)),
            factors=dict(getattr(mesh, "material", None) or {}),
        )
        texture = item.get("texture")
        meshes.append(
            from_y_up(
                Mesh(
                    vertices,
                    faces.long(),
                    None if colors is None else to_srgb(colors[:, :3].clamp(0, 1)).clamp(0, 1),
                    None if uvs is None else _v_flipped(uvs),
                    None if texture is None or uvs is None else texture[..., :3],
                    item.get("normals"),
                    item.get("tangents"),
                    None if colors is None or colors.shape[1] < 4 else colors[:, 3].clamp(0, 1),
                    (
                        material if uvs is not None else material.without_images() or Material()
                    ).or_none(),
                )
            )
        )
    return meshes


#: MESH's fields that have a row for each vertex, for each triangle, or an image for each mesh.
_ROWS = {
    "vertices": "vertex_counts",
    "faces": "face_counts",
    "vertex_colors": "vertex_counts",
    "uvs": "vertex_counts",
    "normals": "vertex_counts",
    "tangents": "vertex_counts",
}


def _items_of(mesh: Any) -> list[dict[str, Tensor]]:
    """Each mesh's own rows and images, of batches of one length, padded ones and lists."""
    single = isinstance(mesh.vertices, Tensor) and mesh.vertices.ndim == 2
    count = 1 if single else len(mesh.vertices)
    items: list[dict[str, Tensor]] = [{} for _ in range(count)]
    for name in (*_ROWS, "texture", *_PLAIN):
        values = getattr(mesh, name, None)
        if values is None:
            continue
        wanted = 2 if name in _ROWS else 3
        if isinstance(values, Tensor) and values.ndim == wanted:
            values = values[None]
        if len(values) == 1 < count and name not in _ROWS:
            values = [values[0]] * count  # one image for all
        if len(values) != count:
            raise InvalidInput(
                f"The batch has {count} meshes and {len(values)} of {name}: look at the node that"
                " made it."
            )
        counts = getattr(mesh, _ROWS.get(name, ""), None)
        for i, item in enumerate(items):
            own = values[i] if counts is None else values[i][: int(counts[i])]
            item[name] = own.float().cpu() if name != "faces" else own.cpu()
    return items


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


def mesh_of_file_3d(file: Any) -> Mesh:
    """The mesh of a FILE_3D, on the disk or in memory.

    Raises:
        InvalidInput: as `load_mesh` does.
    """
    if file.is_disk_backed and Path(file.get_source()).suffix.lower() == f".{file.format}":
        return load_mesh(Path(file.get_source()))
    with tempfile.TemporaryDirectory() as folder:
        return load_mesh(Path(file.save_to(str(Path(folder) / f"file.{file.format or 'none'}"))))


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
