from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from pipelines.meshes.color_transfer import (
    nearest_colors,
    nearest_points,
    texture_to_vertex_colors,
    transfer_colors,
)
from pipelines.meshes.mesh import Mesh

from ..shapes import flat_cube, to_mesh

CASES = Path(__file__).parents[1] / "data" / "cases"


def test_nearest_colors_interpolates_in_the_triangle():
    box = trimesh.creation.box()
    corners = torch.tensor(box.vertices, dtype=torch.float32) + 0.5
    cube = Mesh(corners, torch.tensor(box.faces), corners)  # a point's colour is its position
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(0))
    axis = torch.arange(500) % 3
    points[torch.arange(500), axis] = (torch.arange(500) % 2).float()
    torch.testing.assert_close(nearest_colors(cube, points), points, atol=1e-5, rtol=0)


def test_nearest_points_are_nearer_than_any_sample():
    """Compare with points sampled on all triangles, a fiftieth of an edge apart."""
    sphere = to_mesh(trimesh.creation.icosphere(subdivisions=1))
    points = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    triangle, weights = nearest_points(sphere, points)
    assert float(weights.amin()) >= 0
    found = (sphere.vertices[sphere.faces[triangle]] * weights[..., None]).sum(dim=1)
    v, u = torch.meshgrid(torch.linspace(0, 1, 51), torch.linspace(0, 1, 51), indexing="ij")
    table = torch.stack([(1 - v) * (1 - u), (1 - v) * u, v], dim=-1).view(-1, 3)
    samples = torch.einsum("pk,fkd->fpd", table, sphere.vertices[sphere.faces]).reshape(-1, 3)
    nearest = torch.cdist(points, samples).amin(dim=1)
    distance = (found - points).norm(dim=1)
    assert float((distance - nearest).amax()) < 1e-5
    assert float((nearest - distance).amax()) < 0.02


def test_nearest_points_on_corners_edges_and_slivers():
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


def test_texture_to_vertex_colors_multiplies_texture_and_vertex_colours():
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


def test_nearest_colors_multiplies_texture_and_vertex_colours_as_light():
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


def test_nearest_points_match_an_exhaustive_search():
    """Compare distances with those to every triangle in float64."""
    sphere = to_mesh(trimesh.creation.icosphere(subdivisions=2))
    points = torch.randn(300, 3, generator=torch.Generator().manual_seed(1))
    triangle, weights = nearest_points(sphere, points)
    found = (sphere.vertices[sphere.faces[triangle]] * weights[..., None]).sum(dim=1).double()
    corners = sphere.vertices[sphere.faces].double().numpy()
    for point, nearest in zip(points.double().numpy(), found.numpy(), strict=True):
        candidates = trimesh.triangles.closest_point(corners, np.tile(point, (len(corners), 1)))
        distances = np.linalg.norm(candidates - point, axis=1)
        assert np.linalg.norm(nearest - point) == pytest.approx(distances.min(), abs=1e-6)


def test_nearest_points_in_triangles_without_area():
    """For a line and a point, the weights are those on the longest edge."""
    line = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [4, 0, 0]]), torch.tensor([[0, 1, 2]]))
    _, weights = nearest_points(line, torch.tensor([[1.0, 3, 0], [9, 0, 0]]))
    torch.testing.assert_close(weights @ line.vertices[:, 0], torch.tensor([1.0, 4.0]))
    dot = Mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 2]]))
    _, weights = nearest_points(dot, torch.ones(1, 3))
    assert float(weights.sum()) == 1


def test_transfer_colors_splits_vertices_at_sharp_borders_of_colour():
    cube = flat_cube()
    fine = to_mesh(trimesh.creation.box().subdivide(), colors=False)
    colored = transfer_colors(cube, fine)
    assert len(colored.vertices) > len(fine.vertices)
    face_colors = colored.vertex_colors[colored.faces]
    assert float((face_colors - face_colors[:, :1]).abs().max()) == 0
