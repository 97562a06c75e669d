from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from pipelines.errors import InvalidInput
from pipelines.meshes.cleaning import clean
from pipelines.meshes.color_transfer import (
    nearest_colors,
    nearest_points,
    texture_to_vertex_colors,
    transfer_colors,
)
from pipelines.meshes.decimation import decimate
from pipelines.meshes.io import load_mesh
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.placement import place
from pipelines.meshes.repair import fill_holes, smooth
from pipelines.meshes.report import report
from pipelines.meshes.sampling import sample_surface
from pipelines.meshes.solid import make_solid
from pipelines.meshes.topology import (
    component_labels,
    is_watertight,
    keep_large_components,
    merge_vertices,
    merged_faces,
)

CASES = Path(__file__).parents[1] / "data" / "cases"


def _mesh(shape: trimesh.Trimesh, colors: bool = True) -> Mesh:
    vertices = torch.tensor(shape.vertices, dtype=torch.float32)
    return Mesh(
        vertices,
        torch.tensor(shape.faces),
        (vertices - vertices.amin(dim=0)) / 2 if colors else None,
    )


def _ball() -> Mesh:
    return _mesh(trimesh.creation.icosphere(subdivisions=4))


def _soup(mesh: Mesh) -> Mesh:
    """Each triangle with vertices of its own."""
    faces = torch.arange(3 * len(mesh.faces)).view(-1, 3)
    return Mesh(
        mesh.vertices[mesh.faces].reshape(-1, 3),
        faces,
        mesh.vertex_colors[mesh.faces].reshape(-1, 3),
    )


def test_a_report_says_what_a_mesh_is_like():
    both = trimesh.util.concatenate(
        [
            trimesh.creation.box((1, 2, 3)),
            trimesh.creation.box((1, 1, 1)).apply_translation([5, 0, 0]),
        ]
    )
    found = report(_mesh(both))
    assert (found.triangles, found.vertices, found.components, found.watertight) == (
        24,
        16,
        2,
        True,
    )
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
    torch.testing.assert_close(
        merged.vertex_colors, (merged.vertices - merged.vertices.amin(dim=0)) / 2, atol=1e-5, rtol=0
    )


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
    assert float((fair.vertices.norm(dim=1) - 1).abs().mean()) < 0.4 * float(
        (rough.vertices.norm(dim=1) - 1).abs().mean()
    )
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
    faces = torch.cat(
        [
            ball.faces,
            torch.tensor([[int(ball.faces[0, 0]), int(ball.faces[0, 1]), len(ball.vertices)]]),
        ]
    )
    return Mesh(
        torch.cat([ball.vertices, torch.tensor([[0.0, 0, 2]])]),
        faces,
        torch.cat([ball.vertex_colors, torch.zeros(1, 3)]),
    )


@pytest.mark.parametrize(
    ("broken", "volume"), [(_open_box, 6), (_fin, 4.16), (lambda: _soup(_ball()), 4.16)]
)
def test_anything_that_encloses_something_can_be_printed(broken, volume):
    mesh = broken()
    assert not is_watertight(mesh)
    closed = make_solid(mesh)
    assert is_watertight(closed)
    assert closed.volume() == pytest.approx(volume, rel=0.1)
    assert closed.vertex_colors.shape == closed.vertices.shape
    with pytest.raises(InvalidInput, match="encloses nothing"):
        make_solid(
            Mesh(torch.tensor([[0.0, 0, 0], [1e-3, 0, 0], [0, 1e-3, 0]]), torch.tensor([[0, 1, 2]]))
        )


def test_cleaning_does_all_in_one():
    shapes = [
        trimesh.creation.icosphere(subdivisions=4),
        trimesh.creation.icosphere(subdivisions=1, radius=0.1).apply_translation([2, 0, 0]),
    ]
    mesh = _soup(_mesh(trimesh.util.concatenate(shapes)))
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


def test_size_pivot_and_front():
    box = _mesh(trimesh.creation.box((1, 2, 4)).apply_translation([5, 5, 5]))
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


def _flat_cube(merged: bool = True) -> Mesh:
    """A unit cube whose six sides have six colours, with vertices of their own where colours
    meet.
    """
    box = trimesh.creation.box()
    faces = torch.tensor(box.faces)
    vertices = torch.tensor(box.vertices, dtype=torch.float32)[faces].reshape(-1, 3)
    sides = (
        (torch.tensor(box.face_normals).float() + torch.tensor([0.1, 0.2, 0.3]))
        .clamp(0, 1)
        .repeat_interleave(3, dim=0)
    )
    mesh = Mesh(vertices, torch.arange(36).view(-1, 3), sides)
    return merge_vertices(mesh) if merged else mesh


def _colors_of_sides(mesh: Mesh) -> dict[tuple[int, ...], list[float]]:
    """Mean colour of the triangles that face each way."""
    a, b, c = mesh.vertices[mesh.faces].unbind(dim=1)
    normals = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1).round().int()
    colors = mesh.vertex_colors[mesh.faces].mean(dim=1)
    return {
        tuple(way.tolist()): colors[(normals == way).all(dim=1)].mean(dim=0).tolist()
        for way in normals.unique(dim=0)
    }


def test_colours_that_meet_sharply_stay_apart_when_vertices_are_merged():
    cube = _flat_cube()
    assert len(cube.vertices) == 24
    assert len(merged_faces(cube).unique()) == 8
    assert report(cube).watertight
    assert report(cube).components == 1
    for cleaned in (clean(cube, hole_edges=32), clean(cube, smoothing=0, min_part_share=0.5)):
        assert _colors_of_sides(cleaned) == _colors_of_sides(cube)


def test_smoothing_shrinks_and_swells_by_taubins_factors():
    """Around a tetrahedron's middle the mean of a corner's neighbours is minus a third of it: (1 -
    0.5 * 4/3) (1 + 0.53 * 4/3) = 0.56889.
    """
    corners = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    mesh = Mesh(corners, torch.tensor([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]]))
    torch.testing.assert_close(smooth(mesh, 1).vertices, corners * 0.568889, atol=1e-5, rtol=0)
    torch.testing.assert_close(smooth(mesh, 2).vertices, corners * 0.568889**2, atol=1e-5, rtol=0)


def test_smoothing_tears_no_seam_open():
    cube = _flat_cube()
    fair = smooth(cube, 3)
    assert torch.equal(merged_faces(fair), merged_faces(cube))


def test_merging_keeps_a_texture_and_its_seams():
    soup = _flat_cube(merged=False)
    textured = replace(soup, vertex_colors=None, uvs=torch.rand(36, 2), texture=torch.rand(8, 8, 3))
    merged = merge_vertices(textured)
    assert merged.texture is textured.texture
    torch.testing.assert_close(
        merged.uvs[merged.faces], textured.uvs[textured.faces], atol=1e-6, rtol=0
    )
    kept = keep_large_components(merged, 0.5)
    assert kept.texture is textured.texture
    assert kept.uvs.shape == (len(kept.vertices), 2)


def test_decimation_merges_first_and_keeps_colours_that_meet_sharply():
    sphere = load_mesh(CASES / "decimate-tears-unmerged" / "flat-sphere.ply")
    fewer = decimate(sphere, 500)
    assert len(fewer.faces) <= 500
    assert report(fewer).watertight
    assert fewer.volume() == pytest.approx(sphere.volume(), rel=0.03)
    fine = _mesh(trimesh.creation.box().subdivide().subdivide().subdivide(), colors=False)
    painted = transfer_colors(_flat_cube(), fine)
    few = decimate(painted, 60)
    for side, color in _colors_of_sides(_flat_cube()).items():
        assert _colors_of_sides(few)[side] == pytest.approx(color, abs=0.02)


def test_decimating_a_texture_says_so_and_keeps_its_colours(caplog):
    ball = _mesh(trimesh.creation.icosphere(subdivisions=3), colors=False)
    textured = replace(
        ball, uvs=ball.vertices[:, :2] / 2 + 0.5, texture=torch.full((8, 8, 3), 0.25)
    )
    fewer = decimate(textured, 200)
    assert "becomes vertex colours" in caplog.text
    torch.testing.assert_close(fewer.vertex_colors, torch.full_like(fewer.vertices, 0.25))


def _ring(around: int, across: int, bent: float = 0.0) -> Mesh:
    angle = torch.arange(around) / around * 2 * torch.pi
    rings = [
        torch.stack([r * angle.cos(), r * angle.sin(), bent * r * (3 * angle).sin()], dim=1)
        for r in torch.linspace(0.5, 1, across + 1)
    ]
    i = torch.arange(around)
    after = (i + 1) % around
    faces = []
    for k in range(across):
        a = k * around + i
        b = k * around + after
        c = (k + 1) * around + i
        d = (k + 1) * around + after
        faces += [torch.stack([a, c, b], dim=1), torch.stack([b, c, d], dim=1)]
    return Mesh(torch.cat(rings), torch.cat(faces))


@pytest.mark.parametrize(
    "mesh",
    [
        _ring(1600, 1),
        _ring(800, 2),
        _ring(400, 4, 0.2),
        _mesh(trimesh.creation.torus(1, 0.3), colors=False),
        _mesh(
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
def test_at_most_so_many_triangles_whatever_the_mesh(mesh, most):
    fewer = decimate(mesh, most)
    assert 0 < len(fewer.faces) <= most
    if most == 50 and len(np.unique(component_labels(mesh))) == 1:  # of which something can be left
        before, after = (m.vertices.amax(dim=0) - m.vertices.amin(dim=0) for m in (mesh, fewer))
        assert float(after.amax()) > 0.8 * float(before.amax())
    # Far from the origin, nothing leaves the box of the mesh.
    moved = decimate(replace(mesh, vertices=mesh.vertices + 10), most).vertices - 10
    margin = 0.1 * float(mesh.vertices.abs().amax())
    assert bool((moved >= mesh.vertices.amin(dim=0) - margin).all())
    assert bool((moved <= mesh.vertices.amax(dim=0) + margin).all())


def test_parts_are_ranked_by_their_size_and_not_by_their_triangles():
    both = load_mesh(CASES / "clean-drops-large-parts" / "sphere-and-plate.obj")
    cleaned = clean(both, min_part_share=0.05, hole_edges=32)
    assert len(cleaned.faces) == 12
    assert cleaned.volume() == pytest.approx(36, rel=1e-3)


def _open(shape: trimesh.Trimesh, gone: np.ndarray) -> Mesh:
    return replace(_mesh(shape, colors=False), faces=torch.tensor(shape.faces[~gone]))


def test_what_is_no_hole_gets_no_lid():
    sheet = load_mesh(CASES / "open-sheet-gets-a-lid" / "square.obj")
    assert len(clean(sheet, hole_edges=32).faces) == 2
    ball = trimesh.creation.icosphere(subdivisions=2)
    bowl = _open(ball, ball.triangles_center[:, 2] > 0)
    assert fill_holes(bowl, 10_000) is bowl
    box = trimesh.creation.box()
    crate = _open(box, box.face_normals[:, 2] > 0.5)
    assert fill_holes(crate, 32) is crate
    dented = _open(box, np.arange(12) == 0)
    assert is_watertight(fill_holes(dented, 32))
    ring = _ring(40, 2)
    filled = fill_holes(ring, 100)
    assert len(filled.faces) == len(ring.faces), (
        "neither the rim of a washer nor its middle is a defect"
    )


def test_holes_beside_colours_that_meet_sharply_are_filled():
    cube = _flat_cube()
    subdivided = transfer_colors(
        cube, _mesh(trimesh.creation.box().subdivide().subdivide(), colors=False)
    )
    holed = replace(subdivided, faces=subdivided.faces[torch.arange(len(subdivided.faces)) != 5])
    filled = clean(holed, hole_edges=8)
    assert report(filled).watertight
    assert filled.volume() == pytest.approx(1, rel=1e-5)


def test_nothing_is_left_of_triangles_without_area():
    line = Mesh(torch.tensor([[0.0, 0, 0], [1, 1, 1], [2, 2, 2]]), torch.tensor([[0, 1, 2]]))
    for mesh in (load_mesh(CASES / "clean-all-degenerate" / "point.obj"), line):
        with pytest.raises(InvalidInput, match="has an area"):
            clean(mesh)


def test_two_bodies_that_share_an_edge_are_both_kept():
    edge = load_mesh(CASES / "watertight-ignores-max-faces" / "edge.obj")
    closed = clean(edge, max_faces=500, watertight=True)
    assert len(closed.faces) <= 500
    assert report(closed).watertight
    assert closed.volume() == pytest.approx(2, rel=2e-3)
    # Not at one place any more, where a slicer would join them.
    assert len(closed.vertices.unique(dim=0)) == len(closed.vertices)


@pytest.mark.parametrize("most", [0, 500])
def test_a_scan_is_closed(most):
    scan = load_mesh(CASES / "watertight-leaks" / "scan.obj")
    assert not report(scan).watertight
    closed = make_solid(scan, max_faces=most)
    assert report(closed).watertight
    assert closed.volume() == pytest.approx(3.75, rel=0.1)
    assert not most or len(closed.faces) <= most


@pytest.mark.parametrize("most", [2000])
def test_large_triangles_cost_no_more_than_their_voxels(most):
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not tell what a process held at most")
    code = (
        "from pathlib import Path; from pipelines.meshes.solid import make_solid; from"
        " pipelines.meshes.report import report; from pipelines.meshes.io import load_mesh;made ="
        f" make_solid(load_mesh(Path({str(CASES / 'watertight-eats-memory' / 'soup.obj')!r})),"
        f" 64, max_faces={most});print(len(made.faces), report(made).watertight,"
        " Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=CASES.parents[2],
    )
    triangles, closed, peak = done.stdout.split()
    assert int(triangles) <= most
    assert closed == "True"
    assert int(peak) * 1024 < 1.8 * 2**30


def test_a_limit_that_cannot_be_kept_is_said():
    with pytest.raises(InvalidInput, match="allow more"):
        make_solid(
            _mesh(
                trimesh.util.concatenate(
                    [trimesh.creation.box().apply_translation([3 * i, 0, 0]) for i in range(30)]
                )
            ),
            max_faces=4,
        )
    with pytest.raises(InvalidInput, match="at least 4"):
        clean(_ball(), max_faces=3)


def test_colours_are_interpolated_in_the_triangle_where_a_point_lies():
    box = trimesh.creation.box()
    corners = torch.tensor(box.vertices, dtype=torch.float32) + 0.5
    cube = Mesh(corners, torch.tensor(box.faces), corners)  # the colour of a point is its place
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(0))
    axis = torch.arange(500) % 3
    points[torch.arange(500), axis] = (torch.arange(500) % 2).float()
    torch.testing.assert_close(nearest_colors(cube, points), points, atol=1e-5, rtol=0)


def test_nearest_points_are_nearer_than_any_other():
    """Against points strewn all over the triangles, a fiftieth of an edge apart."""
    ball = _mesh(trimesh.creation.icosphere(subdivisions=1))
    points = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    triangle, weights = nearest_points(ball, points)
    assert float(weights.amin()) >= 0
    found = (ball.vertices[ball.faces[triangle]] * weights[..., None]).sum(dim=1)
    v, u = torch.meshgrid(torch.linspace(0, 1, 51), torch.linspace(0, 1, 51), indexing="ij")
    table = torch.stack([(1 - v) * (1 - u), (1 - v) * u, v], dim=-1).view(-1, 3)
    strewn = torch.einsum("pk,fkd->fpd", table, ball.vertices[ball.faces]).reshape(-1, 3)
    nearest = torch.cdist(points, strewn).amin(dim=1)
    distance = (found - points).norm(dim=1)
    assert float((distance - nearest).amax()) < 1e-5
    assert float((nearest - distance).amax()) < 0.02


def test_nearest_points_of_corners_edges_and_slivers():
    mesh = Mesh(
        torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1e-9, 0]]),
        torch.tensor([[0, 1, 2], [0, 1, 3]]),
    )
    points = torch.tensor([[-1.0, -1, 2], [0.5, -3, 0], [2, 2, 0], [0.25, 0.25, 5]])
    triangle, weights = nearest_points(mesh, points)
    nearest = (mesh.vertices[mesh.faces[triangle]] * weights[..., None]).sum(dim=1)
    torch.testing.assert_close(
        nearest,
        torch.tensor([[0.0, 0, 0], [0.5, 0, 0], [0.5, 0.5, 0], [0.25, 0.25, 0]]),
        atol=1e-6,
        rtol=0,
    )
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(4))


@pytest.mark.parametrize("spacing", [0.5, 0.11])
def test_points_are_strewn_no_further_apart_than_asked(spacing):
    corners = np.random.default_rng(0).random((20, 3, 3))
    points, owners = sample_surface(corners, spacing)
    for i in range(20):
        weights = np.random.default_rng(i).dirichlet((1, 1, 1), 50)
        inside = weights @ corners[i]
        own = points[owners == i]
        assert (
            np.linalg.norm(inside[:, None] - own[None], axis=2).min(axis=1).max() <= spacing * 0.75
        )


def test_texture_to_vertex_colours_multiplies_what_both_say():
    colors = torch.tensor([[1.0, 1, 1], [0.5, 1, 1], [0, 0, 0]])
    mesh = Mesh(
        torch.rand(3, 3),
        torch.tensor([[0, 1, 2]]),
        colors,
        torch.rand(3, 2),
        torch.full((4, 4, 3), 0.5),
    )
    found = texture_to_vertex_colors(mesh).vertex_colors
    torch.testing.assert_close(found[0], torch.full((3,), 0.5), atol=1e-5, rtol=0)
    assert 0.2 < float(found[1, 0]) < 0.3  # 0.214 ** 2 of the light
    torch.testing.assert_close(found[2], torch.zeros(3), atol=1e-4, rtol=0)


def test_gaps_between_all_triangles_are_closed_by_voxels():
    ball = trimesh.creation.icosphere(subdivisions=3).apply_translation([5, 0, -3])
    corners = torch.tensor(ball.triangles, dtype=torch.float32)
    apart = corners.lerp(corners.mean(dim=1, keepdim=True), 0.03)
    closed = make_solid(
        Mesh(
            apart.reshape(-1, 3),
            torch.arange(3 * len(corners)).view(-1, 3),
            apart.reshape(-1, 3).clamp(0, 1),
        )
    )
    assert is_watertight(closed)
    assert closed.volume() == pytest.approx(ball.volume, rel=0.05)
    voxel = 2 / 160
    torch.testing.assert_close(
        closed.vertices.amin(dim=0), torch.tensor([4.0, -1, -4]), atol=1.5 * voxel, rtol=0
    )
    torch.testing.assert_close(
        closed.vertices.amax(dim=0), torch.tensor([6.0, 1, -2]), atol=1.5 * voxel, rtol=0
    )
    assert (
        float(((closed.vertices - torch.tensor([5.0, 0, -3])).norm(dim=1) - 1).abs().mean()) < voxel
    ), "no steps are left of the voxels"
    torch.testing.assert_close(closed.vertex_colors, closed.vertices.clamp(0, 1), atol=0.05, rtol=0)


def test_a_surface_multiplies_its_texture_and_its_vertices_as_light():
    texture = torch.full((4, 4, 3), 0.5)
    mesh = Mesh(
        torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, 0, 1]]),
        torch.tensor([[0, 1, 2]]),
        torch.tensor([[1.0, 0, 0]]).expand(3, -1),
        torch.tensor([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9]]),
        texture,
    )
    found = nearest_colors(mesh, torch.tensor([[0.2, 0.3, 0.3]]))
    assert found[0].tolist() == pytest.approx([0.5, 0, 0], abs=1e-3)
