from __future__ import annotations

import numpy as np
import torch

from training.rasterizing import (
    hidden_from_all,
    parallel_depth_maps,
    rasterize,
    sky_light,
    visibility,
)
from training.shapes import axes_toward

DOWN = axes_toward(np.array([[0.0, 0, 1]]))  # one camera above


def hit_by_rays(triangles, distance, size):
    """Return the nearest of triangles (T, 3, 3) at each pixel, and its depth.

    Rays are intersected with Moeller and Trumbore's test.
    """
    line = (torch.arange(size, dtype=torch.float64) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(-line, line, indexing="ij")
    rays = torch.stack([x, y, torch.full_like(x, -distance)], dim=-1).view(-1, 1, 3)
    a, b, c = triangles.double().unbind(dim=1)
    origin = torch.tensor([0, 0, distance], dtype=torch.float64)
    p = torch.linalg.cross(rays, (c - a)[None])
    determinant = ((b - a) * p).sum(dim=-1)
    u = ((origin - a) * p).sum(dim=-1) / determinant
    q = torch.linalg.cross(origin - a, b - a)
    v = (rays * q).sum(dim=-1) / determinant
    t = ((c - a) * q).sum(dim=-1) / determinant
    t = torch.where((u >= 0) & (v >= 0) & (u + v <= 1) & (t > 1e-6), t, torch.inf)
    depth, triangle = t.min(dim=1)
    triangle = torch.where(depth.isinf(), -1, triangle)
    return triangle.view(size, size).numpy(), (depth * distance).view(size, size).numpy()


def test_rasterize_finds_the_triangles_that_rays_hit_first():
    generator = torch.Generator().manual_seed(0)
    middles = torch.randn(60, 1, 3, generator=generator, dtype=torch.float64) * 0.4
    triangles = middles + torch.randn(60, 3, 3, generator=generator) * 0.4
    triangles[1, 1] = triangles[1, 0]  # no area
    distance, size = 3.0, 40
    x, y, z = triangles.unbind(dim=-1)
    depth = distance - z
    across, down = (x / depth * distance + 1) / 2 * size, (1 - y / depth * distance) / 2 * size
    screen = torch.stack([across, down, 1 / depth], dim=-1).numpy()
    found, nearness, barycentric = rasterize(screen, size)
    truth, true_depth = hit_by_rays(triangles, distance, size)
    assert np.array_equal(found, truth)
    hit = found >= 0
    assert 0.3 < hit.mean() < 1
    np.testing.assert_allclose(1 / nearness[hit], true_depth[hit], rtol=1e-5)
    weights = np.concatenate([1 - barycentric.sum(-1, keepdims=True), barycentric], axis=-1)
    rows, columns = hit.nonzero()
    places = (weights[hit][..., None] * screen[found[hit]]).sum(axis=1)
    np.testing.assert_allclose(places[:, :2], np.stack([columns, rows], 1) + 0.5, atol=1e-3)
    assert not nearness[~hit].any()


def plate(height, half):
    a, b, c, d = ([x * half, y * half, height] for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1)))
    return np.array([[a, b, c], [a, c, d]], float)


def test_points_below_a_plate_are_hidden_from_above():
    maps = parallel_depth_maps(plate(0.2, 0.3), DOWN, 1.0, 64)
    points = np.array([[0, 0, 0.0], [0, 0, 0.4], [0.5, 0, 0.0]])
    assert hidden_from_all(points, maps, DOWN, 1.0, 0.01).tolist() == [True, False, False]
    free = visibility(points, maps, DOWN, 1.0, 0)[:, 0]
    assert free.tolist() == [0, 1, 1]


def test_shadow_has_a_soft_edge():
    maps = parallel_depth_maps(plate(0.2, 0.3), DOWN, 1.0, 64)
    points = np.array([[x, 0, 0.0] for x in (0.1, 0.3, 0.5)])
    shares = visibility(points, maps, DOWN, 1.0, 3)[:, 0]
    assert shares[0] == 0
    assert 0 < shares[1] < 1
    assert shares[2] == 1


def test_sky_light_of_a_free_point_is_one():
    axes = axes_toward(np.array([[0.0, 0, 1], [1, 0, 0], [-1, 0, 0.0]]))
    maps = parallel_depth_maps(plate(0.2, 0.3), axes, 1.0, 64)
    up = np.array([[0.0, 0, 1]])
    light = [
        sky_light(np.array([[0.0, 0, z]]), up, maps, axes, 1.0, np.ones((3, 3))) for z in (0.4, 0)
    ]
    np.testing.assert_allclose(light[0], 1, atol=1e-4)
    assert not light[1].any()
