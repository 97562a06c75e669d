"""ComfyUI's way in: the extension with all nodes, imported when ComfyUI asks for it."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    try:
        from .nodes import ImageTo3DExtension
    except Exception:
        import logging

        logging.getLogger(__name__).exception("Image to 3D cannot be loaded")  # ComfyUI itself logs the message alone
        raise
    return ImageTo3DExtension()
