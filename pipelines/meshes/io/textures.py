"""Find and read the texture files that a mesh file refers to."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.nn import functional

from ...images.formats import TEXTURE_FORMATS, open_image
from ...images.reading import to_tensor

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TextureImage:
    """A decoded texture.

    Attributes:
        pixels: (H, W, 3) float32 sRGB in [0, 1], top row first.
        translucent: whether the file has opacities below 1. The opacities themselves are dropped.
    """

    pixels: Tensor
    translucent: bool = False


def find_companion(mesh_path: Path, name: str) -> Path | None:
    """Find a file by name in a mesh file's folder or its subfolders; return None if missing.

    Letter case is ignored. If the name includes folders that do not exist, the file is searched for
    directly in the mesh's folder. Files outside the mesh's folder are never returned.
    """
    steps = name.strip().strip('"').replace("\\", "/").split("/")
    parts = [part for part in steps if part not in ("", ".")]
    if not parts or "\0" in name:
        return None
    root = mesh_path.parent.resolve()
    for steps in (parts, parts[-1:]):
        place: Path | None = root
        for step in steps:
            place = None if place is None or step == ".." else _entry(place, step)
        if place is not None and place.is_file() and place.resolve().is_relative_to(root):
            return place
    return None


def read_texture(mesh_path: Path, name: str) -> TextureImage | None:
    """Read an image from a mesh file's folder; if that fails, log a warning and return None."""
    place = find_companion(mesh_path, name)
    if place is None:
        log.warning("%s names the image %s, which is not beside it: skipped.", mesh_path.name, name)
        return None
    try:
        return decode_texture(place)
    except Exception as error:  # Pillow's plugins raise errors of any type
        kind = type(error).__name__
        log.warning("The image %s of %s is not readable (%s): skipped.", name, mesh_path.name, kind)
        return None


def decode_texture(source: Path | bytes) -> TextureImage:
    """Decode an image file as a texture, dropping its alpha.

    Raises:
        Exception: of any type, from Pillow and its plugins.
    """
    opened = io.BytesIO(source) if isinstance(source, bytes) else source
    with open_image(opened, TEXTURE_FORMATS) as image:
        rgba = to_tensor(image.convert("RGBA"))[0].permute(1, 2, 0)
    return TextureImage(rgba[..., :3].contiguous(), bool((rgba[..., 3] < 1).any()))


def resized(image: Tensor, height: int, width: int) -> Tensor:
    """Resize an image (H, W, 3) to (height, width, 3)."""
    if image.shape[:2] == (height, width):
        return image
    found = functional.interpolate(
        image.permute(2, 0, 1)[None], size=(height, width), mode="bilinear", antialias=True
    )
    return found[0].permute(1, 2, 0)


def _entry(folder: Path, name: str) -> Path | None:
    """Find a folder's entry by name, ignoring letter case if there is no exact match."""
    try:
        exact = folder / name
        if exact.exists():
            return exact
        alike = (e for e in folder.iterdir() if e.name.casefold() == name.casefold())
        return next(alike, None)
    except OSError:
        return None
