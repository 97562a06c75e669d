"""Restrict the image formats that Pillow may decode.

By default, Pillow tries every format it knows. For EPS it runs Ghostscript, so a malicious image
could execute a program.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

PHOTO_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "TGA")
TEXTURE_FORMATS = (*PHOTO_FORMATS, "DDS", "PPM", "PCX")


def open_image(source: Path | IO[bytes], formats: Sequence[str] = PHOTO_FORMATS) -> Image.Image:
    """Open an image file in one of the given formats, without decoding its pixels yet.

    Args:
        source: a path or an open file.
        formats: Pillow's names of formats. Ones that the installed Pillow cannot read are ignored.

    Raises:
        PIL.UnidentifiedImageError: if the file is in none of the formats.
        Exception: of any other type, from Pillow's plugins.
    """
    Image.preinit()  # imports the plugins of common formats only
    try:
        return _open(source, formats)
    except UnidentifiedImageError:
        Image.init()  # imports all plugins
        return _open(source, formats)


def _open(source: Path | IO[bytes], formats: Sequence[str]) -> Image.Image:
    readable = [name for name in formats if name in Image.OPEN]
    return Image.open(source, formats=readable)  # noqa: TID251 - the only place that may call it
