"""Measure the colour error of textures of objects with known colours."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.cameras import Cameras, cameras_around, zero123plus_cameras
from pipelines.meshes.camera_fit import ALL_AROUND, fit_camera
from pipelines.meshes.color_transfer import texture_colors
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.projection import PosedImages
from pipelines.meshes.texture import TextureLayout, texture_from_images
from pipelines.rendering.render_mesh import render_mesh
from training.objects import ObjectFile

OBJECTS, SEED, SIZE = 40, 0, 1024
VIEW_SIZE, PHOTOGRAPH_SIZE, SHOWN_SIZE = 320, 1024, 256
MAX_FACES = 20_000  # larger objects are skipped
WRONG_DEG = 5.0  # error of the cameras in the second measurement
FLAT_DEG = 30.0  # colour steps are measured between faces at smaller angles
UNSEEN = cameras_around([15.0 + 30 * i for i in range(12)], [25.0, -25.0, 0.0] * 4, 4.0, 30.0)


def measure_textures(assets: Path) -> None:
    """Print mean errors over the objects.

    Textures are projected from the six true views of `VIEW_SIZE` pixels and one image of
    `PHOTOGRAPH_SIZE` pixels. The colour error is that of renders from twelve other directions, with
    true cameras and with all cameras `WRONG_DEG` off. Also print the error of the camera fit, and
    colour steps across chart borders.
    """
    objects = ObjectFile(assets)
    rng, azimuths = np.random.default_rng(SEED), np.random.default_rng(SEED + 1)
    rows: list[dict[str, float]] = []
    for i in rng.permutation(len(objects)):
        mesh = object_of(objects, int(i))
        if mesh is None:
            continue
        elevation = float(rng.uniform(-10, 40))
        around = _turned_fit(mesh, float(azimuths.uniform(-180, 180)), elevation)
        rows.append(_figures(mesh, elevation) | around)
        if len(rows) == OBJECTS:
            break
    for name in rows[0]:
        values = [row[name] for row in rows]
        print(f"{name:40} mean {np.nanmean(values):.4f}  median {np.nanmedian(values):.4f}")


def object_of(objects: ObjectFile, i: int) -> Mesh | None:
    """Load an object as a mesh with one colour per face.

    Each face has its own three vertices. Return None if there are too few or too many faces.
    """
    vertices, faces, face_colors = objects[i]
    if not 50 < len(faces) < MAX_FACES:
        return None
    corners = torch.from_numpy(vertices[faces]).float().view(-1, 3) * 1.6
    colors = torch.from_numpy(face_colors).float().repeat_interleave(3, dim=0) / 255
    return Mesh(corners, torch.arange(len(corners)).view(-1, 3), colors)


def _figures(mesh: Mesh, elevation: float) -> dict[str, float]:
    camera = cameras_around([0.0], [elevation], 4.0, 30.0)
    views = render_mesh(mesh, zero123plus_cameras(), VIEW_SIZE, shaded=False)
    photograph = render_mesh(mesh, camera, PHOTOGRAPH_SIZE, shaded=False)
    black = Mesh(mesh.vertices, mesh.faces, torch.zeros_like(mesh.vertices))
    mask = 1 - render_mesh(black, camera, PHOTOGRAPH_SIZE, shaded=False)[:, :1]
    shown = render_mesh(mesh, UNSEEN, SHOWN_SIZE, shaded=False)
    object_there = render_mesh(black, UNSEEN, SHOWN_SIZE, shaded=False)[:, :1] < 0.01

    def error(textured: Mesh) -> float:
        difference = (render_mesh(textured, UNSEEN, SHOWN_SIZE, shaded=False) - shown).abs()
        return float(difference.mean(dim=1, keepdim=True)[object_there].mean())

    def projected(views_cameras: Cameras, photograph_camera: Cameras) -> Mesh:
        layers = [
            PosedImages(views, views_cameras),
            PosedImages(photograph, photograph_camera, mask),
        ]
        return texture_from_images(mesh, layers, TextureLayout(SIZE))

    assert mesh.vertex_colors is not None
    colors = mesh.vertex_colors[mesh.faces[:, 0]]
    fit = fit_camera(mesh, photograph, mask)
    began = time.perf_counter()
    right = projected(zero123plus_cameras(), camera)
    seconds = time.perf_counter() - began
    off = [a + WRONG_DEG for a in (30.0, 90.0, 150.0, 210.0, 270.0, 330.0)]
    wrong = projected(
        cameras_around(off, [20.0, -10.0] * 3, 4.0, 30.0),
        cameras_around([WRONG_DEG], [elevation], 4.0, 30.0),
    )
    at_seams, inside = _steps(right, colors)
    return {
        "error, projection": error(right),
        f"error, cameras {WRONG_DEG:.0f} degrees off": error(wrong),
        "error, camera of the photograph found": error(
            projected(zero123plus_cameras(), fit.camera if fit.trusted else camera)
        ),
        "degrees of elevation, fit": abs(fit.elevation_deg - elevation),
        "overlap, fit": fit.overlap,
        "seconds, projection": seconds,
        "step of colour across chart borders": at_seams,
        "step of colour across other edges": inside,
    }


def _turned_fit(mesh: Mesh, azimuth: float, elevation: float) -> dict[str, float]:
    """Measure the fit of a camera in an unknown direction, for a mesh without colours."""
    camera = cameras_around([azimuth], [elevation], 4.0, 30.0)
    image = render_mesh(mesh, camera, VIEW_SIZE, shaded=False)
    black = Mesh(mesh.vertices, mesh.faces, torch.zeros_like(mesh.vertices))
    mask = 1 - render_mesh(black, camera, VIEW_SIZE, shaded=False)[:, :1]
    began = time.perf_counter()
    fit = fit_camera(Mesh(mesh.vertices, mesh.faces), image, mask, ALL_AROUND)
    seconds = time.perf_counter() - began
    cosine = float(fit.camera.c2w[0, :3, 2] @ camera.c2w[0, :3, 2])
    error = math.degrees(math.acos(min(1.0, cosine)))
    return {
        "degrees, fit all around": error,
        "share within 5 degrees, fit all around": float(error < 5),
        "overlap, fit all around": fit.overlap,
        "seconds, fit all around": seconds,
    }


def _steps(textured: Mesh, colors: Tensor) -> tuple[float, float]:
    """Return mean colour steps across chart borders and across other edges.

    Colours are compared one texel to either side of an edge. Only edges between faces of the same
    true colour (F, 3) at less than `FLAT_DEG` count: at others, colour or light really changes.
    """
    assert textured.texture is not None
    assert textured.uvs is not None
    faces, size = textured.faces.numpy(), len(textured.texture)
    _, place = np.unique(textured.vertices.numpy(), axis=0, return_inverse=True)
    start, end = faces.T.reshape(-1), faces[:, (1, 2, 0)].T.reshape(-1)
    opposite, face = faces[:, (2, 0, 1)].T.reshape(-1), np.tile(np.arange(len(faces)), 3)
    ends = np.sort(np.stack([place.reshape(-1)[start], place.reshape(-1)[end]], axis=1), axis=1)
    _, edge, count = np.unique(ends, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(edge.reshape(-1), kind="stable")
    first, second = order[count[edge.reshape(-1)[order]] == 2].reshape(-1, 2).T
    uvs = textured.uvs
    middle = (uvs[start] + uvs[end]) / 2
    inward = uvs[opposite] - middle
    beside = middle + F.normalize(inward, dim=1) / size
    found = texture_colors(textured.texture, beside)
    large = (inward.norm(dim=1) > 3 / size).numpy()
    counts = (colors[face[first]] == colors[face[second]]).all(dim=1).numpy()
    counts &= large[first] & large[second]
    border = ((middle[first] - middle[second]).norm(dim=1) > 1e-6).numpy()
    a, b, c = textured.vertices[textured.faces].unbind(dim=1)
    normals = F.normalize(torch.linalg.cross(b - a, c - a), dim=1)
    bend = (normals[face[first]] * normals[face[second]]).sum(dim=1)
    counts &= (bend > math.cos(math.radians(FLAT_DEG))).numpy()
    step = (found[first] - found[second]).abs().mean(dim=1)
    return float(step[counts & border].mean()), float(step[counts & ~border].mean())
