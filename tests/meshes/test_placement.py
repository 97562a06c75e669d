from __future__ import annotations

from pathlib import Path

import pytest
import torch
import trimesh

from pipelines.errors import InvalidInput
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.placement import place

from ..shapes import to_mesh

CASES = Path(__file__).parents[1] / "data" / "cases"


def test_place_scales_moves_and_turns():
    box = to_mesh(trimesh.creation.box((1, 2, 4)).apply_translation([5, 5, 5]))
    printed = place(box, size=80, pivot="bottom")
    assert printed.vertices.amin(dim=0).tolist() == pytest.approx([-10, -20, 0])
    assert printed.vertices.amax(dim=0).tolist() == pytest.approx([10, 20, 80])
    centred = place(box, pivot="center", turn_deg=90)
    assert centred.vertices.amax(dim=0).tolist() == pytest.approx([1, 0.5, 2], abs=1e-6)
    front = Mesh(torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 1]]), torch.tensor([[0, 1, 2]]))
    assert place(front, turn_deg=90).vertices[0].tolist() == pytest.approx([0, 1, 0], abs=1e-6)
    assert place(box).vertices is box.vertices
    with pytest.raises(InvalidInput):
        place(box, pivot="top")
    with pytest.raises(InvalidInput):
        place(box, size=-1)
