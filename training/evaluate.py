"""Measure the embedded model on objects that it never saw, and on simple solids.

python -m training.evaluate CACHE [--weights FILE] [--photographs FOLDER] [--json FILE]

One image of each held-out object, for each file of objects, and five of each solid. Prints means,
between the mesh and the true object in the camera's frame, of volume IoU at uniform points; IoU of
silhouettes from the side, from above and from the front; F-score at 0.05 of the longest side;
normal consistency over the outer surface; error of the first hit's depth in image sides; colour
error over the surface; elevation error in degrees. Of a folder of photographs on plain or
transparent ground, the front silhouette's IoU: the mesh from the camera's side, as far away as all
of it is seen, best of elevations -10 to 40; and from where the model takes the camera to stand.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from safetensors.torch import load_file
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
from pipelines.settings import Settings, SurfaceSettings
from pipelines.surface.extraction import extract_mesh
from pipelines.weights.reconstruction_models import load_reconstruction_model

from .dataset import ANYWHERE, make_object
from .losses import sample
from .measures import outer_surface, silhouette_iou, surface_measures
from .objects import Soup, is_held_out
from .shapes import Shape
from .views import CONFIG, Views

_SILHOUETTE_PIXELS, _SOLID_VIEWS = 128, 5
_RIGHT, _ABOVE, _FRONT = np.eye(3)

Array = np.ndarray[Any, np.dtype[Any]]


@torch.no_grad()
def measure(model: FrustumModel, made: dict[str, Array], view: int = 0) -> dict[str, float]:
    """Return the measures of one image of one object, which has its `corners`."""
    views = Views(torch.from_numpy(made["camera"][view : view + 1]))
    image = torch.from_numpy(made["image"][view].astype(np.float32) / 255).permute(2, 0, 1)[None]
    mask = torch.from_numpy(made["mask"][view].astype(np.float32) / 255)[None, None]
    volume = model.field(image, None, mask)
    mesh = extract_mesh(volume, SurfaceSettings())

    def in_camera(points: Array) -> Array:
        """The true object's points (N, 3) in the camera's frame, in image sides."""
        return views.camera(torch.from_numpy(points.astype(np.float32))[None])[0].numpy()

    camera = volume.camera
    distance = float(camera.c2w[0, :3, 3].add(volume.center * volume.scale).norm()) / volume.scale
    back = torch.tensor([0.0, 0.0, distance])
    to_camera = camera.c2w[0, :3, :3]
    seen = (mesh.vertices - camera.c2w[0, :3, 3]) @ to_camera / volume.scale + back
    corners = seen[mesh.faces].double().numpy()
    true_corners = in_camera(made["corners"].reshape(-1, 3)).reshape(-1, 3, 3).astype(float)
    points = torch.from_numpy(in_camera(made["points"][-ANYWHERE:]))
    world = (points - back) * volume.scale @ to_camera.T + camera.c2w[0, :3, 3]
    inside = np.unpackbits(made["inside"])[: len(made["points"])][-ANYWHERE:].astype(bool)
    truth, found = torch.from_numpy(inside), volume.values(world, 1 << 16) > 0
    first = torch.from_numpy(made["first"][view].astype(np.float32))
    surface = views.frustum(torch.from_numpy(made["surface"][:2000].astype(np.float32))[None])
    color = torch.from_numpy(made["color"][:2000].astype(np.float32) / 255)
    scores = {
        "volume IoU": float((found & truth).sum() / (found | truth).sum().clamp_min(1)),
        "silhouette, side": silhouette_iou(corners, true_corners, _RIGHT),
        "silhouette, above": silhouette_iou(corners, true_corners, _ABOVE),
        "silhouette, front": silhouette_iou(corners, true_corners, _FRONT),
    }
    rng, side = np.random.default_rng(0), float(views.side[0])
    surfaces = []
    for soup in (corners, true_corners):
        faces = np.arange(3 * len(soup)).reshape(-1, 3)
        flat = Shape.of(soup.reshape(-1, 3) * side, faces, np.zeros((len(soup), 3)), crease_deg=0)
        surfaces.append(outer_surface(flat, rng))
    longest = float(np.ptp(made["corners"].reshape(-1, 3), axis=0).max())
    return (
        scores
        | surface_measures(*surfaces, longest)
        | {
            "first-hit depth": float(
                ((volume.first[0, 0] - first).abs() * CONFIG.half_depth)[first < 1].mean()
            ),
            "colour": float((sample(volume.raw_color, surface)[0].sigmoid() - color).abs().mean()),
            "elevation": float((volume.elevation_deg - views.elevation_deg).abs()),
        }
    )


def simple_solids() -> dict[str, Soup]:
    """Return a sphere, two cylinders, a box, a cone, a torus, a capsule and a vase."""
    height, turn = np.linspace(0, 1, 40), np.linspace(0, 1, 40) * 2 * np.pi
    vase = np.stack([0.25 + 0.1 * np.sin(turn), height], axis=1)
    meshes = {
        "sphere": trimesh.creation.icosphere(4),
        "tall cylinder": trimesh.creation.cylinder(0.25, 1, sections=64),
        "flat cylinder": trimesh.creation.cylinder(0.5, 0.3, sections=64),
        "box": trimesh.creation.box([0.8, 0.6, 0.7]),
        "cone": trimesh.creation.cone(0.4, 1, sections=64),
        "torus": trimesh.creation.torus(0.4, 0.15, 64, 32),
        "capsule": trimesh.creation.capsule(1, 0.4),
        "vase": trimesh.creation.revolve(np.concatenate([[[0, 0]], vase, [[0, 1]]]), sections=64),
    }
    solids = {}
    for name, mesh in meshes.items():
        vertices = mesh.vertices - mesh.bounds.mean(axis=0)
        colors = np.full((len(mesh.faces), 3), 160.0)
        solids[name] = Soup(vertices / np.ptp(vertices, axis=0).max(), mesh.faces, colors)
    return solids


def solid_iou(model: FrustumModel) -> float:
    """Return the mean volume IoU of five views of each of `simple_solids`."""
    scores = []
    for seed, soup in enumerate(simple_solids().values()):
        made = make_object(soup, seed, _SOLID_VIEWS)
        assert made is not None
        made["corners"] = soup.vertices[soup.faces].astype(np.float32)
        scores += [measure(model, made, k)["volume IoU"] for k in range(len(made["camera"]))]
    return float(np.mean(scores))


def silhouettes(chain: ImageTo3D, path: Path) -> tuple[float, float]:
    """Return the IoU of a photograph's mask and the mesh's silhouettes, all cut to their boxes.

    The best of elevations, and that from the field's own camera.
    """
    image = read_image(path)
    result = chain(image, Settings())
    mask = remove_background(image)
    _, framed = frame_foreground(image[:, :3], mask, size=512)
    truth = _boxed(framed)

    def overlap(mesh: Mesh, camera: Cameras) -> float:
        found = _boxed((render_mesh(mesh, camera, 256)[:, :1] < 0.999).float())
        return float((found * truth).sum() / torch.maximum(found, truth).sum())

    shape, radius = result.mesh.center_for_camera(40.0)
    around = (cameras_around([0.0], [float(e)], radius, 40.0) for e in range(-10, 41, 5))
    assert result.field.camera is not None
    best = max(overlap(shape, camera) for camera in around)
    return best, overlap(result.mesh, result.field.camera)


def _boxed(mask: Tensor) -> Tensor:
    solid = mask[0, 0] > 0.5
    rows, columns = solid.any(dim=1).nonzero()[:, 0], solid.any(dim=0).nonzero()[:, 0]
    box = solid[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].float()[None, None]
    return (F.interpolate(box, size=(_SILHOUETTE_PIXELS,) * 2, mode="area") > 0.5).float()


def load_model(weights: Path | None) -> FrustumModel:
    """Return the pack's model, or one with a run's or a safetensors file's weights."""
    if weights is None:
        loaded = load_reconstruction_model("photo")
        assert isinstance(loaded, FrustumModel)
        return loaded
    model = CONFIG.build()
    safe = weights.suffix == ".safetensors"
    model.load_state_dict(load_file(weights) if safe else torch.load(weights, weights_only=True))
    return model.eval().requires_grad_(False)


def mean_of(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return the means of all measures, and how many objects they are of."""
    means = {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]}
    return means | {"objects": len(rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path)
    parser.add_argument("--weights", type=Path, help="of a run (default: those in the pack)")
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--every", type=int, default=1, help="measure each nth object only")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = load_model(options.weights)
    rows: dict[str, list[dict[str, float]]] = {}
    paths = [path for path in sorted(options.cache.glob("*.npz")) if is_held_out(path.stem)]
    for path in paths[:: options.every]:
        with np.load(path) as file:
            made = {name: file[name] for name in file.files}
        rows.setdefault(path.stem.split("-")[0], []).append(measure(model, made))
    means: dict[str, Any] = {prefix: mean_of(some) for prefix, some in rows.items()}
    means["simple solids, volume IoU"] = round(solid_iou(model), 4)
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
