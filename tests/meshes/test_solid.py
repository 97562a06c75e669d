"""Solid bodies of shells whose volume is known, checked by manifold3d."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from pipelines.errors import EnvironmentProblem, InvalidInput
from pipelines.meshes import winding
from pipelines.meshes.color_transfer import nearest_points
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.report import report
from pipelines.meshes.solid import make_solid
from pipelines.progress import silent

manifold3d = pytest.importorskip("manifold3d", reason="manifold3d is not installed")
pytest.importorskip("igl", reason="libigl is not installed")

CELLS = 64


def _mesh(*shapes: trimesh.Trimesh) -> Mesh:
    whole = trimesh.util.concatenate(shapes)
    return Mesh(torch.tensor(whole.vertices).float(), torch.tensor(whole.faces).long())


def _ball(radius: float = 1.0, detail: int = 4) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(detail, radius)


def _box(*at: float, size: float = 1.0) -> trimesh.Trimesh:
    return trimesh.creation.box((size,) * 3).apply_translation(at or (0, 0, 0))


def _inside_out(shape: trimesh.Trimesh) -> trimesh.Trimesh:
    turned = shape.copy()
    turned.invert()
    return turned


def _torn(shape: trimesh.Trimesh, share: float = 0.05) -> trimesh.Trimesh:
    kept = np.random.default_rng(0).random(len(shape.faces)) > share
    return trimesh.Trimesh(shape.vertices, shape.faces[kept], process=False)


def _loose(shape: trimesh.Trimesh) -> trimesh.Trimesh:
    corners = shape.triangles.reshape(-1, 3)
    return trimesh.Trimesh(corners, np.arange(len(corners)).reshape(-1, 3), process=False)


def _bodies(mesh: Mesh) -> list[float]:
    """Return the sorted volumes of a mesh's bodies; fail if manifold3d rejects it."""
    own = manifold3d.Mesh(mesh.vertices.numpy(), mesh.faces.numpy().astype(np.uint32))
    body = manifold3d.Manifold(own)
    assert body.status() == manifold3d.Error.NoError
    return sorted(part.volume() for part in body.decompose())


BALL, CUBE = _ball().volume, 1.0
SHELLS = {
    "double, inner one facing in": ([_ball(), _inside_out(_ball(0.95))], [BALL]),
    "double, inner one facing out": ([_ball(), _ball(0.95)], [BALL]),
    "a ball in a void in a ball": ([_ball(), _inside_out(_ball(0.8)), _ball(0.5)], [BALL]),
    "a twentieth gone": ([_torn(_ball())], [BALL]),
    "double, a twentieth gone": ([_torn(_ball()), _torn(_inside_out(_ball(0.9)))], [BALL]),
    "inside out": ([_inside_out(_torn(_ball()))], [BALL]),
    "loose triangles": ([_loose(_torn(_ball()))], [BALL]),
    "through each other": ([_box(), _box(0.5, 0.5, 0.5)], [2 - 0.125]),
    "apart": ([_ball(), _ball(0.95), _box(3, 0, 0)], [CUBE, BALL]),
    "an open box": ([trimesh.Trimesh(_box().vertices, _box().faces[2:])], None),
}


@pytest.mark.parametrize("name", SHELLS)
def test_make_solid_fills_shells(name):
    shapes, volumes = SHELLS[name]
    solid = make_solid(_mesh(*shapes), 96 if name == "apart" else CELLS)
    found = _bodies(solid)
    assert solid.volume() == pytest.approx(sum(found), rel=1e-3)
    if volumes is None:
        assert 0.6 < found[0] < 1
        return
    assert found == pytest.approx(volumes, rel=0.02)
    assert report(solid).watertight


def test_make_solid_keeps_the_outside_in_place():
    shell = _mesh(_ball(), _inside_out(_ball(0.9)))
    solid = make_solid(shell, CELLS)
    cell = 2 / CELLS
    distance = (solid.vertices.norm(dim=1) - 1).abs()
    assert float(distance.max()) < 0.5 * cell
    outer = shell.vertices[: len(_ball().vertices)]
    triangle, weights = nearest_points(solid, outer)
    nearest = (solid.vertices[solid.faces[triangle]] * weights[..., None]).sum(dim=1)
    assert float((nearest - outer).norm(dim=1).max()) < 0.5 * cell


def test_make_solid_keeps_the_triangles_of_a_body():
    box = _mesh(_box())
    solid = make_solid(box, CELLS)
    assert sorted(map(tuple, solid.vertices.tolist())) == sorted(map(tuple, box.vertices.tolist()))
    assert len(solid.faces) == 12


@pytest.mark.parametrize("most", [500, 2000])
def test_make_solid_respects_max_faces(most):
    solid = make_solid(_mesh(_ball(), _inside_out(_ball(0.9))), CELLS, max_faces=most)
    assert len(solid.faces) <= most
    assert _bodies(solid) == pytest.approx([BALL], rel=0.03)


def test_make_solid_keeps_the_colours_of_the_outside():
    shell = _mesh(_torn(_ball()), _inside_out(_ball(0.9)))
    colors = torch.where(shell.vertices.norm(dim=1, keepdim=True) > 0.95, 1.0, 0.0) * torch.tensor(
        [1.0, 0.5, 0.0]
    )
    solid = make_solid(replace(shell, vertex_colors=colors), CELLS)
    # In the holes, the nearest point may be on the inner shell.
    painted = (solid.vertex_colors - torch.tensor([1.0, 0.5, 0.0])).abs().amax(dim=1) < 0.03
    assert float(painted.float().mean()) > 0.97


def test_extract_bodies_that_need_too_many_points_get_larger_cells(monkeypatch):
    monkeypatch.setattr(winding, "_MIN_POINTS", 2000)
    monkeypatch.setattr(winding, "_POINTS_PER_CELL", 1)
    soup = winding.TriangleSoup.of(_mesh(_torn(_ball())))
    body, cells = winding.extract_bodies(soup, CELLS, silent)
    assert 8 < cells < CELLS
    assert _bodies(body) == pytest.approx([BALL], rel=0.1)


def test_make_solid_memory_grows_with_the_surface():
    """Peak memory at two sizes grows with the number of points near the surface."""
    import tracemalloc

    shell = _mesh(_ball(detail=3), _inside_out(_ball(0.9, 3)))
    peaks = []
    for cells in (64, 128):
        tracemalloc.start()
        make_solid(shell, cells)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 5.5 * peaks[0]


def test_make_solid_refuses_invalid_input(monkeypatch):
    sheet = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
    with pytest.raises(InvalidInput, match="encloses nothing"):
        make_solid(sheet, CELLS)
    for cells in (15, 1025):
        with pytest.raises(InvalidInput, match="between 16 and 1024"):
            make_solid(_mesh(_ball()), cells)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match="pip install libigl"):
        make_solid(_mesh(_ball()))
