"""Marching cubes gives scikit-image's vertices and topology, closed wherever the volume is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes as reference

from pipelines.surface.marching_cases import CORNERS, ambiguous_faces, cell_triangles
from pipelines.surface.marching_cubes import crossed_cells, marching_cubes, resolve_cases

from ..sample_fields import SHAPES


def _surface(values: torch.Tensor, level: float) -> tuple[np.ndarray, np.ndarray]:
    vertices, faces = marching_cubes(values.clone(), level, crossed_cells(values > level))
    return vertices.numpy(), faces.numpy()


def _noise(seed: int, closed: bool) -> torch.Tensor:
    values = torch.randn(17, 19, 14, generator=torch.Generator().manual_seed(seed))
    if closed:
        for axis in range(3):
            for end in (0, -1):
                values.select(axis, end).clamp_(max=-0.1)
    return values


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open"])
@pytest.mark.parametrize("level", [0.0, 0.8, -0.8])
def test_marching_cubes_of_noise_has_the_references_vertices(closed, level):
    values = _noise(1, closed)
    vertices, faces = _surface(values, level)
    expected, _, _, _ = reference(values.numpy(), level)
    assert len(vertices) == len(expected)
    distance, nearest = cKDTree(expected).query(vertices)
    assert distance.max() < 1e-5
    assert len(np.unique(nearest)) == len(expected)
    assert np.array_equal(np.unique(faces), np.arange(len(vertices)))


def test_marching_cubes_of_noise_is_a_closed_manifold():
    mesh = trimesh.Trimesh(*_surface(_noise(2, closed=True), 0.0), process=False)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume > 0


def test_marching_cases_have_the_references_topology():
    """Cells with two opposite outside corners are compared by swapping inside and outside.

    For them, scikit-image makes tunnels that neither Lewiner's test nor the trilinear field has.
    """
    generator = torch.Generator().manual_seed(3)
    signs = torch.arange(1, 255)[:, None] >> torch.arange(8) & 1
    values = torch.rand(12, 254, 8, generator=generator, dtype=torch.float64)
    values = ((values + 0.02) * (signs * 2 - 1)).flatten(0, 1)
    corners = list(values.unbind(dim=1))
    keys = resolve_cases([corner > 0 for corner in corners], corners).tolist()
    ambiguous = {k for k in range(256) if ambiguous_faces(k) or k in (129, 66, 36, 24)}
    for key, value in zip(keys, values.numpy(), strict=True):
        opposite_outside = 255 - (key & 255) in (129, 66, 36, 24)
        if key & 255 in ambiguous or opposite_outside:
            triangles = cell_triangles(key & 255, key >> 8 & 63, bool(key >> 14))
            cell = np.zeros((2, 2, 2), dtype=np.float32)
            cell[tuple(CORNERS.T)] = -value if opposite_outside else value
            vertices, faces, _, _ = reference(cell, 0.0)
            assert len(triangles) == len(faces)
            assert len({vertex for t in triangles for vertex in t}) == len(vertices)


@pytest.mark.parametrize("name", SHAPES)
def test_marching_cubes_of_known_shapes_is_right(name):
    function, euler, volume = SHAPES[name]
    axis = torch.linspace(-1, 1, 49)
    values = function(torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1))
    mesh = trimesh.Trimesh(*_surface(values, 0.0), process=False)
    assert mesh.is_watertight
    assert mesh.euler_number == euler
    assert mesh.volume / 24**3 == pytest.approx(volume, rel=0.02)
