"""Binary glTF, written: trimesh writes colours in eight bits.

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
from .glb_container import BIN, JSON, MAGIC, WEBP, WIDTHS
from .glb_material import TextureFormat, written_material

_QUALITY = 92  # of JPEG and WebP
_ARRAY, _ELEMENTS = 34962, 34963


def write(
    mesh: Mesh, metadata: Mapping[str, str], up_axis: str, texture_format: TextureFormat
) -> bytes:
    """A GLB of a mesh that is already turned.

    Its colours are float32 linear light; its images are inside. A WebP needs a reader that knows
    the extension EXT_texture_webp.
    """
    views: list[dict[str, Any]] = []
    accessors: list[dict[str, Any]] = []
    binary = bytearray()

    def add_view(data: bytes, target: int | None = None) -> int:
        binary.extend(b"\0" * (-len(binary) % 4))
        views.append(
            {"buffer": 0, "byteOffset": len(binary), "byteLength": len(data)}
            | ({"target": target} if target else {})
        )
        binary.extend(data)
        return len(views) - 1

    def add(array: np.ndarray, kind: str, target: int, **bounds: list[float]) -> int:
        component = 5125 if array.dtype == np.uint32 else 5126
        view = add_view(array.tobytes(), target)
        accessors.append(
            {
                "bufferView": view,
                "componentType": component,
                "count": len(array.reshape(-1, WIDTHS[kind])),
                "type": kind,
            }
            | bounds
        )
        return len(accessors) - 1

    vertices = mesh.vertices.float().cpu().numpy().astype("<f4")
    attributes = {
        "POSITION": add(
            vertices,
            "VEC3",
            _ARRAY,
            min=vertices.min(axis=0).tolist(),
            max=vertices.max(axis=0).tolist(),
        )
    }
    for attribute, values, kind in (
        ("NORMAL", mesh.normals, "VEC3"),
        ("TANGENT", mesh.tangents, "VEC4"),
    ):
        if values is not None:
            attributes[attribute] = add(values.float().cpu().numpy().astype("<f4"), kind, _ARRAY)
    tree: dict[str, Any] = {"asset": {"version": "2.0", "generator": "Image to 3D"}}
    if mesh.vertex_colors is not None or mesh.vertex_alpha is not None:
        srgb = torch.ones_like(mesh.vertices) if mesh.vertex_colors is None else mesh.vertex_colors
        colors = to_linear(srgb.float().clamp(0, 1)).cpu()
        if mesh.vertex_alpha is not None:
            colors = torch.cat([colors, mesh.vertex_alpha.float().cpu()[:, None]], dim=1)
        kind = "VEC3" if mesh.vertex_alpha is None else "VEC4"
        attributes["COLOR_0"] = add(colors.numpy().astype("<f4"), kind, _ARRAY)
    if mesh.uvs is not None:
        uvs = mesh.uvs.float().cpu().numpy().astype("<f4")
        attributes["TEXCOORD_0"] = add(np.stack([uvs[:, 0], 1 - uvs[:, 1]], axis=1), "VEC2", _ARRAY)

    def add_image(image: Tensor, kind: TextureFormat) -> int:
        view = add_view(_encoded(image.permute(2, 0, 1)[None], kind))
        images = tree.setdefault("images", [])
        images.append({"bufferView": view, "mimeType": f"image/{kind}"})
        texture: dict[str, Any] = {"source": len(images) - 1}
        if kind == "webp":
            tree["extensionsRequired"] = [WEBP]
            texture = {"extensions": {WEBP: texture}}
        tree.setdefault("textures", []).append(texture)
        return len(tree["textures"]) - 1

    material = written_material(mesh, texture_format, add_image)
    used = [*tree.get("extensionsRequired", []), *material.get("extensions", {})]
    if used:
        tree["extensionsUsed"] = used
    faces = mesh.faces.cpu().numpy().astype("<u4").reshape(-1)
    primitive = {
        "attributes": attributes,
        "indices": add(faces, "SCALAR", _ELEMENTS),
        "material": 0,
    }
    extras = dict(metadata) | ({"up_axis": "z"} if up_axis == "z" else {})
    if extras:
        tree["asset"]["extras"] = extras
    tree |= {
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "materials": [material],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    text = json.dumps(tree, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary.extend(b"\0" * (-len(binary) % 4))
    length = 12 + 8 + len(text) + 8 + len(binary)
    return b"".join(
        [
            struct.pack("<III", MAGIC, 2, length),
            struct.pack("<II", len(text), JSON),
            text,
            struct.pack("<II", len(binary), BIN),
            binary,
        ]
    )


def _encoded(texture: Tensor, kind: TextureFormat) -> bytes:
    if kind == "png":
        return png_bytes(texture)
    buffer = io.BytesIO()
    to_pillow(texture).save(buffer, kind, quality=_QUALITY, subsampling=0)
    return buffer.getvalue()
