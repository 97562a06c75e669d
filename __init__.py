"""ComfyUI's way in: the extension with all nodes, imported when ComfyUI asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import ImageTo3DExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> ImageTo3DExtension:
    """The extension with all nodes.

    What stands in its way is logged here, since ComfyUI itself logs the message alone.
    """
    try:
        from .nodes import ImageTo3DExtension
    except Exception:
        import logging

        logging.getLogger(__name__).exception("Image to 3D cannot be loaded")
        raise
    return ImageTo3DExtension()
