"""Images and the meshes that the embedded model makes of them, from four sides.

python -m training.contact_sheet CACHE SHEET.jpg PICTURE ...

A row for each image, then one for objects of the cache that training never saw, good and bad:
every so manyth, not chosen.
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

from .train import load

SIZE, OBJECTS = 192, 5
AZIMUTHS_DEG = (0.0, 45.0, 90.0, 180.0)


def row(chain: ImageTo3D, picture: Tensor) -> Tensor:
    """(1, 3, SIZE, 5 SIZE): the framed image (1, 4, H, W), then the mesh from four sides."""
    result = chain(picture)
    shape, radius = result.mesh.fitted(40.0)
    views = render_mesh(shape, cameras_around(AZIMUTHS_DEG, [12.0] * 4, radius, 40.0), SIZE)
    framed = F.interpolate(result.framed, size=(SIZE, SIZE), mode="bilinear", antialias=True)
    return torch.cat([framed.clamp(0, 1), *views.split(1)], dim=-1)


def main(cache: Path, sheet: Path, pictures: list[Path]) -> None:
    chain = ImageTo3D.load(device="cpu")
    rows = [row(chain, read_image(path)) for path in pictures]
    unseen = load(cache, kept_out=True)
    for made in unseen[:: len(unseen) // OBJECTS][:OBJECTS]:
        rgba = np.concatenate([made["picture"][0], made["mask"][0][..., None]], axis=-1)
        rows.append(row(chain, torch.from_numpy(rgba).permute(2, 0, 1)[None].float() / 255))
    to_pillow(torch.cat(rows, dim=2)).save(sheet, quality=85)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(argument) for argument in sys.argv[3:]])
