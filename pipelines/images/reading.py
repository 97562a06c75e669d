"""Read image files as tensors, and write tensors as PNG files."""

from __future__ import annotations

import io
import logging
import re
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, PngImagePlugin
from torch import Tensor

from ..errors import InvalidInput, UnreadableImage
from ..files import SIGNATURE, atomic_path, is_own
from .formats import PHOTO_FORMATS, open_image

log = logging.getLogger(__name__)

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".heic"),
    *(".heif", ".bmp", ".tif", ".tiff", ".gif"),
)
MIN_SIDE = 16
MAX_PIXELS = 100_000_000
_WORKING_SIDE_PX = 2048  # larger images are reduced: the models' input is far smaller
_TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
#: Operations that make an image upright, by its EXIF orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def is_input_image(path: Path) -> bool:
    """Return whether a file has the suffix of an image and was not written by this library."""
    return path.suffix.lower() in SUFFIXES and path.is_file() and not is_own(path)


def read_image(path: Path) -> Tensor:
    """Read an image file, upright and at most 2048 pixels wide or high.

    Args:
        path: file in one of `formats.PHOTO_FORMATS`, with any pixel type. Only the first frame of
            an animation is read. Grey levels above 8 bits are scaled by the number of bits that
            the image uses. Floats outside [0, 1] are scaled by their range.

    Returns:
        (1, 4, H, W) float32 in [0, 1]: RGB and straight alpha.

    Raises:
        UnreadableImage: if the file is missing or not a readable image.
        InvalidInput: if a side has fewer than 16 pixels, or the image more than 100 million.

    >>> tuple(read_image(Path("workflows/demo.png")).shape)
    (1, 4, 512, 512)
    """
    try:
        with open_image(path) as opened:
            width, height = opened.size
            if min(width, height) < MIN_SIDE:
                raise InvalidInput(
                    f"{path.name} has {width} x {height} pixels: use an image of at least"
                    f" {MIN_SIDE} x {MIN_SIDE}."
                )
            if width * height > MAX_PIXELS:
                raise InvalidInput(
                    f"{path.name} has {width} x {height} pixels, more than {MAX_PIXELS:,}: make it"
                    " smaller first."
                )
            opened.draft("RGB", (_WORKING_SIDE_PX, _WORKING_SIDE_PX))
            opened.load()
            upright = _upright(opened)
            levels = _to_8_bit(upright, opened) if upright.mode.startswith(("I", "F")) else upright
            rgba = levels.convert("RGBA")
    except (InvalidInput, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise InvalidInput(
            f"{path.name} has more than {MAX_PIXELS:,} pixels: make it smaller first."
        ) from error
    except FileNotFoundError as error:
        raise UnreadableImage(f"There is no file {path}.") from error
    except Exception as error:  # Pillow's plugins raise errors of any type
        raise UnreadableImage(f"{path.name} cannot be read as an image: {_why(path)}.") from error
    rgba.thumbnail((_WORKING_SIDE_PX, _WORKING_SIDE_PX), Image.Resampling.LANCZOS)
    return to_tensor(rgba)


def _upright(image: Image.Image) -> Image.Image:
    """Rotate or flip an image upright according to its EXIF orientation."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception as error:  # another part of the EXIF may be damaged
        log.info("the EXIF of an image cannot be read: %s", error)
        return image
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _to_8_bit(image: Image.Image, opened: Image.Image) -> Image.Image:
    """Scale high-bit-depth or float grey levels to 8 bits. Pillow's own conversion clips them."""
    levels = np.asarray(image).astype(np.float64)
    finite = np.isfinite(levels)
    if not finite.any():
        raise UnreadableImage("it has no finite values")
    low, high = float(levels[finite].min()), float(levels[finite].max())
    if image.mode.startswith("F"):
        low, high = (0.0, 1.0) if low >= 0 and high <= 1 else (min(low, 0.0), high)
    else:
        low, high = min(low, 0.0), float(2 ** max(8, int(high).bit_length()) - 1)
    scaled = (np.where(finite, levels, low) - low) / max(high - low, 1e-300)
    if getattr(opened, "tag_v2", {}).get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        scaled = 1 - scaled
    return Image.fromarray((scaled.clip(0, 1) * 255).round().astype(np.uint8))


def _why(path: Path) -> str:
    """Explain why an existing file is not readable as an image, and what to do about it."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except (OSError, ValueError):
        return "it cannot be opened"
    if head[4:8] == b"ftyp":
        brands = head[8:12] + head[16:48]
        if re.search(rb"avi[fs]", brands):
            return (
                "it is a damaged AVIF, or this Pillow does not read AVIF: save it as PNG or JPEG,"
                " or update Pillow to 11.3 or newer"
            )
        if re.search(rb"hei[cmsx]|hevc|m[is]f1", brands):
            return "it is a HEIC: save it as JPEG or PNG first, for example in an image viewer"
    return f"it is damaged, or not one of {', '.join(PHOTO_FORMATS)}"


def to_tensor(image: Image.Image) -> Tensor:
    """Convert a Pillow image to a tensor (1, C, H, W), float32 in [0, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def to_pillow(image: Tensor) -> Image.Image:
    """Convert an image (1, C, H, W) in [0, 1] to Pillow; C is 1 (grey), 3 (RGB) or 4 (RGBA)."""
    (levels,) = (image.detach().clamp(0, 1) * 255).round().byte().cpu()
    rows = levels.permute(1, 2, 0) if levels.shape[0] > 1 else levels[0]
    return Image.fromarray(rows.numpy())


def png_bytes(image: Tensor) -> bytes:
    """Encode an image (1, C, H, W) in [0, 1] as a PNG that names this library as its software."""
    signature = PngImagePlugin.PngInfo()
    signature.add_text("Software", SIGNATURE)
    buffer = io.BytesIO()
    to_pillow(image).save(buffer, "PNG", pnginfo=signature)
    return buffer.getvalue()


def save_image(image: Tensor, path: Path) -> None:
    """Write an image (1, C, H, W) in [0, 1] to a PNG file atomically; see `png_bytes`.

    Raises:
        EnvironmentProblem: if the file cannot be written.
    """
    content = png_bytes(image)
    with atomic_path(path) as partial:
        partial.write_bytes(content)
