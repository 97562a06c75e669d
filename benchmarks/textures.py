"""How well textures show objects whose colours are known."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from pipelines.cameras import Cameras, cameras_around, zero123plus_cameras
from pipelines.meshes.camera_fit import fit_camera
from pipelines.meshes.drawing import render_mesh
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.projection import Shots
from pipelines.meshes.texture import texture_of_field, texture_of_pictures
from pipelines.reconstruction.instant_mesh import reconstruct
from pipelines.weights.reconstruction_models import load_reconstruction_model

OBJECTS, SEED, SIZE = 40, 0, 1024
VIEW_SIZE, PHOTOGRAPH_SIZE, SHOWN_SIZE = 320, 1024, 256
MAX_FACES = 20_000  # of an object: larger ones are left out
WRONG_DEG = 5.0
UNSEEN = cameras_around([15.0 + 30 * i for i in range(12)], [25.0, -25.0, 0.0] * 4, 4.0, 30.0)


def measure_textures(assets: Path) -> None:
    """Print means over the objects.

    Vertex colours, the embedded model's triplane and projections, from the six true views of
    `VIEW_SIZE` pixels and one picture of `PHOTOGRAPH_SIZE`: the colour error of renders from twelve
    other directions. Then that with all cameras `WRONG_DEG` off, and the fit's error.
    """
    data = np.load(assets)
    rng = np.random.default_rng(SEED)
    model = load_reconstruction_model("pocket")
    rows: list[dict[str, float]] = []
    for i in rng.permutation(len(data["names"])):
        mesh = _object(data, int(i))
        if mesh is None:
            continue
        rows.append(_figures(mesh, model, float(rng.uniform(-10, 40))))
        if len(rows) == OBJECTS:
            break
    for name in rows[0]:
        values = [row[name] for row in rows]
        print(f"{name:40} mean {np.mean(values):.4f}  median {np.median(values):.4f}")


def _object(data: np.lib.npyio.NpzFile, i: int) -> Mesh | None:
    """A mesh with a colour for each face, so with three vertices for each."""
    v, f = data["vertex_offsets"], data["face_offsets"]
    faces = data["faces"][f[i] : f[i + 1]].astype(np.int64)
    if not 50 < len(faces) < MAX_FACES:
        return None
    corners = data["vertices"][v[i] : v[i + 1]].astype(np.float32)[faces].reshape(-1, 3) * 1.6
    colors = np.repeat(data["face_colors"][f[i] : f[i + 1]], 3, axis=0).astype(np.float32) / 255
    return Mesh(
        torch.from_numpy(corners), torch.arange(len(corners)).view(-1, 3), torch.from_numpy(colors)
    )


def _figures(mesh: Mesh, model: object, elevation: float) -> dict[str, float]:
    camera = cameras_around([0.0], [elevation], 4.0, 30.0)
    views = render_mesh(mesh, zero123plus_cameras(), VIEW_SIZE, shaded=False)
    photograph = render_mesh(mesh, camera, PHOTOGRAPH_SIZE, shaded=False)
    white = Mesh(mesh.vertices, mesh.faces, torch.zeros_like(mesh.vertices))
    mask = 1 - render_mesh(white, camera, PHOTOGRAPH_SIZE, shaded=False)[:, :1]
    shown = render_mesh(mesh, UNSEEN, SHOWN_SIZE, shaded=False)
    object_there = render_mesh(white, UNSEEN, SHOWN_SIZE, shaded=False)[:, :1] < 0.01
    size = model.config.encoder.view_size  # type: ignore[attr-defined]
    small = F.interpolate(views, size=(size, size), mode="area")
    field = reconstruct(model, small)  # type: ignore[arg-type]

    def error(textured: Mesh) -> float:
        difference = (render_mesh(textured, UNSEEN, SHOWN_SIZE, shaded=False) - shown).abs()
        return float(difference.mean(dim=1, keepdim=True)[object_there].mean())

    def projected(views_cameras: Cameras, photograph_camera: Cameras) -> Mesh:
        layers = [Shots(views, views_cameras), Shots(photograph, photograph_camera, mask)]
        return texture_of_pictures(mesh, layers, SIZE, field=field)

    with torch.no_grad():
        at_vertices = field.color(mesh.vertices, 2**17).clamp(0, 1)
    fit = fit_camera(mesh, photograph, mask)
    began = time.perf_counter()
    right = projected(zero123plus_cameras(), camera)
    seconds = time.perf_counter() - began
    off = [a + WRONG_DEG for a in (30.0, 90.0, 150.0, 210.0, 270.0, 330.0)]
    wrong = projected(
        cameras_around(off, [20.0, -10.0] * 3, 4.0, 30.0),
        cameras_around([WRONG_DEG], [elevation], 4.0, 30.0),
    )
    return {
        "error, vertex colours of the triplane": error(
            Mesh(mesh.vertices, mesh.faces, at_vertices)
        ),
        "error, texture of the triplane": error(texture_of_field(mesh, field, SIZE)),
        "error, projection": error(right),
        f"error, cameras {WRONG_DEG:.0f} degrees off": error(wrong),
        "error, camera of the photograph found": error(
            projected(zero123plus_cameras(), fit.camera if fit.trusted else camera)
        ),
        "degrees of elevation, fit": abs(fit.elevation_deg - elevation),
        "overlap, fit": fit.overlap,
        "seconds, projection": seconds,
    }
