from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from pipelines.errors import InvalidInput
from pipelines.meshes.cleaning import clean
from pipelines.meshes.io import load_mesh
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.repair import fill_holes, smooth
from pipelines.meshes.topology import is_watertight, merged_faces

from ..shapes import ball, flat_cube, ring, without_faces

CASES = Path(__file__).parents[1] / "data" / "cases"


@pytest.mark.parametrize("count", [1, 2, 6])
def test_fill_holes_closes_small_holes_only(count):
    sphere = ball()
    around = (sphere.faces == sphere.faces[0, 0]).any(dim=1).nonzero()[:count, 0]
    kept = torch.ones(len(sphere.faces), dtype=torch.bool)
    kept[around] = False
    holed = replace(sphere, faces=sphere.faces[kept])
    filled = fill_holes(holed, 12)
    assert is_watertight(filled)
    assert filled.volume() == pytest.approx(sphere.volume(), rel=1e-3)
    assert filled.vertex_colors.shape == filled.vertices.shape
    assert fill_holes(holed, 2) is holed


def test_fill_holes_leaves_open_surfaces_open():
    sheet = load_mesh(CASES / "open-sheet-gets-a-lid" / "square.obj")
    assert len(clean(sheet, hole_edges=32).faces) == 2
    sphere = trimesh.creation.icosphere(subdivisions=2)
    bowl = without_faces(sphere, sphere.triangles_center[:, 2] > 0)
    assert fill_holes(bowl, 10_000) is bowl
    box = trimesh.creation.box()
    crate = without_faces(box, box.face_normals[:, 2] > 0.5)
    assert fill_holes(crate, 32) is crate
    dented = without_faces(box, np.arange(12) == 0)
    assert is_watertight(fill_holes(dented, 32))
    washer = ring(40, 2)
    filled = fill_holes(washer, 100)
    assert len(filled.faces) == len(washer.faces), (
        "neither the rim of a washer nor its middle is a defect"
    )


def test_smooth_removes_noise_and_keeps_volume():
    sphere = ball()
    noise = 0.02 * torch.randn(sphere.vertices.shape, generator=torch.Generator().manual_seed(0))
    rough = replace(sphere, vertices=sphere.vertices + noise)
    fair = smooth(rough, 10)
    assert float((fair.vertices.norm(dim=1) - 1).abs().mean()) < 0.4 * float(
        (rough.vertices.norm(dim=1) - 1).abs().mean()
    )
    assert fair.volume() == pytest.approx(sphere.volume(), rel=0.02)
    assert smooth(sphere, 0).vertices is sphere.vertices
    with pytest.raises(InvalidInput):
        smooth(sphere, -1)


def test_smooth_applies_taubins_factors():
    """The mean of a corner's neighbours is -1/3 of the corner, for a tetrahedron around the origin.

    So a step inward and a step outward scale it by (1 - 0.5 * 4/3) (1 + 0.53 * 4/3) = 0.56889.
    """
    corners = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    mesh = Mesh(corners, torch.tensor([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]]))
    torch.testing.assert_close(smooth(mesh, 1).vertices, corners * 0.568889, atol=1e-5, rtol=0)
    torch.testing.assert_close(smooth(mesh, 2).vertices, corners * 0.568889**2, atol=1e-5, rtol=0)


def test_smooth_keeps_seams_closed():
    cube = flat_cube()
    fair = smooth(cube, 3)
    assert torch.equal(merged_faces(fair), merged_faces(cube))
