"""Build node schemas that the running version of ComfyUI supports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import getdoc, signature
from typing import Any

from comfy_api.latest import io

from ..pipelines.errors import InvalidInput
from ..pipelines.settings import JobSettings, LoadSettings, Setting, declared

CATEGORY = "3d/Image to 3D"
#: Options of a widget that is rarely used: newer versions fold it away.
RARE: dict[str, Any] = (
    {"advanced": True} if "advanced" in signature(io.Int.Input.__init__).parameters else {}
)
_SETTINGS = declared(JobSettings, LoadSettings)
_KINDS: dict[type, Any] = {bool: io.Boolean, int: io.Int, float: io.Float, str: io.String}
_HAS_ALIASES = "search_aliases" in signature(io.Schema.__init__).parameters


def node_schema(
    node_id: str,
    display_name: str,
    aliases: str,
    *,
    inputs: Sequence[Any] | Callable[[], Sequence[Any]],
    folder: str = "",
    **fields: Any,
) -> Any:
    """Return a node's class method `define_schema`.

    The description is the docstring of the node's class. Outputs without a display name show their
    id.

    Args:
        node_id: id of the node in workflows.
        display_name: name of the node on the page.
        aliases: words that find the node in the page's search, separated by commas.
        inputs: the inputs, or a function that returns them, if they change while ComfyUI runs.
        folder: subcategory in the menu.
        fields: other fields of `io.Schema`.
    """
    if _HAS_ALIASES:
        fields["search_aliases"] = aliases.split(", ")
    for output in fields["outputs"]:
        output.display_name = output.display_name or output.id

    def define_schema(cls: type[io.ComfyNode]) -> io.Schema:
        return io.Schema(
            node_id=node_id,
            display_name=display_name,
            category=f"{CATEGORY}/{folder}".rstrip("/"),
            description=" ".join((getdoc(cls) or "").split()),
            inputs=list(inputs() if callable(inputs) else inputs),
            **fields,
        )

    return classmethod(define_schema)


def complaint(check: Callable[[], object]) -> bool | str:
    """Return True if a check passes, else its message, as `validate_inputs` must."""
    try:
        check()
    except InvalidInput as error:
        return str(error)
    return True


def from_setting(name: str, *, setting: str | Setting = "", note: str = "", **own: Any) -> Any:
    """Return a widget with the default, bounds, choices and help of one of the library's settings.

    Args:
        name: name of the widget.
        setting: the setting or its name, if that differs from `name`.
        note: sentences to add to the setting's help.
        own: widget options that replace those of the setting, or that settings do not have.
    """
    declaration = setting if isinstance(setting, Setting) else _SETTINGS[setting or name]
    help_text = declaration.help
    options: dict[str, Any] = {
        "default": declaration.default,
        "tooltip": f"{help_text[:1].upper()}{help_text[1:]}. {note}".rstrip(),
    }
    if declaration.choices:
        return io.Combo.Input(name, **(options | {"options": list(declaration.choices)} | own))
    if declaration.kind in (int, float):
        options |= {"min": declaration.low, "max": declaration.high}
    return _KINDS[declaration.kind].Input(name, **(options | own))


def number(name: str, values: tuple[float, float, float], tooltip: str, **own: Any) -> Any:
    """Return a widget for a number that is not one of the library's settings.

    `values` are its default, minimum and maximum; its type is that of the default.
    """
    default, low, high = values
    widget = _KINDS[type(default)]
    return widget.Input(name, default=default, min=low, max=high, tooltip=tooltip, **own)


def dtype_input() -> Any:
    """Return the widget of a model's precision."""
    return from_setting("dtype", note="auto follows ComfyUI's options and the device.", **RARE)


def seed_input() -> Any:
    """Return the widget of the seed of a batch."""
    note = "The node shows the seed. Further images of a batch use the next seeds."
    return from_setting("seed", control_after_generate=True, note=note)


def max_faces_input(default: int, high: int, note: str = "0 keeps all.") -> Any:
    """Return the widget of the number of triangles to keep."""
    return from_setting("max_faces", default=default, min=0, max=high, step=1000, note=note)


def longest_side_input(tooltip: str, **own: Any) -> Any:
    """Return the widget of the size of a mesh's longest side."""
    own |= {"max": 100_000.0, "step": 1.0, "tooltip": f"{tooltip} 0 keeps the size."}
    return from_setting("longest_side", setting="size", **own)
