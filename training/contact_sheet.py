"""Render a sheet of images and of the meshes that the embedded model makes from them.

python -m training.contact_sheet CACHE SHEET.jpg IMAGE ...

The sheet has a row for each image. Rows for held-out objects of the cache follow. They are evenly
spaced in its list, so that they show good and bad results.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.cameras import cameras_around
from pipelines.image_to_3d import ImageTo3D
from pipelines.images.reading import read_image, to_pillow
from pipelines.rendering.render_mesh import render_mesh

from .objects import is_held_out

SIZE, OBJECTS = 192, 5
AZIMUTHS_DEG = (0.0, 55.0, 100.0, 180.0, 270.0)


def row(chain: ImageTo3D, image: Tensor) -> Tensor:
    """Return (1, 3, SIZE, 6 SIZE): the framed image, then the mesh from five sides."""
    result = chain(image)
    shape, radius = result.mesh.center_for_camera(40.0)
    cameras = cameras_around(AZIMUTHS_DEG, [12.0] * len(AZIMUTHS_DEG), radius, 40.0)
    views = render_mesh(shape, cameras, SIZE)
    framed = F.interpolate(result.photo.framed, size=(SIZE, SIZE), mode="bilinear", antialias=True)
    return torch.cat([framed.clamp(0, 1), *views.split(1)], dim=-1)


def main(cache: Path, sheet: Path, images: list[Path]) -> None:
    chain = ImageTo3D.load(device="cpu")
    rows = [row(chain, read_image(path)) for path in images]
    unseen = [path for path in sorted(cache.glob("*.npz")) if is_held_out(path.stem)]
    for path in unseen[:: max(len(unseen) // OBJECTS, 1)][:OBJECTS]:
        with np.load(path) as made:
            rgba = np.concatenate([made["image"][0], made["mask"][0][..., None]], axis=-1)
        rows.append(row(chain, torch.from_numpy(rgba).permute(2, 0, 1)[None].float() / 255))
    to_pillow(torch.cat(rows, dim=2)).save(sheet, quality=85)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(argument) for argument in sys.argv[3:]])
