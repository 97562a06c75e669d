"""V3 schema: inputs and outputs keep what they were given, to be looked at."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any


class _Port:
    io_type: str

    def __init__(self, id: str, *, advanced: bool = False, **options: Any) -> None:
        self.id, self.advanced, self.options = id, advanced, options
        self.display_name = options.pop("display_name", None)


class Image:
    class Input(_Port):
        io_type = "Image"

    class Output(_Port):
        io_type = "Image"


class Mask:
    class Input(_Port):
        io_type = "Mask"

    class Output(_Port):
        io_type = "Mask"


class Mesh:
    class Input(_Port):
        io_type = "Mesh"

    class Output(_Port):
        io_type = "Mesh"


class Int:
    class Input(_Port):
        io_type = "Int"

    class Output(_Port):
        io_type = "Int"


class Float:
    class Input(_Port):
        io_type = "Float"

    class Output(_Port):
        io_type = "Float"


class String:
    class Input(_Port):
        io_type = "String"

    class Output(_Port):
        io_type = "String"


class Boolean:
    class Input(_Port):
        io_type = "Boolean"

    class Output(_Port):
        io_type = "Boolean"


class Combo:
    class Input(_Port):
        io_type = "Combo"

    class Output(_Port):
        io_type = "Combo"


class Video:
    class Input(_Port):
        io_type = "Video"

    class Output(_Port):
        io_type = "Video"


class Voxel:
    class Input(_Port):
        io_type = "Voxel"


class Load3DCamera:
    class Input(_Port):
        io_type = "Load3DCamera"

    class Output(_Port):
        io_type = "Load3DCamera"


class File3DAny:
    class Input(_Port):
        io_type = "File3DAny"

    class Output(_Port):
        io_type = "File3DAny"


class File3DGLB:
    class Input(_Port):
        io_type = "File3DGLB"


class MultiType:
    class Input(_Port):
        """Input of several types: its `io_type` is the first, and its options list all."""

        def __init__(self, id: str, types: list[Any], **options: Any) -> None:
            super().__init__(id, types=types, **options)
            self.io_type = types[0].Input.io_type


def Custom(name: str) -> Any:
    """A socket type of a pack's own."""
    ports = {port: type(port, (_Port,), {"io_type": name}) for port in ("Input", "Output")}
    return type(name, (), ports)


class ControlAfterGenerate(str, enum.Enum):
    fixed = "fixed"


class Hidden(enum.Enum):
    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"


class Schema:
    def __init__(self, search_aliases: Sequence[str] = (), **fields: Any) -> None:
        self.search_aliases = search_aliases
        self.inputs: list[_Port] = fields.pop("inputs", [])
        self.outputs: list[_Port] = fields.pop("outputs", [])
        self.fields = fields
        both = {port.id for port in self.inputs} & {port.id for port in self.outputs}
        if both:  # 0.3.64 refuses the whole pack
            raise ValueError(f"Ids must be unique between inputs and outputs, but {both} are not.")


class ComfyNode:
    hidden = SimpleNamespace(
        unique_id="1", prompt={"1": {}}, extra_pnginfo={"workflow": {"nodes": []}}
    )


class NodeOutput:
    def __init__(self, *args: Any, ui: Any = None) -> None:
        self.args, self.ui = args, ui

    def __getitem__(self, index: int) -> Any:
        return self.args[index]
