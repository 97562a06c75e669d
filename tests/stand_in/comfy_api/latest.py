"""V3 schema: inputs and outputs keep what they were given, to be looked at."""

from __future__ import annotations

import enum
from types import SimpleNamespace
from typing import Any

from torch import Tensor


class _Port:
    def __init__(self, id: str, **options: Any) -> None:
        self.id, self.options = id, options


def _type(name: str) -> Any:
    return type(name, (), {"Input": type("Input", (_Port,), {"io_type": name}), "Output": type("Output", (_Port,), {"io_type": name})})


class Hidden(enum.Enum):
    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"


class Schema:
    def __init__(self, **fields: Any) -> None:
        self.inputs: list[_Port] = fields.pop("inputs", [])
        self.outputs: list[_Port] = fields.pop("outputs", [])
        self.fields = fields


class ComfyNode:
    hidden = SimpleNamespace(unique_id="1", prompt={"1": {}}, extra_pnginfo={"workflow": {"nodes": []}})


class NodeOutput:
    def __init__(self, *args: Any, ui: Any = None) -> None:
        self.args, self.ui = args, ui

    def __getitem__(self, index: int) -> Any:
        return self.args[index]


class ComfyExtension: ...


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
        self.vertices, self.faces, self.uvs, self.vertex_colors, self.texture = vertices, faces, uvs, vertex_colors, texture
        self.vertex_counts, self.face_counts = vertex_counts, face_counts


class BareMESH:
    """As in 0.3.64 and 0.8.0."""

    def __init__(self, vertices: Tensor, faces: Tensor) -> None:
        self.vertices, self.faces = vertices, faces


class File3D:
    def __init__(self, source: str, file_format: str = "") -> None:
        self.source = source


Types = SimpleNamespace(MESH=MESH, File3D=File3D)
ui = SimpleNamespace(PreviewText=lambda text: SimpleNamespace(value=text))
io = SimpleNamespace(
    **{name: _type(name) for name in ("Image", "Mask", "Mesh", "Int", "Float", "String", "Boolean", "Combo", "File3DAny")},
    Custom=_type,
    Schema=Schema,
    ComfyNode=ComfyNode,
    NodeOutput=NodeOutput,
    Hidden=Hidden,
)
