"""Scores of meshes: the true shape beats its hull, and melted, broken and open ones."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
import trimesh
from scipy import ndimage
from skimage.measure import marching_cubes

from pipelines.cameras import cameras_around
from pipelines.meshes.camera_fit import fit_of
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.ranking import MeshScore, concavity, score
from pipelines.rendering.render_mesh import render_mesh

from ..shapes import ball, l_shape

CAMERA = cameras_around([10.0], [25.0], 4.0, 30.0)


def _surface(solid: np.ndarray, blur: float = 0.5) -> Mesh:
    field = ndimage.gaussian_filter(np.pad(solid, 3).astype(np.float32), blur)
    level = np.sort(field.ravel())[-int(solid.sum())]  # keeps the volume
    vertices, faces, _, _ = marching_cubes(field, float(np.clip(level, 0.05, 0.95)))
    vertices = vertices / len(field) * 1.6 - 0.8
    return Mesh(torch.tensor(vertices), torch.tensor(faces[:, ::-1].copy()).long())


@cache
def _meshes() -> dict[str, Mesh]:
    """Return a mug without a handle, and shapes that failed seeds make of it."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, 30)] * 3, indexing="ij")
    mug = (x**2 + y**2 < 0.6) & (abs(z) < 0.8) & ~((x**2 + y**2 < 0.35) & (z > -0.5))
    true = _surface(mug)
    hull = trimesh.Trimesh(true.vertices.numpy(), true.faces.numpy()).convex_hull
    broken, floaters = mug.copy(), mug.copy()
    broken[18:, :, 12:] = False
    floaters[:3, :3, :3] = floaters[-3:, -3:, :3] = True
    return {
        "true": true,
        "hull": Mesh(torch.tensor(hull.vertices).float(), torch.tensor(hull.faces).long()),
        "melted": _surface(mug, 4.0),
        "broken": _surface(broken),
        "floaters": _surface(floaters),
        "open": Mesh(true.vertices, true.faces[: -len(true.faces) // 20]),
    }


def _score(name: str) -> MeshScore:
    mask = (render_mesh(_meshes()["true"], CAMERA, 64).amin(dim=1, keepdim=True) < 0.99).float()
    mesh = _meshes()[name]
    return score(mesh, fit_of(mesh, CAMERA, mask).overlap)


@pytest.mark.parametrize("worse", ["hull", "melted", "broken", "floaters", "open"])
def test_score_of_the_true_shape_is_higher(worse):
    assert _score("true").total > _score(worse).total + 0.001


def test_score_by_outline_alone_would_take_the_convex_hull():
    assert _score("hull").outline >= _score("true").outline - 0.02
    assert _score("hull").concavity < 0.02 < _score("true").concavity


def test_concavity_is_the_free_share_of_the_convex_hull():
    assert concavity(ball()) == pytest.approx(0, abs=1e-3)
    flat = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
    assert concavity(flat) == 0
    assert concavity(l_shape()) > 0.5


def test_score_in_words_and_as_json():
    found = MeshScore(0.9, 0.5, 9, False)
    assert found.total == pytest.approx(0.9 + 0.005 - 0.15 - 0.1)
    assert str(found) == "score 0.655: outline 0.900, concavity 0.500, 9 part(s), open"
    assert found.summary()["total"] == found.total
