"""Convert images to what ModelsLab accepts for upload."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Callable
from typing import Any

from PIL import Image

log = logging.getLogger(__name__)

_MAX_UPLOAD_CHARACTERS = 5_000_000  # maximum length of the data URI
_SMALLER_SIDES_PX = (2048, 1024)


def data_uri(image: Image.Image, notice: Callable[[str], None] = log.info) -> str:
    """Encode an image as a data URI that the service accepts.

    The image is sent as a PNG. If that would be too large, it is sent as a downscaled JPEG, and
    `notice` is called.
    """
    rgb = image.convert("RGB")
    # Skip the PNG for larger images, because it would exceed the limit.
    if rgb.width * rgb.height <= _MAX_UPLOAD_CHARACTERS:
        encoded = _encode(rgb, "PNG")
        if len(encoded) <= _MAX_UPLOAD_CHARACTERS:
            return encoded
    for side in _SMALLER_SIDES_PX:
        rgb.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
        encoded = _encode(rgb, "JPEG", quality=90)
        if len(encoded) <= _MAX_UPLOAD_CHARACTERS:
            break
    notice(
        f"The image is too large to upload: it is sent as a JPEG of {rgb.width} x {rgb.height}"
        " pixels."
    )
    return encoded


def _encode(image: Image.Image, format: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return f"data:image/{format.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
