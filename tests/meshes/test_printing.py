"""Print reports of shapes whose walls, overhangs and bed contact are known."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
import torch
import trimesh

from pipelines.errors import InvalidInput
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.printing import orient, parse_volume, print_report

from ..shapes import ball, to_mesh

_T = [[-1, 0], [1, 0], [1, 10], [5, 10], [5, 12], [-5, 12], [-5, 10], [-1, 10]]
_T_FACES = [[0, 1, 2], [0, 2, 7], [6, 7, 5], [7, 2, 4], [7, 4, 5], [2, 3, 4]]


def _t_shape() -> Mesh:
    """Return a T, 12 high and 2 deep; its stem is 2 wide, its arms are 4 long and 2 thick."""
    flat = trimesh.creation.extrude_triangulation(np.array(_T, float), np.array(_T_FACES), 2.0)
    return to_mesh(
        flat.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0]))
    )


def _turned(mesh: Mesh, degrees: float, axis: tuple[float, ...] = (1, 0, 0)) -> Mesh:
    matrix = trimesh.transformations.rotation_matrix(math.radians(degrees), axis)[:3, :3]
    return Mesh(mesh.vertices @ torch.tensor(matrix.T, dtype=torch.float32), mesh.faces)


def _cone(radius: float, height: float) -> Mesh:
    return to_mesh(trimesh.creation.cone(radius, height, sections=256))


def _hollow_box(wall: float) -> Mesh:
    """Return a cube of side 10 with a cavity: one wall has the given thickness, the others 2."""
    outer = trimesh.creation.box(bounds=[[0, 0, 0], [10, 10, 10]])
    inner = trimesh.creation.box(bounds=[[wall, 2, 2], [8, 8, 8]])
    inner.invert()
    return to_mesh(trimesh.util.concatenate([outer, inner]))


@pytest.mark.parametrize("wall", [0.3, 1.5])
def test_thinnest_wall_of_a_hollow_box_is_its_wall(wall):
    pytest.importorskip("igl")
    assert print_report(_hollow_box(wall)).thinnest_wall == pytest.approx(wall, rel=1e-3)


def test_thinnest_wall_of_a_ball_is_its_diameter():
    pytest.importorskip("igl")
    assert print_report(ball()).thinnest_wall == pytest.approx(2, rel=0.01)


def test_thinnest_wall_is_unknown_for_a_sheet_and_without_libigl(monkeypatch):
    sheet = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
    assert print_report(sheet).thinnest_wall is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert print_report(ball()).thinnest_wall is None


def test_print_report_of_a_t_counts_support_below_its_arms_only():
    found = print_report(_t_shape())
    assert found.overhang_area == pytest.approx(2 * 4 * 2)
    assert found.support_volume == pytest.approx(2 * 4 * 2 * 10)
    assert found.bed_contact == pytest.approx(2 * 2)


@pytest.mark.parametrize(
    ("degrees", "needs_support"), [(44, False), (46, True)], ids=["steep", "shallow"]
)
def test_print_report_overhangs_begin_at_45_degrees_from_the_vertical(degrees, needs_support):
    cone = _cone(math.tan(math.radians(degrees)), 1.0)
    found = print_report(_turned(cone, 180))
    side = math.pi * math.tan(math.radians(degrees)) / math.cos(math.radians(degrees))
    assert found.overhang_area == pytest.approx(side * needs_support, rel=0.01)
    assert found.bed_contact == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("printer", "fits"),
    [
        ("220x220x250", True),
        ("2x10x12", True),
        ("10x2x12", True),
        ("10x1.9x12", False),
        ("10x2x11", False),
    ],
)
def test_print_report_fits_if_the_mesh_fits_in_one_of_two_directions(printer, fits):
    assert print_report(_t_shape(), parse_volume(printer)).fits is fits


@pytest.mark.parametrize("text", ["220", "220x220", "axbxc", "0x1x1", "1x2x-3", "1x2xinf", ""])
def test_parse_volume_refuses_invalid_volumes(text):
    with pytest.raises(InvalidInput, match="width x depth x height"):
        parse_volume(text)


@pytest.mark.parametrize(
    "mesh",
    [
        pytest.param(_t_shape(), id="t"),
        pytest.param(_turned(_cone(3, 1), 180), id="flat cone"),
        pytest.param(_turned(_cone(1, 3), 180), id="steep cone"),
        pytest.param(_turned(_cone(3, 1), 120, (0.5, 0.5, 1)), id="leaning cone"),
    ],
)
def test_orient_finds_the_side_that_needs_no_support(mesh):
    turned = orient(mesh)
    found = print_report(turned)
    assert found.overhang_area == pytest.approx(0, abs=1e-3)
    assert found.bed_contact > 1
    assert turned.volume() == pytest.approx(mesh.volume(), rel=1e-4)


def test_orient_keeps_a_mesh_that_needs_no_support():
    box = to_mesh(trimesh.creation.box((1, 2, 3)))
    assert orient(box) is box


def test_orient_stops_when_progress_raises():
    def stop(done, total, preview=None, *, stage=""):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        orient(ball(), stop)


def test_orient_turns_normals_with_the_mesh():
    cone = _turned(_cone(3, 1), 180)
    shape = trimesh.Trimesh(cone.vertices.numpy(), cone.faces.numpy(), process=False)
    normals = torch.tensor(np.array(shape.vertex_normals), dtype=torch.float32)
    turned = orient(Mesh(cone.vertices, cone.faces, normals=normals))
    now = trimesh.Trimesh(turned.vertices.numpy(), turned.faces.numpy(), process=False)
    assert np.allclose(turned.normals, now.vertex_normals, atol=1e-4)
