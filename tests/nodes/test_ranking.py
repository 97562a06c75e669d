"""Best Mesh."""

from __future__ import annotations

import pytest
import torch

from pipelines.cameras import cameras_around
from pipelines.meshes import camera_fit
from pipelines.meshes.mesh import Mesh
from pipelines.rendering.render_mesh import render_mesh

from ..shapes import ball


@pytest.fixture
def inputs(nodes, monkeypatch):
    """Return two meshes without colours, and a photograph of the second with its mask."""
    for name, less in {"_ITERATIONS": 2, "_REFINED": 1, "_SIZE": 32}.items():
        monkeypatch.setattr(camera_fit, name, less)
    monkeypatch.setattr("pipelines.meshes.ranking.ALL_AROUND", (0,))
    round_one = ball()
    flat = Mesh(round_one.vertices * torch.tensor([0.25, 1.0, 0.25]), round_one.faces)
    photograph = render_mesh(round_one, cameras_around([0.0], [10.0], 6.0, 30.0), 64)
    mask = (photograph.amin(dim=1) < 0.99).float()
    meshes = nodes.mesh_sockets.mesh_socket([flat, round_one])
    return meshes, photograph.permute(0, 2, 3, 1), mask


def test_best_mesh_keeps_the_mesh_whose_outline_fits_and_its_field(nodes, inputs):
    mesh, field, text = nodes.BestMesh.execute(*inputs, ["flat", "round"]).args
    (best,) = nodes.mesh_sockets.meshes_of(mesh)
    extents = best.vertices.amax(dim=0) - best.vertices.amin(dim=0)
    assert float(extents.min() / extents.max()) > 0.9
    assert field == ["round"]
    assert text.splitlines()[0] == "best: mesh 2"
    assert len(text.splitlines()) == 3


def test_best_mesh_with_another_number_of_fields_is_refused(nodes, inputs):
    with pytest.raises(Exception, match="got 1 fields and 2 meshes"):
        nodes.BestMesh.execute(*inputs, ["flat"])
