"""Access to the JSON, arrays and images of a glTF file, either binary (GLB) or text (.gltf).

Source: Khronos, glTF 2.0, sections 3.6 and 4.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

import numpy as np

from ...errors import InvalidInput
from ..topology import Floats
from .textures import find_companion

MAGIC = 0x46546C67
JSON, BIN = 0x4E4F534A, 0x004E4942
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
COMPRESSED = {"KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_meshopt_compression"}
WEBP = "EXT_texture_webp"
_COMPONENTS = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_MAX_COUNT = 2**30  # rows of an accessor; sparse ones can be huge without a large file


class GltfFile:
    """The JSON tree of a glTF file, and the arrays and images that it refers to.

    Raises:
        InvalidInput: from the constructor and from all methods, if the file is damaged or uses an
            unsupported feature.
    """

    def __init__(self, content: bytes, path: Path) -> None:
        self.path = path
        self.tree, self._binary = _parse(content)
        self._fetch = cache(self._read)

    def accessor(self, index: int) -> Floats:
        """Read an accessor (N, width); scale normalized integers to [0, 1] or [-1, 1]."""
        accessor = self.tree["accessors"][index]
        dtype = np.dtype(_COMPONENTS[accessor["componentType"]])
        width = WIDTHS[accessor["type"]]
        count = accessor["count"]
        if not self.has_data(index) or count > _MAX_COUNT:
            raise InvalidInput(
                "some of its numbers are stored in a way that is not supported: save it again"
                " without compression"
            )
        values = np.zeros((count, width))
        if "bufferView" in accessor:
            values[:] = self._array(accessor, dtype, width, count)
        if sparse := accessor.get("sparse"):
            kind = np.dtype(_COMPONENTS[sparse["indices"]["componentType"]])
            rows = self._array(sparse["indices"], kind, 1, sparse["count"])[:, 0].astype(np.int64)
            values[rows] = self._array(sparse["values"], dtype, width, sparse["count"])
        if accessor.get("normalized") and dtype.kind in "iu":
            values = np.maximum(values / np.iinfo(dtype).max, -1)
        return values

    def has_data(self, index: int) -> bool:
        """Return whether the file contains an accessor's data uncompressed."""
        accessor = self.tree["accessors"][index]
        return "sparse" in accessor or "bufferView" in accessor

    def image_bytes(self, index: int) -> bytes:
        """Return the encoded content of an image, such as a PNG."""
        image = self.tree["images"][index]
        if "bufferView" not in image:
            return self._fetch(image["uri"])
        view = self.tree["bufferViews"][image["bufferView"]]
        start = view.get("byteOffset", 0)
        return self._buffer(view["buffer"])[start : start + view["byteLength"]]

    def companions(self) -> list[Path]:
        """Return the existing buffer and image files that this file refers to."""
        entries = [*self.tree.get("buffers", []), *self.tree.get("images", [])]
        names = [entry["uri"] for entry in entries if "uri" in entry]
        places = [find_companion(self.path, unquote(n)) for n in names if not n.startswith("data:")]
        return [place for place in dict.fromkeys(places) if place is not None]

    def _array(
        self, part: Mapping[str, Any], dtype: np.dtype[Any], width: int, count: int
    ) -> np.ndarray:
        """Return the array (count, width) that a part of the tree refers to."""
        where = self.tree["bufferViews"][part["bufferView"]]
        refuse_compressed(where.get("extensions", {}))
        size = dtype.itemsize * width
        stride = where.get("byteStride", size)
        start = where.get("byteOffset", 0) + part.get("byteOffset", 0)
        buffer = self._buffer(where["buffer"])
        if count and start + stride * (count - 1) + size > len(buffer):
            raise InvalidInput("it is cut off")
        return np.ndarray((count, width), dtype, buffer, start, (stride, dtype.itemsize))

    def _buffer(self, index: int) -> bytes:
        uri = self.tree["buffers"][index].get("uri")
        return self._binary if uri is None else self._fetch(uri)

    def _read(self, uri: str) -> bytes:
        """Return the content of a data URI, or of a file in this file's folder."""
        if uri.startswith("data:"):
            head, _, data = uri.partition(",")
            if not head.endswith(";base64"):
                return unquote_to_bytes(data)
            return base64.b64decode(unquote(data) + "==")
        place = find_companion(self.path, unquote(uri))
        if place is None:
            raise InvalidInput(f"it names the file {unquote(uri)}, which is not beside it")
        return place.read_bytes()


def refuse_compressed(extensions: Iterable[str]) -> None:
    """Raise `InvalidInput` if one of the extensions compresses meshes."""
    for extension in extensions:
        if extension in COMPRESSED:
            raise InvalidInput(
                f"it is compressed ({extension}), which is not supported: save it without"
                " compression"
            )


def _parse(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the JSON tree and the binary chunk of a file; the chunk of a .gltf is empty."""
    binary = b""
    if content[:4] == MAGIC.to_bytes(4, "little"):
        content, binary = _chunks(content)
    elif not content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        raise InvalidInput("it is damaged, or not a glTF file")
    tree = json.loads(content)
    version = str(tree.get("asset", {}).get("version", "2.0"))
    if not version.startswith("2."):
        raise InvalidInput(f"it is glTF {version[:20]}, but only version 2 is supported")
    return tree, binary


def _chunks(content: bytes) -> tuple[bytes, bytes]:
    """Return the JSON and the binary chunk of a GLB."""
    if len(content) < 20:
        raise InvalidInput("it is damaged, or not a glTF file")
    version, length = struct.unpack_from("<II", content, 4)
    if version != 2:
        raise InvalidInput(f"it is glTF {version}, but only version 2 is supported")
    if length > len(content):
        raise InvalidInput("it is cut off")
    chunks: dict[int, bytes] = {}
    place = 12
    while place + 8 <= length:
        size, kind = struct.unpack_from("<II", content, place)
        chunks.setdefault(kind, content[place + 8 : place + 8 + size])
        place += 8 + size
    return chunks[JSON], chunks.get(BIN, b"")
