"""Write binary glTF (GLB).

trimesh is not used here, because it writes 8-bit colours. Every file passes the Khronos validator,
which only warns about normal maps without tangents.

Source: Khronos, glTF 2.0, and the extension EXT_texture_webp.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...images.colors import to_linear
from ...images.reading import png_bytes, to_pillow
from ..mesh import Mesh
from .glb_container import BIN, JSON, MAGIC, WEBP
from .glb_material import TextureFormat, write_material

_QUALITY = 92  # of JPEG and WebP
_ARRAY, _ELEMENTS = 34962, 34963  # buffer targets
_FLOAT, _UINT32 = 5126, 5125  # component types
_KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}


def write(
    mesh: Mesh, metadata: Mapping[str, str], up_axis: str, texture_format: TextureFormat
) -> bytes:
    """Encode a mesh, already in the file's axes, as a GLB.

    Vertex colours are stored as float32 linear light, and images inside the file. Readers of WebP
    textures must support the extension EXT_texture_webp.
    """
    writer = _Writer()
    attributes = {
        name: writer.add_array(values, bounds=name == "POSITION")
        for name, values in _attributes(mesh).items()
    }
    faces = mesh.faces.cpu().numpy().reshape(-1, 1).astype("<u4")
    indices = writer.add_array(faces, _ELEMENTS)
    material = write_material(mesh, texture_format, writer.add_image)
    extras = dict(metadata) | ({"up_axis": "z"} if up_axis == "z" else {})
    used = [*writer.required, *material.get("extensions", {})]
    tree: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "Image to 3D"}
        | ({"extras": extras} if extras else {}),
        "extensionsUsed": used,
        "extensionsRequired": writer.required,
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": indices, "material": 0}]}],
        "materials": [material],
        "textures": writer.textures,
        "images": writer.images,
        "accessors": writer.accessors,
        "bufferViews": writer.views,
        "buffers": [{"byteLength": len(writer.binary)}],
    }
    return _packed({key: value for key, value in tree.items() if value != []}, writer.binary)


def _attributes(mesh: Mesh) -> dict[str, np.ndarray]:
    """Return the vertex attributes by their glTF names, as float32 clamped to glTF's ranges."""
    found = {"POSITION": mesh.vertices}
    if mesh.normals is not None:
        found["NORMAL"] = _unit(mesh.normals)
        if mesh.tangents is not None:
            sign = torch.where(mesh.tangents[:, 3:] < 0, -1.0, 1.0)
            found["TANGENT"] = torch.cat([_unit(mesh.tangents[:, :3]), sign], dim=1)
    if mesh.vertex_colors is not None or mesh.vertex_alpha is not None:
        srgb = torch.ones_like(mesh.vertices) if mesh.vertex_colors is None else mesh.vertex_colors
        found["COLOR_0"] = to_linear(srgb.float().clamp(0, 1)).clamp(0, 1)
    if mesh.vertex_alpha is not None:
        alpha = mesh.vertex_alpha.float().clamp(0, 1)[:, None]
        found["COLOR_0"] = torch.cat([found["COLOR_0"], alpha.to(found["COLOR_0"])], dim=1)
    if mesh.uvs is not None:
        u, v = mesh.uvs.unbind(dim=1)
        found["TEXCOORD_0"] = torch.stack([u, 1 - v], dim=1)
    return {name: v.detach().float().cpu().numpy().astype("<f4") for name, v in found.items()}


def _unit(rows: Tensor) -> Tensor:
    """Normalize directions (V, 3); rows of length 0 point upward."""
    rows = rows.double()
    lengths = rows.norm(dim=1, keepdim=True)
    up = torch.tensor([0.0, 1.0, 0.0], dtype=rows.dtype, device=rows.device)
    return torch.where(lengths > 0, rows / lengths.clamp(min=1e-300), up)


class _Writer:
    """The binary chunk of a GLB, and the JSON entries that describe it.

    Attributes:
        binary: the bytes written so far.
        views, accessors, images, textures: entries of the glTF arrays of these names.
        required: extensions that a reader must support.
    """

    def __init__(self) -> None:
        self.binary = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []
        self.images: list[dict[str, Any]] = []
        self.textures: list[dict[str, Any]] = []
        self.required: list[str] = []

    def add_array(self, array: np.ndarray, target: int = _ARRAY, bounds: bool = False) -> int:
        """Store an array (N, width) of float32 or uint32, and return its accessor's index."""
        accessor: dict[str, Any] = {
            "bufferView": self._add_view(array.tobytes(), target),
            "componentType": _UINT32 if array.dtype.kind == "u" else _FLOAT,
            "count": len(array),
            "type": _KINDS[array.shape[1]],
        }
        if bounds:
            accessor |= {"min": array.min(axis=0).tolist(), "max": array.max(axis=0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def add_image(self, image: Tensor, kind: TextureFormat) -> int:
        """Store an image (H, W, 3), and return its texture's index."""
        view = self._add_view(_encoded(image.permute(2, 0, 1)[None], kind))
        self.images.append({"bufferView": view, "mimeType": f"image/{kind}"})
        texture: dict[str, Any] = {"source": len(self.images) - 1}
        if kind == "webp":
            self.required = [WEBP]
            texture = {"extensions": {WEBP: texture}}
        self.textures.append(texture)
        return len(self.textures) - 1

    def _add_view(self, data: bytes, target: int | None = None) -> int:
        self.binary.extend(b"\0" * (-len(self.binary) % 4))
        view = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(data)}
        self.views.append(view if target is None else view | {"target": target})
        self.binary.extend(data)
        return len(self.views) - 1


def _packed(tree: Mapping[str, Any], binary: bytearray) -> bytes:
    """Join the JSON tree and the binary chunk into a GLB."""
    text = json.dumps(tree, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    data = bytes(binary) + b"\0" * (-len(binary) % 4)
    head = struct.pack("<5I", MAGIC, 2, 12 + 8 + len(text) + 8 + len(data), len(text), JSON)
    return b"".join([head, text, struct.pack("<II", len(data), BIN), data])


def _encoded(texture: Tensor, kind: TextureFormat) -> bytes:
    """Encode one image (1, 3, H, W) in a texture format."""
    if kind == "png":
        return png_bytes(texture)
    buffer = io.BytesIO()
    to_pillow(texture).save(buffer, kind, quality=_QUALITY, subsampling=0)
    return buffer.getvalue()
