from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import trimesh

from pipelines.cleanup import clean, decimate, fill_holes, is_watertight, make_watertight, merge_vertices, placed, report, smooth
from pipelines.errors import InvalidInput
from pipelines.mesh import Mesh


def _mesh(shape: trimesh.Trimesh, colors: bool = True) -> Mesh:
    vertices = torch.tensor(shape.vertices, dtype=torch.float32)
    return Mesh(vertices, torch.tensor(shape.faces), (vertices - vertices.amin(dim=0)) / 2 if colors else None)


def _ball() -> Mesh:
    return _mesh(trimesh.creation.icosphere(subdivisions=4))


def _soup(mesh: Mesh) -> Mesh:
    """Each triangle with vertices of its own."""
    faces = torch.arange(3 * len(mesh.faces)).view(-1, 3)
    return Mesh(mesh.vertices[mesh.faces].reshape(-1, 3), faces, mesh.vertex_colors[mesh.faces].reshape(-1, 3))


def test_a_report_says_what_a_mesh_is_like():
    both = trimesh.util.concatenate([trimesh.creation.box((1, 2, 3)), trimesh.creation.box((1, 1, 1)).apply_translation([5, 0, 0])])
    found = report(_mesh(both))
    assert (found.triangles, found.vertices, found.parts, found.watertight) == (24, 16, 2, True)
    assert found.volume == pytest.approx(7)
    assert found.size == pytest.approx((6, 2, 3))
    assert "24 triangles, 16 vertices, 2 part(s), watertight" in str(found)
    assert not report(replace(_ball(), faces=_ball().faces[1:])).watertight


def test_merging_joins_a_soup_and_drops_what_has_no_area():
    ball = _ball()
    soup = _soup(ball)
    assert not is_watertight(soup)
    flat = torch.tensor([[0, 0, 1], [0, 3, 0]])
    merged = merge_vertices(replace(soup, faces=torch.cat([soup.faces, flat, soup.faces[:5]])))
    assert is_watertight(merged)
    assert (len(merged.vertices), len(merged.faces)) == (len(ball.vertices), len(ball.faces))
    assert merged.volume() == pytest.approx(ball.volume(), rel=1e-6)
    torch.testing.assert_close(merged.vertex_colors, (merged.vertices - merged.vertices.amin(dim=0)) / 2, atol=1e-5, rtol=0)


@pytest.mark.parametrize("count", [1, 2, 6])
def test_small_holes_are_filled_and_large_ones_stay(count):
    ball = _ball()
    around = (ball.faces == ball.faces[0, 0]).any(dim=1).nonzero()[:count, 0]
    kept = torch.ones(len(ball.faces), dtype=torch.bool)
    kept[around] = False
    holed = replace(ball, faces=ball.faces[kept])
    filled = fill_holes(holed, 12)
    assert is_watertight(filled)
    assert filled.volume() == pytest.approx(ball.volume(), rel=1e-3)
    assert filled.vertex_colors.shape == filled.vertices.shape
    assert fill_holes(holed, 2) is holed


def test_decimation_keeps_shape_and_colours():
    ball = _ball()
    fewer = decimate(ball, 500)
    assert 400 <= len(fewer.faces) <= 500
    assert fewer.volume() == pytest.approx(ball.volume(), rel=0.03)
    torch.testing.assert_close(fewer.vertex_colors, (fewer.vertices + 1) / 2, atol=0.08, rtol=0)
    assert decimate(ball, 10**6) is ball
    with pytest.raises(InvalidInput):
        decimate(ball, 3)


def test_smoothing_takes_noise_and_leaves_volume():
    ball = _ball()
    noise = 0.02 * torch.randn(ball.vertices.shape, generator=torch.Generator().manual_seed(0))
    rough = replace(ball, vertices=ball.vertices + noise)
    fair = smooth(rough, 10)
    assert float((fair.vertices.norm(dim=1) - 1).abs().mean()) < 0.4 * float((rough.vertices.norm(dim=1) - 1).abs().mean())
    assert fair.volume() == pytest.approx(ball.volume(), rel=0.02)
    assert smooth(ball, 0).vertices is ball.vertices
    with pytest.raises(InvalidInput):
        smooth(ball, -1)


def _open_box() -> Mesh:
    box = _mesh(trimesh.creation.box((1, 2, 3)))
    return replace(box, faces=box.faces[2:])


def _fin() -> Mesh:
    """A ball with one triangle more, which stands on one of its edges."""
    ball = _ball()
    faces = torch.cat([ball.faces, torch.tensor([[int(ball.faces[0, 0]), int(ball.faces[0, 1]), len(ball.vertices)]])])
    return Mesh(torch.cat([ball.vertices, torch.tensor([[0.0, 0, 2]])]), faces, torch.cat([ball.vertex_colors, torch.zeros(1, 3)]))


@pytest.mark.parametrize(("broken", "volume"), [(_open_box, 6), (_fin, 4.16), (lambda: _soup(_ball()), 4.16)])
def test_anything_that_encloses_something_can_be_printed(broken, volume):
    mesh = broken()
    assert not is_watertight(mesh)
    closed = make_watertight(mesh)
    assert is_watertight(closed)
    assert closed.volume() == pytest.approx(volume, rel=0.1)
    assert closed.vertex_colors.shape == closed.vertices.shape
    with pytest.raises(InvalidInput, match="encloses nothing"):
        make_watertight(Mesh(torch.tensor([[0.0, 0, 0], [1e-3, 0, 0], [0, 1e-3, 0]]), torch.tensor([[0, 1, 2]])))


def test_cleaning_does_all_in_one():
    shapes = [trimesh.creation.icosphere(subdivisions=4), trimesh.creation.icosphere(subdivisions=1, radius=0.1).apply_translation([2, 0, 0])]
    mesh = _soup(_mesh(trimesh.util.concatenate(shapes)))
    cleaned = clean(mesh, min_part_share=0.5, hole_edges=10, max_faces=1000, smoothing=2, watertight=True)
    found = report(cleaned)
    assert found.parts == 1
    assert found.watertight
    assert found.triangles <= 1000
    assert found.volume == pytest.approx(shapes[0].volume, rel=0.05)
    with pytest.raises(InvalidInput, match="no triangles"):
        clean(Mesh(torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.long)))


def test_size_pivot_and_front():
    box = _mesh(trimesh.creation.box((1, 2, 4)).apply_translation([5, 5, 5]))
    printed = placed(box, size=80, pivot="bottom")
    assert printed.vertices.amin(dim=0).tolist() == pytest.approx([-10, -20, 0])
    assert printed.vertices.amax(dim=0).tolist() == pytest.approx([10, 20, 80])
    centred = placed(box, pivot="center", turn_deg=90)
    assert centred.vertices.amax(dim=0).tolist() == pytest.approx([1, 0.5, 2], abs=1e-6)
    front = Mesh(torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 1]]), torch.tensor([[0, 1, 2]]))
    assert placed(front, turn_deg=90).vertices[0].tolist() == pytest.approx([0, 1, 0], abs=1e-6)
    assert placed(box).vertices is box.vertices
    with pytest.raises(InvalidInput):
        placed(box, pivot="top")
    with pytest.raises(InvalidInput):
        placed(box, size=-1)
