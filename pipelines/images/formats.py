"""Image formats that are read. Any other is refused before a decoder sees it.

Pillow tries every format that it knows. For EPS it starts Ghostscript: an image could be a program.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO

from PIL import Image

PHOTO_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "TGA")
TEXTURE_FORMATS = (*PHOTO_FORMATS, "DDS", "PPM", "PCX")


def open_image(source: Path | IO[bytes], formats: Sequence[str] = PHOTO_FORMATS) -> Image.Image:
    """Open an image file in one of the given formats. Pixels are decoded later, by `load`.

    Args:
        source: a path or an open file.
        formats: Pillow's names; those that this Pillow does not read are skipped.

    Raises:
        Whatever Pillow raises, `PIL.UnidentifiedImageError` for another format.
    """
    Image.init()
    readable = [name for name in formats if name in Image.OPEN]
    return Image.open(source, formats=readable)  # noqa: TID251 - the one place that may
