"""Draw the icon and banner for ComfyUI's registry: a photograph and its mesh.

python -m docs.registry_pictures
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from pipelines.cameras import cameras_around
from pipelines.image_to_3d import ImageTo3D
from pipelines.images.reading import read_image, to_pillow
from pipelines.meshes.mesh import Mesh
from pipelines.rendering.render_mesh import render_mesh

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "registry"
ICON, BANNER = (400, 400), (1260, 540)  # a square of at most 400 pixels, and 21:9
TOP, BOTTOM, LINE = (38, 50, 74), (18, 24, 38), (120, 200, 255)
FOV_DEG, MORE = 30.0, 2  # supersampling factor


def ground(size: tuple[int, int]) -> Image.Image:
    """Draw a dark vertical gradient, lighter at the top."""
    share = np.linspace(0, 1, size[1])[:, None, None]
    rows = np.array(TOP) * (1 - share) + np.array(BOTTOM) * share
    return Image.fromarray(np.broadcast_to(rows, (size[1], size[0], 3)).astype(np.uint8))


def seen(mesh: Mesh, azimuth_deg: float, side: int) -> Image.Image:
    """Render a mesh from one direction on a transparent background."""
    shape, radius = mesh.center_for_camera(FOV_DEG)
    camera = cameras_around([azimuth_deg], [25.0], radius * 0.8, FOV_DEG)
    drawn = render_mesh(shape, camera, side)
    return cut_out(drawn[:, :3], (drawn[:, :3] < 0.995).any(dim=1, keepdim=True).float())


def cut_out(image: Tensor, mask: Tensor) -> Image.Image:
    """Combine an image (1, 3, S, S) with its mask (1, 1, S, S) as opacity."""
    return to_pillow(torch.cat([image, mask], dim=1))


def icon(mesh: Mesh) -> Image.Image:
    side = ICON[0] * MORE
    image = ground((side, side))
    object_ = seen(mesh, 15.0, side)
    image.paste(object_, (0, 0), object_)
    mask = Image.new("L", (side, side), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, side - 1, side - 1), side // 6, fill=255)
    image.putalpha(mask)
    return image.resize(ICON, Image.Resampling.LANCZOS)


def banner(mesh: Mesh, photograph: Image.Image) -> Image.Image:
    width, height = BANNER[0] * MORE, BANNER[1] * MORE
    image = ground((width, height))
    side = height * 7 // 9
    top = (height - side) // 2
    photograph = photograph.resize((side, side), Image.Resampling.LANCZOS)
    image.paste(photograph, (top // 2, top), photograph)
    draw, middle = ImageDraw.Draw(image), height // 2
    start, end, head = side + top, side + top + height // 8, height // 24
    draw.line((start, middle, end - head, middle), LINE, height // 60)
    draw.polygon([(end, middle), (end - head, middle - head), (end - head, middle + head)], LINE)
    for left, azimuth_deg in ((end, 0.0), (width - side, 35.0)):
        object_ = seen(mesh, azimuth_deg, side)
        image.paste(object_, (left, top), object_)
    return image.resize(BANNER, Image.Resampling.LANCZOS)


def main() -> None:
    result = ImageTo3D.load(device="cpu")(read_image(ROOT / "workflows" / "cup.png"))
    FOLDER.mkdir(exist_ok=True)
    icon(result.mesh).save(FOLDER / "icon.png", optimize=True)
    banner(result.mesh, cut_out(result.photo.photograph, result.photo.mask)).save(
        FOLDER / "banner.png", optimize=True
    )


if __name__ == "__main__":
    main()
