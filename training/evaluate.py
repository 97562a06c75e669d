"""Measure the embedded model on objects that it never saw, and on simple solids.

python -m training.evaluate CACHE [--weights FILE] [--photographs FOLDER] [--json FILE]

Measures one image of each held-out object and five of each solid, and prints means for each file of
objects. They compare the mesh with the true object in the camera's frame:

- volume IoU, at uniformly distributed points;
- silhouette IoU, seen from the side, from above and from the front;
- F-score, at a distance of 0.05 of the longest side;
- normal consistency, over the outer surface;
- error of the first hit's depth, in image sides;
- colour error, over the surface that the camera does not see;
- error of the camera's elevation, in degrees.

For a folder of photographs on plain or transparent backgrounds, prints the IoU of the mask and the
mesh's silhouette, for two cameras: the best in front of the mesh at elevations from -10 to 40
degrees, and the one that the model estimates.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from pipelines.cameras import Cameras, cameras_around
from pipelines.fields.frustum_volume import FrustumVolume
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
from .losses import sample, unseen
from .measures import POINTS, sample_outer_surface, sample_surface, silhouette_iou, surface_measures
from .objects import Soup, is_held_out
from .shapes import Shape
from .views import CONFIG, Views

_SILHOUETTE_PIXELS, _SOLID_VIEWS = 128, 5
_RIGHT, _ABOVE, _FRONT = np.eye(3)

Array = np.ndarray[Any, np.dtype[Any]]


class CameraFrame:
    """Coordinates around the camera's target, in image sides: right, up, and toward the camera."""

    def __init__(self, volume: FrustumVolume) -> None:
        self.scale = volume.scale
        self.rotation = volume.camera.c2w[0, :3, :3]
        distance = 0.5 / math.tan(math.radians(volume.fov_y_deg) / 2)
        back = self.rotation @ torch.tensor([0.0, 0.0, distance])
        self.origin = volume.camera.c2w[0, :3, 3] - back * self.scale

    def of_world(self, points: Tensor) -> Tensor:
        """Convert points (N, 3) from the reconstructed world to this frame."""
        return (points - self.origin) @ self.rotation / self.scale

    def to_world(self, points: Tensor) -> Tensor:
        """Convert points (N, 3) from this frame to the reconstructed world."""
        return points @ self.rotation.T * self.scale + self.origin


@torch.no_grad()
def measure(model: FrustumModel, made: dict[str, Array], view: int = 0) -> dict[str, float]:
    """Measure the model on one image of one object.

    Args:
        model: the model to measure.
        made: a held-out file of `dataset`: the arrays of `dataset.make_object`, and `corners`.
        view: index of the image.
    """
    views, volume = _reconstructed(model, made, view)
    mesh = extract_mesh(volume, SurfaceSettings())
    corners = CameraFrame(volume).of_world(mesh.vertices)[mesh.faces].double().numpy()
    first = _tensor(made["first"][view])
    depth_error = (volume.first[0, 0] - first).abs() * CONFIG.half_depth
    surface = views.frustum(_tensor(made["surface"][:2000])[None])
    hidden = unseen(surface, first[None])[0]
    color = sample(volume.raw_color, surface)[0].sigmoid()
    color_error = (color - _tensor(made["color"][:2000]) / 255).abs().mean(dim=1)
    return {
        "volume IoU": _volume_iou(volume, views, made),
        **_surface_scores(corners, made["corners"].astype(float), views),
        "first-hit depth": float(depth_error[first < 1].mean()),
        "colour, unseen": float(color_error[hidden].mean()),
        "elevation": float((volume.elevation_deg - views.elevation_deg).abs()),
    }


def _reconstructed(
    model: FrustumModel, made: dict[str, Array], view: int
) -> tuple[Views, FrustumVolume]:
    """Return the camera of one image of an object, and the field that the model reconstructs."""
    image = _tensor(made["image"][view]).permute(2, 0, 1)[None] / 255
    volume = model.field(image, None, _tensor(made["mask"][view])[None, None] / 255)
    return Views(torch.from_numpy(made["camera"][view : view + 1])), volume


def _volume_iou(volume: FrustumVolume, views: Views, made: dict[str, Array]) -> float:
    places = views.camera(_tensor(made["points"][-ANYWHERE:])[None])[0]
    found = volume.values(CameraFrame(volume).to_world(places), 1 << 16) > 0
    truth = _tensor(np.unpackbits(made["inside"])[: len(made["points"])][-ANYWHERE:]) > 0
    return float((found & truth).sum() / (found | truth).sum().clamp_min(1))


def _surface_scores(corners: Array, world_corners: Array, views: Views) -> dict[str, float]:
    """Compare triangles (T, 3, 3) in the camera's frame with the true object's in the world."""

    def in_camera(points: Array) -> Array:
        return views.camera(_tensor(points.reshape(1, -1, 3)))[0].double().numpy()

    true_corners = in_camera(world_corners).reshape(-1, 3, 3)
    soup = world_corners.reshape(-1, 3)
    faces = np.arange(len(soup)).reshape(-1, 3)
    rng = np.random.default_rng(0)
    points, normals = sample_outer_surface(Shape.of(soup, faces, faces * 0), rng)
    truth = in_camera(points), normals @ views.axes[0].double().numpy().T
    longest = float(np.ptp(soup, axis=0).max()) / float(views.side[0])
    return {
        "silhouette, side": silhouette_iou(corners, true_corners, _RIGHT),
        "silhouette, above": silhouette_iou(corners, true_corners, _ABOVE),
        "silhouette, front": silhouette_iou(corners, true_corners, _FRONT),
        **surface_measures(sample_surface(corners, POINTS, rng), truth, longest),
    }


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(array.astype(np.float32))


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


@torch.no_grad()
def solid_iou(model: FrustumModel) -> float:
    """Return the mean volume IoU of five views of each of `simple_solids`."""
    scores = []
    for seed, soup in enumerate(simple_solids().values()):
        made = make_object(soup, seed, _SOLID_VIEWS)
        assert made is not None
        for k in range(len(made["camera"])):
            views, volume = _reconstructed(model, made, k)
            scores.append(_volume_iou(volume, views, made))
    return float(np.mean(scores))


def silhouettes(chain: ImageTo3D, path: Path) -> tuple[float, float]:
    """Compare a photograph's mask with silhouettes of its mesh, each cropped to its box.

    Returns:
        best: highest IoU of several elevations in front of the mesh.
        own: IoU for the camera that the model estimates.
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
    """Load the embedded model, or one with weights from a run (.pt) or a .safetensors file."""
    if weights is None:
        loaded = load_reconstruction_model("photo")
        assert isinstance(loaded, FrustumModel)
        return loaded
    model = CONFIG.build()
    safe = weights.suffix == ".safetensors"
    model.load_state_dict(load_file(weights) if safe else torch.load(weights, weights_only=True))
    return model.eval().requires_grad_(False)


def mean_of(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return the means of all measures, without NaNs, and the number of measured objects."""
    means = {name: round(float(np.nanmean([row[name] for row in rows])), 4) for name in rows[0]}
    return means | {"objects": len(rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path)
    parser.add_argument("--weights", type=Path, help="file of a run (default: the pack's weights)")
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--every", type=int, default=1, help="measure only every nth object")
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
