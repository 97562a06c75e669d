"""Convert between ComfyUI's MESH and the library's meshes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from ..pipelines.errors import InvalidInput
from ..pipelines.fields.voxels import VoxelColors
from ..pipelines.images.colors import to_linear, to_srgb
from ..pipelines.meshes.color_transfer import texture_to_vertex_colors
from ..pipelines.meshes.io import from_y_up, to_y_up
from ..pipelines.meshes.material import Material
from ..pipelines.meshes.mesh import Mesh
from .foreign_meshes import foreign_mesh

log = logging.getLogger(__name__)


def mesh_socket(meshes: Sequence[Mesh]) -> Any:
    """Convert meshes to MESH: y up, padded to one length with empty triangles.

    ComfyUI's save nodes write the values into GLB unchanged, so uvs start at the upper left and
    vertex colours are linear. Attributes that the running version does not know are set anyway:
    this pack's nodes read them, ComfyUI's ignore them. A batch has one set of material factors.
    """
    textured = [mesh.texture is not None and mesh.uvs is not None for mesh in meshes]
    if any(textured) and not all(textured):
        meshes = [texture_to_vertex_colors(mesh) for mesh in meshes]
    upright = [to_y_up(mesh) for mesh in meshes]
    socket = _mesh_class()(
        _padded([mesh.vertices for mesh in upright]),
        pad_sequence([mesh.faces for mesh in upright], batch_first=True),  # (0, 0, 0) is empty
    )
    fields = _vertex_fields(upright) | _material_fields([m.material or Material() for m in upright])
    if all(textured):
        fields["texture"] = _same_size([m.texture for m in upright if m.texture is not None])
    fields["paired"] = all(mesh.paired for mesh in meshes)
    for name, value in fields.items():
        setattr(socket, name, value)
    return socket


def _vertex_fields(meshes: Sequence[Mesh]) -> dict[str, Any]:
    """Return MESH's per-vertex fields, and the number of vertices of each mesh."""
    fields: dict[str, Any] = {
        "vertex_counts": torch.tensor([len(mesh.vertices) for mesh in meshes]),
        "face_counts": torch.tensor([len(mesh.faces) for mesh in meshes]),
    }
    opaque = all(mesh.vertex_alpha is None for mesh in meshes)
    if not opaque or any(mesh.vertex_colors is not None for mesh in meshes):
        colors = _padded([_linear_rgba(mesh) for mesh in meshes])
        fields["vertex_colors"] = colors[..., :3] if opaque else colors
    for name in ("uvs", "normals", "tangents"):
        values = [getattr(mesh, name) for mesh in meshes]
        if all(value is not None for value in values):
            fields[name] = _padded(values)
    if "uvs" in fields:
        fields["uvs"] = _v_flipped(fields["uvs"])
    return fields


def _linear_rgba(mesh: Mesh) -> Tensor:
    """Return linear colours with opacity (V, 4), opaque white by default."""
    count = len(mesh.vertices)
    srgb = torch.ones(count, 3) if mesh.vertex_colors is None else mesh.vertex_colors
    alpha = torch.ones(count) if mesh.vertex_alpha is None else mesh.vertex_alpha
    return torch.cat([to_linear(srgb.clamp(0, 1)), alpha[:, None]], dim=1)


#: Neutral textures, for meshes without one in a batch where others have one.
_PLAIN = {
    "metallic_roughness": (1.0, 1.0, 0.0),
    "normal_map": (0.5, 0.5, 1.0),
    "emissive": (0.0, 0.0, 0.0),
}


def _material_fields(materials: list[Material]) -> dict[str, Any]:
    """Return MESH's material fields for a batch."""
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
        log.warning("The meshes of this batch have different materials: their factors are dropped.")
    return found


def texture_socket(meshes: Sequence[Mesh]) -> Tensor:
    """Convert the meshes' textures to IMAGE, resized to the size of the largest."""
    return _same_size([mesh.texture for mesh in meshes if mesh.texture is not None])


def meshes_of(mesh: Any) -> list[Mesh]:
    """Convert MESH of any node, version or pack to meshes.

    Raises:
        InvalidInput: if it is not a batch of triangle meshes, or a mesh is empty or has values
            that are not finite.
    """
    if isinstance(mesh, (list, tuple)) and mesh:
        return [found for one in mesh for found in meshes_of(one)]
    if (foreign := foreign_mesh(mesh)) is not None:
        return [from_y_up(foreign)]
    items = _items_of(mesh)
    for i, item in enumerate(items):
        if not all(len(item.get(name, ())) for name in ("vertices", "faces")):
            raise InvalidInput(
                f"Mesh {i + 1} of {len(items)} has no triangles: check the node that made it."
            )
    return [from_y_up(_mesh_of(item, mesh)) for item in items]


def voxels_of(voxel: Any, count: int) -> list[VoxelColors | None]:
    """Convert core's VOXEL with colours, or None, to one value for each of `count` meshes.

    Its grid fills the cube from -0.5 to 0.5, y up.

    Raises:
        InvalidInput: if it has no colours, or none for one of the meshes.
    """
    if voxel is None:
        return [None] * count
    colors, resolution = (getattr(voxel, name, None) for name in ("voxel_colors", "resolution"))
    if colors is None or resolution is None:
        raise InvalidInput(
            "This VOXEL has no colours: connect the one from core's VAE Decode Texture (TRELLIS.2)."
        )
    cells, colors = voxel.data.cpu(), colors.float().cpu().clamp(0, 1)
    batch = cells[:, 0] if cells.shape[1] == 4 else torch.zeros(len(cells))
    x, y, z = ((cells[:, -3:].float() + 0.5) / resolution - 0.5).unbind(dim=1)
    centers = torch.stack([z, x, y], dim=1)  # z up
    return [
        VoxelColors(centers[batch == i], colors[batch == i], 1 / resolution) for i in range(count)
    ]


def _mesh_of(item: dict[str, Tensor], mesh: Any) -> Mesh:
    """Build one mesh, still y up, from its own rows and images and the batch's factors."""
    colors, uvs, texture = (item.get(name) for name in ("vertex_colors", "uvs", "texture"))
    material = Material(
        **{name: item[name][..., :3] for name in _PLAIN if name in item},
        occlusion_in_mr=bool(getattr(mesh, "occlusion_in_mr", None)),
        unlit=bool(getattr(mesh, "unlit", None)),
        factors=dict(getattr(mesh, "material", None) or {}),
    )
    return Mesh(
        item["vertices"],
        item["faces"].long(),
        None if colors is None else to_srgb(colors[:, :3].clamp(0, 1)).clamp(0, 1),
        None if uvs is None else _v_flipped(uvs),
        None if texture is None or uvs is None else texture[..., :3],
        item.get("normals"),
        item.get("tangents"),
        None if colors is None or colors.shape[1] < 4 else colors[:, 3].clamp(0, 1),
        material.without_images() if uvs is None else material.or_none(),
        bool(getattr(mesh, "paired", False)),
    )


#: MESH's fields with one row per vertex, one row per triangle, or one image per mesh.
_ROWS = {"faces": "face_counts"} | dict.fromkeys(
    ("vertices", "vertex_colors", "uvs", "normals", "tangents"), "vertex_counts"
)


def _items_of(mesh: Any) -> list[dict[str, Tensor]]:
    """Split a padded batch, a list or a single mesh into the rows and images of each mesh."""
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
                f"The batch has {count} meshes and {len(values)} of {name}: check the node that"
                " made it."
            )
        counts = getattr(mesh, _ROWS.get(name, ""), None)
        for i, item in enumerate(items):
            own = values[i] if counts is None else values[i][: int(counts[i])]
            item[name] = own.float().cpu() if name != "faces" else own.cpu()
    return items


def _v_flipped(uvs: Tensor) -> Tensor:
    """Flip uvs (..., 2) between origins at the lower left and at the upper left."""
    u, v = uvs.unbind(dim=-1)
    return torch.stack([u, 1 - v], dim=-1)


def _same_size(textures: list[Tensor]) -> Tensor:
    """Stack textures (H, W, 3), resized to the size of the largest."""
    size = [max(texture.shape[axis] for texture in textures) for axis in (0, 1)]
    images = (texture.permute(2, 0, 1)[None] for texture in textures)
    resized = torch.cat([F.interpolate(image, size=size, mode="bilinear") for image in images])
    return resized.permute(0, 2, 3, 1).contiguous()


def _padded(parts: list[Tensor]) -> Tensor:
    """Stack tensors (n, d) as (B, longest, d), padded with copies of their own first row."""
    index = torch.arange(max(map(len, parts)))
    return torch.stack([part[torch.where(index < len(part), index, 0)] for part in parts])


def _mesh_class() -> Any:
    try:
        from comfy_api.latest import Types

        return Types.MESH
    except AttributeError:  # ComfyUI 0.3.64
        from comfy_extras.nodes_hunyuan3d import MESH

        return MESH
