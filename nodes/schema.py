"""Build schemas with what the running version of ComfyUI knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

from comfy_api.latest import io

from ..pipelines.errors import InvalidInput
from ..pipelines.settings import JobSettings, LoadSettings, declared

CATEGORY = "3d/Image to 3D"
#: Options of a widget that is rarely used: newer versions fold it away.
RARE: dict[str, Any] = (
    {"advanced": True} if "advanced" in signature(io.Int.Input.__init__).parameters else {}
)
_SETTINGS = declared(JobSettings, LoadSettings)
_HAS_ALIASES = "search_aliases" in signature(io.Schema.__init__).parameters


def schema(*, aliases: Sequence[str] = (), folder: str = "", **fields: Any) -> io.Schema:
    """Return a node's schema.

    Args:
        aliases: words that find the node in the page's search, beside its name.
        folder: subcategory in the menu.
        fields: of `io.Schema`.
    """
    if _HAS_ALIASES:
        fields["search_aliases"] = list(aliases)
    return io.Schema(category=f"{CATEGORY}/{folder}" if folder else CATEGORY, **fields)


def complaint(check: Callable[[], object]) -> bool | str:
    """Return True if a check passes, else its message, as `validate_inputs` must."""
    try:
        check()
    except InvalidInput as error:
        return str(error)
    return True


def from_setting(kind: Any, name: str, *, setting: str = "", **own: Any) -> Any:
    """Return a widget with the default, bounds and help of one of the library's settings.

    Args:
        kind: `io.Int`, `io.Float`, `io.Boolean` or `io.Combo`.
        name: of the widget.
        setting: name of the setting, if it has another.
        own: options in which the widget differs, or which settings lack.
    """
    declaration = _SETTINGS[setting or name]
    help_text = declaration.help
    options: dict[str, Any] = {
        "default": declaration.default,
        "tooltip": f"{help_text[:1].upper()}{help_text[1:]}.",
    }
    if declaration.choices:
        options["options"] = list(declaration.choices)
    elif declaration.kind in (int, float):
        options |= {"min": declaration.low, "max": declaration.high}
    return kind.Input(name, **(options | own))
