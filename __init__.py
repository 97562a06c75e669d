"""ComfyUI's entry point: the extension with all nodes, imported when ComfyUI asks for it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import ImageTo3DExtension

WEB_DIRECTORY = "./web"
OLDEST_COMFYUI = (0, 3, 64)

log = logging.getLogger(__name__)


def _warn_if_comfyui_is_too_old() -> None:
    """Log an error below `OLDEST_COMFYUI`, which may not know `comfy_entrypoint`.

    ComfyUI then skips the pack without saying why.
    """
    try:
        from comfyui_version import __version__
    except ImportError:  # older versions have no such module
        __version__ = "0"
    version = tuple(int(part) for part in __version__.split(".")[:3] if part.isdigit())
    if version < OLDEST_COMFYUI:
        oldest = ".".join(map(str, OLDEST_COMFYUI))
        log.error("Image to 3D needs ComfyUI %s or newer: update ComfyUI.", oldest)


async def comfy_entrypoint() -> ImageTo3DExtension:
    """Return the extension with all nodes.

    Log the traceback of an import that fails: ComfyUI logs its message only.
    """
    try:
        from .nodes import ImageTo3DExtension
    except Exception:
        log.exception("Image to 3D cannot be loaded")
        raise
    return ImageTo3DExtension()


_warn_if_comfyui_is_too_old()
