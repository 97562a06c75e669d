"""Quads: their number, surface and colours, and the file formats that store them."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import replace

import pytest
import torch
import trimesh

from pipelines.errors import EnvironmentProblem, InvalidInput
from pipelines.meshes import quads
from pipelines.meshes.io import load_mesh, save_mesh
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.quads import remesh_quads
from pipelines.meshes.report import report
from pipelines.settings import OutputSettings

from ..shapes import ball, ring, textured_l

_SQUARES = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [2, 0, 0], [2, 1, 0]])
_HALVES = torch.tensor([[0, 1, 2], [0, 2, 3], [1, 4, 5], [1, 5, 2]])


@pytest.fixture(scope="module")
def quad_ball() -> Mesh:
    pytest.importorskip("pynanoinstantmeshes")
    return remesh_quads(ball(), 1000)


def test_polygons_of_a_paired_mesh_are_its_quads():
    found, rest = Mesh(_SQUARES, _HALVES, paired=True).polygons()
    assert found.tolist() == [[0, 1, 2, 3], [1, 4, 5, 2]]
    assert len(rest) == 0


def test_polygons_where_a_seam_cuts_a_quad_are_triangles():
    cut = torch.tensor([[0, 1, 2], [6, 7, 3], [1, 4, 5], [1, 5, 2]])
    vertices = torch.cat([_SQUARES, _SQUARES[[0, 2]]])
    found, rest = Mesh(vertices, cut, paired=True).polygons()
    assert found.tolist() == [[1, 4, 5, 2]]
    assert rest.tolist() == cut[:2].tolist()


@pytest.mark.parametrize(
    "mesh", [Mesh(_SQUARES, _HALVES), Mesh(_SQUARES, _HALVES[:1], paired=True)], ids=["no", "half"]
)
def test_polygons_without_pairs_are_the_triangles(mesh):
    found, rest = mesh.polygons()
    assert len(found) == 0
    assert torch.equal(rest, mesh.faces)


def test_remesh_of_a_ball_is_a_closed_ball_of_quads(quad_ball):
    found = report(quad_ball)
    assert found.quads == pytest.approx(1000, rel=0.1)
    assert found.triangles == 2 * found.quads
    assert (found.watertight, found.components, found.open_edges) == (True, 1, 0)
    assert found.volume == pytest.approx(4 / 3 * math.pi, rel=0.03)
    assert f"{found.quads:,} quads" in str(found)


def test_remesh_copies_the_colours_of_the_nearest_points(quad_ball):
    expected = (quad_ball.vertices + 1) / 2  # of `ball`
    assert float((quad_ball.vertex_colors - expected).abs().mean()) < 0.01


def test_remesh_is_silent_and_deterministic(quad_ball, capfd):
    again = remesh_quads(ball(), 1000)
    assert capfd.readouterr() == ("", "")
    assert torch.equal(again.vertices, quad_ball.vertices)


def test_remesh_bakes_the_texture_again():
    pytest.importorskip("pynanoinstantmeshes")
    pytest.importorskip("xatlas")
    found = remesh_quads(textured_l(), 2000)
    assert found.texture is not None
    assert report(found).quads > 1200, "the others are cut by seams"
    colors = found.texture[((1 - found.uvs[:, 1]) * 511).long(), (found.uvs[:, 0] * 511).long()]
    is_red = colors[:, 0] > colors[:, 2]
    clear = (found.vertices[:, 1] - 0.3).abs() > 0.05
    assert ((found.vertices[:, 1] > 0.3) == is_red)[clear].float().mean() > 0.97


@pytest.mark.parametrize("suffix", ["obj", "ply", "glb"])
def test_obj_and_ply_keep_quads_and_others_triangles(quad_ball, tmp_path, suffix):
    path = tmp_path / f"ball.{suffix}"
    save_mesh(quad_ball, path)
    again = load_mesh(path)
    assert len(again.faces) == len(quad_ball.faces)
    assert again.volume() == pytest.approx(quad_ball.volume(), rel=1e-3)
    count = len(quad_ball.polygons()[0])
    if suffix == "obj":
        lines = [line.split() for line in path.read_text().splitlines() if line.startswith("f ")]
        assert [len(words) for words in lines] == [5] * count
    if suffix == "ply":
        assert f"element face {count}\n".encode() in path.read_bytes()


@pytest.mark.parametrize("suffix", ["obj", "ply"])
def test_files_of_quads_and_triangles_are_read_by_trimesh(tmp_path, suffix):
    cut = torch.tensor([[0, 1, 2], [0, 3, 2], [1, 4, 5], [1, 5, 2]])
    mesh = Mesh(_SQUARES, cut, paired=True)
    save_mesh(mesh, tmp_path / f"mixed.{suffix}")
    found = trimesh.load(tmp_path / f"mixed.{suffix}", force="mesh", process=False)
    assert len(found.faces) == 4
    assert found.area == pytest.approx(2)


def test_remesh_of_a_sheet_reports_its_open_edges(caplog):
    pytest.importorskip("pynanoinstantmeshes")
    found = remesh_quads(ring(40, 6), 400)
    count = report(found).open_edges
    assert count > 50
    assert f"{count} open edges" in caplog.text


def test_remesh_stops_when_progress_raises():
    pytest.importorskip("pynanoinstantmeshes")

    def stop(done, total, preview=None, *, stage=""):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        remesh_quads(ball(), 100_000, stop)


def test_remesh_without_the_package_names_the_remedy(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match="pip install pynanoinstantmeshes"):
        remesh_quads(ball(), 1000)


def test_remesh_to_too_few_quads_raises(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    empty = {"vertices": torch.zeros(0, 3).numpy(), "quads": torch.zeros(0, 4).numpy()}
    monkeypatch.setattr(quads, "run_isolated", lambda *_, **__: empty)
    with pytest.raises(InvalidInput, match="100 quads are too few"):
        remesh_quads(replace(ball(), vertex_colors=None), 100)


@pytest.mark.parametrize("number", [0, 99, 2_000_000])
def test_remesh_refuses_numbers_out_of_range(number):
    with pytest.raises(InvalidInput, match="quads must be between 100 and 1,000,000"):
        remesh_quads(ball(), number)


def test_quads_and_max_faces_exclude_each_other():
    with pytest.raises(InvalidInput, match="leave out max_faces"):
        OutputSettings(quads=1000, max_faces=1000)
