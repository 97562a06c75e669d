"""The few names of ComfyUI's newest interface that the pack uses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

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
    def __init__(self, source: str, file_format: str = "") -> None:
        self.source = source


Types: Any = SimpleNamespace(MESH=MESH, File3D=File3D)
