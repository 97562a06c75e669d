from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from pipelines.errors import InvalidInput
from pipelines.meshes.cleaning import clean
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.report import report
from pipelines.meshes.topology import (
    bare_shape,
    boundary_loops,
    component_labels,
    directed_edges,
    first_equal_rows,
    is_closed_manifold,
    is_watertight,
    keep_large_components,
    merge_vertices,
    merged_faces,
    split_nonmanifold,
)

from ..shapes import ball, colors_of_sides, flat_cube, open_box, soup, to_mesh

CASES = Path(__file__).parents[1] / "data" / "cases"


def test_merge_vertices_joins_a_soup_and_drops_faces_without_area():
    sphere = ball()
    loose = soup(sphere)
    assert not is_watertight(loose)
    flat = torch.tensor([[0, 0, 1], [0, 3, 0]])
    merged = merge_vertices(replace(loose, faces=torch.cat([loose.faces, flat, loose.faces[:5]])))
    assert is_watertight(merged)
    assert (len(merged.vertices), len(merged.faces)) == (len(sphere.vertices), len(sphere.faces))
    assert merged.volume() == pytest.approx(sphere.volume(), rel=1e-6)
    torch.testing.assert_close(
        merged.vertex_colors, (merged.vertices - merged.vertices.amin(dim=0)) / 2, atol=1e-5, rtol=0
    )


def test_merge_vertices_keeps_sharp_borders_of_colour():
    cube = flat_cube()
    assert len(cube.vertices) == 24
    assert len(merged_faces(cube).unique()) == 8
    assert report(cube).watertight
    assert report(cube).components == 1
    for cleaned in (clean(cube, hole_edges=32), clean(cube, smoothing=0, min_part_share=0.5)):
        assert colors_of_sides(cleaned) == colors_of_sides(cube)


def test_merge_vertices_keeps_a_texture_and_its_seams():
    loose = flat_cube(merged=False)
    textured = replace(
        loose, vertex_colors=None, uvs=torch.rand(36, 2), texture=torch.rand(8, 8, 3)
    )
    merged = merge_vertices(textured)
    assert merged.texture is textured.texture
    torch.testing.assert_close(
        merged.uvs[merged.faces], textured.uvs[textured.faces], atol=1e-6, rtol=0
    )
    kept = keep_large_components(merged, 0.5)
    assert kept.texture is textured.texture
    assert kept.uvs.shape == (len(kept.vertices), 2)


def test_keep_large_components_ranks_by_area():
    large = trimesh.creation.icosphere(subdivisions=3)
    middle = trimesh.creation.icosphere(subdivisions=2)
    middle.apply_translation([3, 0, 0])
    # More triangles than both, less area.
    small = trimesh.creation.box((0.4, 0.4, 0.4)).subdivide().subdivide().subdivide().subdivide()
    small.apply_translation([0, 5, 0])
    both = trimesh.util.concatenate([small, large, middle])
    mesh = Mesh(
        torch.tensor(both.vertices, dtype=torch.float32),
        torch.tensor(both.faces),
        torch.rand(len(both.vertices), 3),
    )
    largest = keep_large_components(mesh)
    assert len(largest.faces) == len(large.faces)
    assert largest.volume() == pytest.approx(large.volume, rel=1e-4)
    torch.testing.assert_close(
        largest.vertex_colors,
        mesh.vertex_colors[len(small.vertices) : len(small.vertices) + len(large.vertices)],
    )
    assert len(keep_large_components(mesh, 0.2).faces) == len(large.faces) + len(middle.faces)
    assert len(keep_large_components(mesh, 0.0).faces) == len(both.faces)
    with pytest.raises(InvalidInput):
        keep_large_components(mesh, 1.5)


def test_merged_faces_name_the_first_vertex_at_each_position():
    vertices = torch.tensor([[9.0, 9, 9], [1, 2, 3], [1, 2, 4], [1, 2, 3], [0, 2, 3], [1, 2, 4]])
    faces = torch.tensor([[3, 5, 4], [0, 2, 1]])
    assert merged_faces(Mesh(vertices, faces)).tolist() == [[1, 2, 4], [0, 2, 1]]
    assert component_labels(
        Mesh(vertices, torch.tensor([[3, 5, 4], [1, 2, 4], [0, 0, 0]]))
    ).tolist() in ([0, 0, 1], [1, 1, 0])


def test_component_labels_join_triangles_that_share_one_vertex():
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0], [9, 9, 9]])
    faces = torch.tensor([[0, 1, 2], [0, 3, 4], [5, 5, 5]])
    assert component_labels(Mesh(corners, faces)).tolist() == [0, 0, 1]


def test_component_labels_join_by_position_unless_told_otherwise():
    loose = soup(ball())
    assert component_labels(loose).max() == 0
    assert component_labels(loose, by_position=False).max() == len(loose.faces) - 1


def test_component_labels_match_libigl():
    igl = pytest.importorskip("igl")
    spheres = [trimesh.creation.icosphere(2).apply_translation([2.5 * i, 0, 0]) for i in range(4)]
    mesh = to_mesh(trimesh.util.concatenate(spheres))
    expected = igl.vertex_components(mesh.faces.numpy())[mesh.faces[:, 0].numpy()]
    assert component_labels(mesh).tolist() == expected.tolist()


def _two_cubes_with_a_common_edge() -> Mesh:
    other = trimesh.creation.box().apply_translation([1, 1, 0])
    return bare_shape(to_mesh(trimesh.util.concatenate([trimesh.creation.box(), other])))


def test_split_nonmanifold_separates_bodies_that_share_an_edge():
    pytest.importorskip("igl")
    shape = _two_cubes_with_a_common_edge()
    assert len(shape.vertices) == 14
    assert not is_closed_manifold(shape)
    split = split_nonmanifold(shape)
    assert len(split.vertices) == 16
    assert is_closed_manifold(split)
    assert component_labels(split, by_position=False).max() == 1
    assert split.volume() == pytest.approx(2)
    torch.testing.assert_close(split.vertices[split.faces], shape.vertices[shape.faces])


def test_split_nonmanifold_separates_fans_that_share_a_vertex():
    pytest.importorskip("igl")
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
    split = split_nonmanifold(Mesh(corners, torch.tensor([[0, 1, 2], [0, 3, 4]])))
    assert len(split.vertices) == 6


def test_split_nonmanifold_keeps_a_manifold():
    pytest.importorskip("igl")
    shape = bare_shape(ball())
    assert len(split_nonmanifold(shape).vertices) == len(shape.vertices)


def test_boundary_loops_run_along_the_triangles_beside_them():
    loops = list(boundary_loops(open_box()))
    assert [len(loop) for loop in loops] == [4]
    edges = {tuple(edge) for edge in directed_edges(open_box().faces).tolist()}
    assert all(tuple(edge) in edges for edge in loops[0].tolist())


@pytest.mark.parametrize("largest", [3, 2**40], ids=["packed into one number", "too large to pack"])
@pytest.mark.parametrize("lowest", [0, -2])
def test_first_equal_rows_finds_the_first_of_equal_integers(largest, lowest):
    rows = np.random.default_rng(0).integers(lowest, 4, (200, 3))
    rows[rows == 3] = largest
    expected = [rows.tolist().index(row) for row in rows.tolist()]
    assert first_equal_rows(rows).tolist() == expected
