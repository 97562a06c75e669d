"""Picture files to arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageColor, ImageOps
from torch import Tensor

from .errors import InvalidInput, UnreadablePicture

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
MIN_SIDE = 16
MAX_PIXELS = 100_000_000
_WORKING_SIDE = 2048  # the models see 320 pixels: more than this only costs time


def read_picture(path: Path) -> Tensor:
    """A picture file as an array, upright, at most 2048 pixels wide or high.

    Args:
        path: any format and mode that Pillow reads; of an animation, the first frame.

    Returns:
        (4, H, W) float32 in [0, 1]: RGB and straight alpha.

    Raises:
        UnreadablePicture: if the file is missing or no picture.
        InvalidInput: if it has fewer than 16 pixels along a side, or more than 100 million in all.
    """
    try:
        with Image.open(path) as opened:
            width, height = opened.size
            if min(width, height) < MIN_SIDE:
                raise InvalidInput(f"{path.name} has {width} x {height} pixels: use a picture of at least {MIN_SIDE} x {MIN_SIDE}.")
            if width * height > MAX_PIXELS:
                raise InvalidInput(f"{path.name} has {width} x {height} pixels, more than {MAX_PIXELS:,}: make it smaller first.")
            opened.draft("RGB", (_WORKING_SIDE, _WORKING_SIDE))
            picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith(("I", "F")):
                picture = _to_8_bit(picture)
            rgba = picture.convert("RGBA")
    except Image.DecompressionBombError as error:
        raise InvalidInput(f"{path.name} has more than {MAX_PIXELS:,} pixels: make it smaller first.") from error
    except FileNotFoundError as error:
        raise UnreadablePicture(f"There is no file {path}.") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise UnreadablePicture(f"{path.name} cannot be read as a picture: it is damaged, or no picture at all.") from error
    rgba.thumbnail((_WORKING_SIDE, _WORKING_SIDE), Image.Resampling.LANCZOS)
    return to_tensor(rgba)


def _to_8_bit(picture: Image.Image) -> Image.Image:
    """16-bit grey levels as 8-bit ones; Pillow's own conversion clips them."""
    levels = np.asarray(picture).astype(np.float64)
    top = 65535.0 if levels.max() > 255 else 255.0
    return Image.fromarray((levels.clip(0, top) / top * 255).round().astype(np.uint8))


def parse_color(text: str) -> tuple[float, float, float]:
    """RGB in [0, 1] of a colour as CSS writes it: "#ffffff", "white", "rgb(255, 255, 255)".

    Raises:
        InvalidInput: if it is none.
    """
    try:
        red, green, blue = ImageColor.getrgb(text.strip())[:3]
    except ValueError as error:
        raise InvalidInput(f"A colour is written like #ffffff or white, got '{text}'.") from error
    return red / 255, green / 255, blue / 255


def to_tensor(picture: Image.Image) -> Tensor:
    """(C, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def to_pillow(image: Tensor) -> Image.Image:
    """(1, 3 or 4, H, W) in [0, 1] as a picture."""
    levels = (image.detach().clamp(0, 1) * 255).round().byte().cpu()
    return Image.fromarray(levels.permute(1, 2, 0).numpy() if levels.shape[0] > 1 else levels[0].numpy())
