"""The few names of ComfyUI's newest interface that the pack uses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

from torch import Tensor

from . import io as io
from . import ui as ui


class ComfyExtension: ...


class VideoFromFile:
    def __init__(self, file: str) -> None:
        self.file = file


InputImpl = SimpleNamespace(VideoFromFile=VideoFromFile)


class MESH:
    """With places for all that 0.27 has."""

    def __init__(
        self,
        vertices: Tensor,
        faces: Tensor,
        uvs: Tensor | None = None,
        vertex_colors: Tensor | None = None,
        texture: Tensor | None = None,
        vertex_counts: Tensor | None = None,
        face_counts: Tensor | None = None,
    ) -> None:
        self.vertices, self.faces, self.uvs, self.vertex_colors, self.texture = (
            vertices,
            faces,
            uvs,
            vertex_colors,
            texture,
        )
        self.vertex_counts, self.face_counts = vertex_counts, face_counts


class BareMESH:
    """As in 0.3.64 and 0.8.0."""

    def __init__(self, vertices: Tensor, faces: Tensor) -> None:
        self.vertices, self.faces = vertices, faces


class File3D:
    """A file on the disk, by its path, or in memory."""

    def __init__(self, source: str | IO[bytes], file_format: str = "") -> None:
        self.source = source
        self.format = file_format or Path(str(source)).suffix[1:]

    @property
    def is_disk_backed(self) -> bool:
        return isinstance(self.source, str)

    def get_source(self) -> str | IO[bytes]:
        return self.source

    def save_to(self, path: str) -> str:
        data = (
            Path(self.source).read_bytes() if isinstance(self.source, str) else self.source.read()
        )
        Path(path).write_bytes(data)
        return path


Types: Any = SimpleNamespace(MESH=MESH, File3D=File3D)
