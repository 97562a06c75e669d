"""How good the model that sees photographs is, on objects that it never saw.

python -m training.evaluate CACHE [--weights RUN/frustum.pt] [--photographs FOLDER]

One image of each object kept out, random azimuths, elevations -10 to 35 degrees. Prints means of:
volume IoU at uniform points; first-hit depth error in image sides; colour error
over the surface; elevation error in degrees. Of a folder of photographs on plain or transparent
ground, the front silhouette's IoU: the mesh from the camera's side, as far away as all of it is
seen, best of elevations -10 to 40; and from where the model takes the camera to stand.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.cameras import Cameras, cameras_around
from pipelines.image_to_3d import ImageTo3D
from pipelines.images.background import remove_background
from pipelines.images.framing import frame_foreground
from pipelines.images.reading import read_image
from pipelines.meshes.mesh import Mesh
from pipelines.reconstruction.frustum import FrustumModel
from pipelines.rendering.render_mesh import render_mesh
from pipelines.settings import Settings
from pipelines.weights.reconstruction_models import load_reconstruction_model

from .dataset import ANYWHERE, NEAR, Views
from .train import CONFIG, Array, at, load

SILHOUETTE = 128


@torch.no_grad()
def figures(model: FrustumModel, made: dict[str, Array]) -> dict[str, float]:
    """Of the first image of one object."""
    views = Views(torch.from_numpy(made["camera"][:1]))
    picture, mask = (
        torch.from_numpy(x.astype(np.float32) / 255)
        for x in (made["picture"][0].transpose(2, 0, 1)[None], made["mask"][0][None, None])
    )
    volume = model.field(picture, mask)
    points, surface = (
        views.frustum(torch.from_numpy(x.astype(np.float32))[None])
        for x in (made["points"][NEAR:], made["surface"][:2000])
    )
    truth = torch.from_numpy(made["inside"][NEAR : NEAR + ANYWHERE].astype(bool))
    found = volume.level_in_frustum(points[0]) > 0
    first = torch.from_numpy(made["first"][0].astype(np.float32))
    end = ((volume.occupancy[0, 0] > 0).float().argmax(0) + 0.5) / CONFIG.bins * 2 - 1
    true_color = torch.from_numpy(made["color"][:2000].astype(np.float32) / 255)
    return {
        "volume IoU": float((found & truth).sum() / (found | truth).sum().clamp_min(1)),
        "first-hit depth": float(((end - first).abs() * CONFIG.half_depth)[first < 1].mean()),
        "colour": float((at(volume.raw_color, surface)[0].sigmoid() - true_color).abs().mean()),
        "elevation": float((volume.elevation_deg - views.elevation_deg).abs()),
    }


def silhouettes(chain: ImageTo3D, path: Path) -> tuple[float, float]:
    """IoU of a photograph's mask and the mesh's silhouettes, all cut to their boxes.

    The best of elevations, and that from the field's own camera.
    """
    picture = read_image(path)
    result = chain(picture, Settings())
    mask = remove_background(picture)
    _, framed = frame_foreground(picture[:, :3], mask, size=512)
    truth = _boxed(framed)

    def overlap(mesh: Mesh, camera: Cameras) -> float:
        found = _boxed((render_mesh(mesh, camera, 256)[:, :1] < 0.999).float())
        return float((found * truth).sum() / torch.maximum(found, truth).sum())

    shape, radius = result.mesh.fitted(40.0)
    around = (cameras_around([0.0], [float(e)], radius, 40.0) for e in range(-10, 41, 5))
    assert result.field.camera is not None
    best = max(overlap(shape, camera) for camera in around)
    return best, overlap(result.mesh, result.field.camera)


def _boxed(mask: Tensor) -> Tensor:
    solid = mask[0, 0] > 0.5
    rows, columns = solid.any(dim=1).nonzero()[:, 0], solid.any(dim=0).nonzero()[:, 0]
    box = solid[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].float()[None, None]
    return (F.interpolate(box, size=(SILHOUETTE,) * 2, mode="area") > 0.5).float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path)
    parser.add_argument("--weights", type=Path, help="of a run (default: those in the pack)")
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.weights:
        model = CONFIG.build()
        model.load_state_dict(torch.load(options.weights, map_location="cpu", weights_only=True))
    else:
        loaded = load_reconstruction_model("photo")
        assert isinstance(loaded, FrustumModel)
        model = loaded
    model.eval().requires_grad_(False)
    rows = [figures(model, made) for made in load(options.cache, kept_out=True)]
    means: dict[str, Any] = {
        name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]
    }
    means["objects"] = len(rows)
    if options.photographs:
        chain = ImageTo3D(None, model)
        found = {p.name: silhouettes(chain, p) for p in sorted(options.photographs.iterdir())}
        means["silhouettes"] = {name: round(best, 3) for name, (best, _) in found.items()}
        best, own = np.mean(list(found.values()), axis=0)
        means["silhouette"] = round(float(best), 4)
        means["silhouette, own camera"] = round(float(own), 4)
    text = json.dumps(means, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
