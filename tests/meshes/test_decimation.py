from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from pipelines.errors import InvalidInput
from pipelines.meshes.color_transfer import transfer_colors
from pipelines.meshes.decimation import decimate
from pipelines.meshes.io import load_mesh
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.report import report
from pipelines.meshes.topology import component_labels

from ..shapes import ball, colors_of_sides, flat_cube, ring, to_mesh

CASES = Path(__file__).parents[1] / "data" / "cases"


def test_decimate_keeps_shape_and_colours():
    sphere = ball()
    fewer = decimate(sphere, 500)
    assert 400 <= len(fewer.faces) <= 500
    assert fewer.volume() == pytest.approx(sphere.volume(), rel=0.03)
    torch.testing.assert_close(fewer.vertex_colors, (fewer.vertices + 1) / 2, atol=0.08, rtol=0)
    assert decimate(sphere, 10**6) is sphere
    with pytest.raises(InvalidInput):
        decimate(sphere, 3)


def test_decimate_merges_vertices_and_keeps_sharp_borders_of_colour():
    sphere = load_mesh(CASES / "decimate-tears-unmerged" / "flat-sphere.ply")
    fewer = decimate(sphere, 500)
    assert len(fewer.faces) <= 500
    assert report(fewer).watertight
    assert fewer.volume() == pytest.approx(sphere.volume(), rel=0.03)
    fine = to_mesh(trimesh.creation.box().subdivide().subdivide().subdivide(), colors=False)
    painted = transfer_colors(flat_cube(), fine)
    few = decimate(painted, 60)
    for side, color in colors_of_sides(flat_cube()).items():
        assert colors_of_sides(few)[side] == pytest.approx(color, abs=0.02)


def test_decimate_warns_that_a_texture_becomes_vertex_colours(caplog):
    sphere = to_mesh(trimesh.creation.icosphere(subdivisions=3), colors=False)
    textured = replace(
        sphere, uvs=sphere.vertices[:, :2] / 2 + 0.5, texture=torch.full((8, 8, 3), 0.25)
    )
    fewer = decimate(textured, 200)
    assert "becomes vertex colours" in caplog.text
    torch.testing.assert_close(fewer.vertex_colors, torch.full_like(fewer.vertices, 0.25))


@pytest.mark.parametrize(
    "mesh",
    [
        ring(1600, 1),
        ring(800, 2),
        ring(400, 4, 0.2),
        to_mesh(trimesh.creation.torus(1, 0.3), colors=False),
        to_mesh(
            trimesh.util.concatenate(
                [trimesh.creation.box().apply_translation([2 * i, 0, 0]) for i in range(100)]
            ),
            colors=False,
        ),
        Mesh(
            torch.rand(3000, 3, generator=torch.Generator().manual_seed(0)),
            torch.arange(3000).view(-1, 3),
        ),
    ],
    ids=["flat ring", "flat ring of two", "wavy ring", "torus", "boxes", "soup"],
)
@pytest.mark.parametrize("most", [50, 9])
def test_decimate_keeps_its_limit_on_any_mesh(mesh, most):
    fewer = decimate(mesh, most)
    assert 0 < len(fewer.faces) <= most
    # 50 triangles are enough to keep the size of a single component.
    if most == 50 and len(np.unique(component_labels(mesh))) == 1:
        before, after = (m.vertices.amax(dim=0) - m.vertices.amin(dim=0) for m in (mesh, fewer))
        assert float(after.amax()) > 0.8 * float(before.amax())
    # No vertex leaves the box of the mesh, even if the mesh is far from the origin.
    moved = decimate(replace(mesh, vertices=mesh.vertices + 10), most).vertices - 10
    margin = 0.1 * float(mesh.vertices.abs().amax())
    assert bool((moved >= mesh.vertices.amin(dim=0) - margin).all())
    assert bool((moved <= mesh.vertices.amax(dim=0) + margin).all())
