"""Textures of a mesh file: finding the files that it names, and reading them."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ...images.formats import TEXTURE_FORMATS, open_image
from ...images.reading import to_tensor

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TextureImage:
    """A texture as a material uses it.

    Attributes:
        pixels: (H, W, 3) float32 sRGB in [0, 1], rows from the top. Pieces that share an image
            share this very object.
        translucent: whether the file has opacities below 1, which are dropped.
    """

    pixels: Tensor
    translucent: bool = False


def find_companion(mesh_path: Path, name: str) -> Path | None:
    """Return the file of this name in the folder of a mesh file or below it, or None.

    Letter case is ignored. If the folders in the name do not exist, the bare name is looked up
    beside the mesh. Nothing outside of the mesh's folder is ever returned.
    """
    parts = [
        part
        for part in name.strip().strip('"').replace("\\", "/").split("/")
        if part not in ("", ".")
    ]
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
    """Read the image of this name beside a mesh; if that fails, log a warning and return None."""
    place = find_companion(mesh_path, name)
    if place is None:
        log.warning("%s names the image %s, which is not beside it: skipped.", mesh_path.name, name)
        return None
    try:
        return decode_texture(place)
    except Exception as error:  # Pillow's plugins raise whatever goes wrong in them
        log.warning(
            "The image %s of %s is not readable (%s): skipped.",
            name,
            mesh_path.name,
            type(error).__name__,
        )
        return None


def decode_texture(source: Path | bytes) -> TextureImage:
    """Decode an image file as a texture, without its alpha.

    Raises:
        Exception: whatever Pillow and its plugins raise.
    """
    opened = io.BytesIO(source) if isinstance(source, bytes) else source
    with open_image(opened, TEXTURE_FORMATS) as image:
        rgba = to_tensor(image.convert("RGBA"))[0].permute(1, 2, 0)
    return TextureImage(rgba[..., :3].contiguous(), bool((rgba[..., 3] < 1).any()))


def _entry(folder: Path, name: str) -> Path | None:
    """Return the entry of a folder, whatever the case of its letters."""
    try:
        exact = folder / name
        if exact.exists():
            return exact
        return next(
            (entry for entry in folder.iterdir() if entry.name.casefold() == name.casefold()), None
        )
    except OSError:
        return None
