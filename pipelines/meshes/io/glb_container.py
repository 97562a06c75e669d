"""What lies in a binary glTF: its chunks, its tree and its numbers.

Source: Khronos, glTF 2.0, sections 3.6 and 4.
"""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from ...errors import InvalidInput
from ..topology import Floats

MAGIC = 0x46546C67
JSON, BIN = 0x4E4F534A, 0x004E4942
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
COMPRESSED = {"KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_meshopt_compression"}
WEBP = "EXT_texture_webp"
_COMPONENTS = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}


class GLB:
    """The tree of a file, and the numbers and bytes that it names.

    Raises:
        InvalidInput: here and in its methods, if the file is damaged or what is asked for is not
            read.
    """

    def __init__(self, content: bytes, path: Path) -> None:
        self.tree, self._binary = _chunks(content)
        self._folder = path.parent.resolve()

    def accessor(self, index: int) -> Floats:
        """(N, width) numbers of an accessor, with sparse changes, integers in their range."""
        accessor = self.tree["accessors"][index]
        dtype = np.dtype(_COMPONENTS[accessor["componentType"]])
        width = WIDTHS[accessor["type"]]
        count = accessor["count"]
        if not self.has_data(index):
            raise InvalidInput(
                "some of its numbers are stored in a way that is not read: save it anew, without"
                " compression"
            )
        if "bufferView" in accessor:
            values = self._array(
                accessor["bufferView"], accessor.get("byteOffset", 0), dtype, width, count
            ).astype(np.float64)
        else:
            values = np.zeros((count, width))
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            at, new = sparse["indices"], sparse["values"]
            kind = np.dtype(_COMPONENTS[at["componentType"]])
            rows = self._array(at["bufferView"], at.get("byteOffset", 0), kind, 1, sparse["count"])[
                :, 0
            ].astype(np.int64)
            values[rows] = self._array(
                new["bufferView"], new.get("byteOffset", 0), dtype, width, sparse["count"]
            )
        if accessor.get("normalized") and dtype.kind in "iu":
            values = np.maximum(values / np.iinfo(dtype).max, -1)
        return values

    def has_data(self, index: int) -> bool:
        """Whether an accessor's numbers lie in the file as plain ones."""
        accessor = self.tree["accessors"][index]
        return "sparse" in accessor or "bufferView" in accessor

    def _array(
        self, view: int, offset: int, dtype: np.dtype[Any], width: int, count: int
    ) -> np.ndarray:
        where = self.tree["bufferViews"][view]
        if COMPRESSED & where.get("extensions", {}).keys():
            raise InvalidInput(
                "it is compressed (EXT_meshopt_compression), which is not read: save it without"
                " compression"
            )
        size = dtype.itemsize * width
        stride = where.get("byteStride", size)
        start = where.get("byteOffset", 0) + offset
        buffer = self._buffer(where["buffer"])
        if count and start + stride * (count - 1) + size > len(buffer):
            raise InvalidInput("it is cut off")
        return np.ndarray((count, width), dtype, buffer, start, (stride, dtype.itemsize))

    def _buffer(self, index: int) -> bytes:
        uri = self.tree["buffers"][index].get("uri")
        return self._binary if uri is None else self._fetch(uri)

    def bytes_of(self, image: dict[str, Any]) -> bytes:
        """An image's file."""
        if "bufferView" not in image:
            return self._fetch(image["uri"])
        where = self.tree["bufferViews"][image["bufferView"]]
        start = where.get("byteOffset", 0)
        return self._buffer(where["buffer"])[start : start + where["byteLength"]]

    def _fetch(self, uri: str) -> bytes:
        """What a data URI holds, or a file beside the GLB."""
        if uri.startswith("data:"):
            return base64.b64decode(uri.partition(",")[2])
        place = (self._folder / unquote(uri)).resolve()
        if not place.is_relative_to(self._folder) or not place.is_file():
            raise InvalidInput(f"it names the file {unquote(uri)}, which is not beside it")
        return place.read_bytes()


def _chunks(content: bytes) -> tuple[dict[str, Any], bytes]:
    if len(content) < 20 or struct.unpack_from("<I", content)[0] != MAGIC:
        raise InvalidInput("it is damaged, or something else")
    version, length = struct.unpack_from("<II", content, 4)
    if version != 2:
        raise InvalidInput(f"it is glTF {version}, of which only version 2 is read")
    if length > len(content):
        raise InvalidInput("it is cut off")
    chunks: dict[int, bytes] = {}
    place = 12
    while place + 8 <= length:
        size, kind = struct.unpack_from("<II", content, place)
        chunks.setdefault(kind, content[place + 8 : place + 8 + size])
        place += 8 + size
    tree = json.loads(chunks[JSON])
    if not isinstance(tree, dict):
        raise InvalidInput("it is damaged, or something else")
    return tree, chunks.get(BIN, b"")
