from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import trimesh

from pipelines.errors import InvalidInput
from pipelines.meshes.cleaning import clean
from pipelines.meshes.color_transfer import transfer_colors
from pipelines.meshes.io import load_mesh
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.report import report

from ..shapes import flat_cube, soup, to_mesh

CASES = Path(__file__).parents[1] / "data" / "cases"


def test_clean_does_all_repairs():
    shapes = [
        trimesh.creation.icosphere(subdivisions=4),
        trimesh.creation.icosphere(subdivisions=1, radius=0.1).apply_translation([2, 0, 0]),
    ]
    mesh = soup(to_mesh(trimesh.util.concatenate(shapes)))
    cleaned = clean(
        mesh, min_part_share=0.5, hole_edges=10, max_faces=1000, smoothing=2, watertight=True
    )
    found = report(cleaned)
    assert found.components == 1
    assert found.watertight
    assert found.triangles <= 1000
    assert found.volume == pytest.approx(shapes[0].volume, rel=0.05)
    with pytest.raises(InvalidInput, match="no triangles"):
        clean(Mesh(torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.long)))


def test_clean_ranks_components_by_area():
    both = load_mesh(CASES / "clean-drops-large-parts" / "sphere-and-plate.obj")
    cleaned = clean(both, min_part_share=0.05, hole_edges=32)
    assert len(cleaned.faces) == 12
    assert cleaned.volume() == pytest.approx(36, rel=1e-3)


def test_clean_fills_holes_at_sharp_borders_of_colour():
    cube = flat_cube()
    subdivided = transfer_colors(
        cube, to_mesh(trimesh.creation.box().subdivide().subdivide(), colors=False)
    )
    holed = replace(subdivided, faces=subdivided.faces[torch.arange(len(subdivided.faces)) != 5])
    filled = clean(holed, hole_edges=8)
    assert report(filled).watertight
    assert filled.volume() == pytest.approx(1, rel=1e-5)


def test_clean_rejects_meshes_without_area():
    line = Mesh(torch.tensor([[0.0, 0, 0], [1, 1, 1], [2, 2, 2]]), torch.tensor([[0, 1, 2]]))
    for mesh in (load_mesh(CASES / "clean-all-degenerate" / "point.obj"), line):
        with pytest.raises(InvalidInput, match="has an area"):
            clean(mesh)
