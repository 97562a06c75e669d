"""Build glTF files by hand."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


class Glb:
    """Builds a GLB from arrays and JSON entries."""

    def __init__(self, **tree: Any) -> None:
        self.binary = b""
        self.tree: dict[str, Any] = {
            "asset": {"version": "2.0"},
            "accessors": [],
            "bufferViews": [],
        } | tree

    def add(self, array: Any, kind: str = "VEC3", dtype: str = "<f4", **more: Any) -> int:
        array = np.asarray(array, dtype=dtype)
        component = {"i1": 5120, "u1": 5121, "<i2": 5122, "<u2": 5123, "<u4": 5125, "<f4": 5126}[
            dtype
        ]
        self.binary += b"\0" * (-len(self.binary) % 4)
        self.tree["bufferViews"].append(
            {"buffer": 0, "byteOffset": len(self.binary), "byteLength": array.nbytes}
        )
        self.binary += array.tobytes()
        view = len(self.tree["bufferViews"]) - 1
        count = array.size // {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}[kind]
        self.tree["accessors"].append(
            {"bufferView": view, "componentType": component, "count": count, "type": kind} | more
        )
        return len(self.tree["accessors"]) - 1

    def image(self, *colors: tuple[int, int, int]) -> int:
        """Add a row of pixels as an image."""

        buffer = io.BytesIO()
        row = Image.new("RGB", (len(colors), 1))
        row.putdata(colors)
        row.resize((8 * len(colors), 8), Image.Resampling.NEAREST).save(buffer, "PNG")
        self.binary += b"\0" * (-len(self.binary) % 4)
        self.tree["bufferViews"].append(
            {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(buffer.getvalue())}
        )
        self.binary += buffer.getvalue()
        self.tree.setdefault("images", []).append(
            {"bufferView": len(self.tree["bufferViews"]) - 1, "mimeType": "image/png"}
        )
        return len(self.tree["images"]) - 1

    def save(self, path: Path, primitive: dict[str, Any], **node: Any) -> Path:
        self.tree.setdefault("meshes", [{"primitives": [primitive]}])
        self.tree.setdefault("nodes", [{"mesh": 0} | node])
        self.tree["buffers"] = [{"byteLength": len(self.binary)}]
        text = json.dumps(self.tree).encode()
        text += b" " * (-len(text) % 4)
        binary = self.binary + b"\0" * (-len(self.binary) % 4)
        chunks = (
            struct.pack("<II", len(text), 0x4E4F534A)
            + text
            + struct.pack("<II", len(binary), 0x004E4942)
            + binary
        )
        path.write_bytes(struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks)
        return path


QUAD = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]  # as a strip


def saved_tree(path: Path) -> dict[str, Any]:
    """Return the JSON of a saved GLB."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<I", content, 12)
    return json.loads(content[20 : 20 + length])
