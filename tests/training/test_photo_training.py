"""The training set and the loss of the model that sees photographs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import trimesh

from training import rasterizing
from training.dataset import (
    ANYWHERE,
    CONFIG,
    NEAR,
    Shape,
    Views,
    deformed,
    framed_views,
    make_object,
)
from training.rasterizing import nearest
from training.train import FrustumLoss, along_rays, soft_iou


@pytest.fixture(scope="module")
def ball():
    """A ball of diameter 0.9 as the training set has it, and its shape."""
    mesh = trimesh.creation.icosphere(3, 0.45)
    shape = Shape.of(mesh.vertices, mesh.faces, np.full((len(mesh.faces), 3), 200.0), "cpu")
    return shape, make_object(shape, seed=0, images=4)


@pytest.fixture(scope="module")
def angle():
    """Two bars at a right angle: no image of it is its own mirror image."""
    upright = trimesh.creation.box([0.15, 0.15, 0.9])
    flat = trimesh.creation.box([0.6, 0.6, 0.15]).apply_translation([0.3, 0.2, -0.4])
    mesh = trimesh.util.concatenate([upright, flat])
    shape = Shape.of(mesh.vertices, mesh.faces, np.full((len(mesh.faces), 3), 200.0), "cpu")
    return make_object(shape, seed=0, images=4)


def _hit_by_rays(triangles, distance, size):
    """(size, size) nearest triangle of (T, 3, 3) and its depth, by Moeller and Trumbore's test."""
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
    return triangle.view(size, size), (depth * distance).view(size, size)


@pytest.mark.parametrize("pairs", [1 << 22, 500])
def test_nearest_triangles_are_those_that_rays_hit_first(monkeypatch, pairs):
    monkeypatch.setattr(rasterizing, "_PAIRS", pairs)
    generator = torch.Generator().manual_seed(0)
    middles = torch.randn(2, 60, 1, 3, generator=generator) * 0.8
    triangles = middles + torch.randn(2, 60, 3, 3, generator=generator) * 0.5
    triangles[:, 0] += torch.tensor([0.0, 0.0, 2.0])  # some of it is behind the camera
    triangles[:, 1, 1] = triangles[:, 1, 0]  # no area
    distance, size = 2.0, 40
    x, y, z = triangles.unbind(dim=-1)
    corners = torch.stack([x * distance, -y * distance, distance - z], dim=-1).double()
    found, nearness = nearest(corners, torch.ones_like(corners[..., 0]), size)
    for view in range(2):
        triangle, depth = _hit_by_rays(triangles[view], distance, size)
        assert torch.equal(found[view], triangle)
        hit = triangle >= 0
        assert 0.3 < float(hit.float().mean()) < 1
        assert torch.allclose(1 / nearness[view][hit].double(), depth[hit], rtol=1e-5)
        assert not nearness[view][~hit].any()


def test_the_inside_of_an_object_is_what_no_camera_sees(ball):
    _, made = ball
    inside = np.unpackbits(made["inside"])[: NEAR + ANYWHERE].astype(bool)
    distance = np.linalg.norm(made["points"].astype(float), axis=1)
    assert inside[distance < 0.44].all()
    assert not inside[distance > 0.48].any()


def test_images_of_objects_are_framed_and_say_where_rays_end(ball):
    _, made = ball
    for image, mask, first, camera in zip(
        made["picture"], made["mask"], made["first"], made["camera"], strict=True
    ):
        rows, columns = (mask > 127).any(axis=1).nonzero()[0], (mask > 127).any(axis=0).nonzero()[0]
        for line in (rows, columns):
            assert 0.8 * 128 - 1 <= len(line) <= 0.95 * 128 + 1
            assert line[0] >= 2
            assert line[-1] <= 125
        assert (image[mask == 0] == 255).all()
        views = Views(torch.from_numpy(camera[None]))
        middle = first[31:33, 31:33].astype(float).mean()
        near = views.frustum(views.axes[:, 2:] * 0.45)[0, 0]
        assert middle == pytest.approx(float(near[2]), abs=0.02)
        assert (first[[0, 0, -1, -1], [0, -1, 0, -1]] > 1.5).all(), "corners are background"


def test_a_thin_pole_is_not_cut_off_by_the_image():
    pole = trimesh.creation.box([0.004, 0.004, 0.99])
    mesh = trimesh.util.concatenate([pole, trimesh.creation.icosphere(2, 0.1)])
    shape = Shape.of(mesh.vertices, mesh.faces, np.full((len(mesh.faces), 3), 200.0), "cpu")
    views = framed_views(shape, 8, np.random.default_rng(0))
    places = views.frustum(shape.corners.reshape(1, -1, 3))[..., :2]
    assert float(places.abs().amax()) < 1
    spans = (places.amax(dim=1) - places.amin(dim=1)).amax(dim=1) / 2
    assert ((spans > 0.799) & (spans < 0.951)).all()


def test_deformed_objects_stay_in_their_box_and_differ():
    corners = trimesh.creation.box([1, 0.6, 0.8]).vertices
    made = [deformed(corners, np.random.default_rng(seed)) for seed in range(6)]
    for vertices in made:
        assert np.ptp(vertices, axis=0).max() == pytest.approx(1)
        assert np.abs(vertices).max() == pytest.approx(0.5)
    assert all(np.abs(a - b).max() > 0.05 for a, b in itertools.pairwise(made))
    flat = deformed(corners * (1, 1, 0), np.random.default_rng(0))
    assert np.isfinite(flat).all()


def test_rays_through_the_carved_grid_meet_the_object_where_it_is(ball):
    _, made = ball
    grids = torch.from_numpy(made["grid"])[None].expand(4, -1)
    views = Views(torch.from_numpy(made["camera"]))
    along = along_rays(grids, views, 1, 0, torch.ones(4))
    start = along.argmax(dim=1)
    w = (start + 0.5) / along.shape[1] * 2 - 1
    first = torch.from_numpy(made["first"].astype(np.float32))[:, 0::2, 1::2]
    deep = (along.sum(dim=1) > 8) & (first < 1)
    assert deep.float().mean() > 0.2
    assert float((w - first).abs()[deep].max()) < 3 * 1.1 / 48 / CONFIG.half_depth


def test_rays_of_a_mirrored_image_are_those_of_the_image_turned(angle):
    grids = torch.from_numpy(angle["grid"])[None].expand(4, -1)
    views = Views(torch.from_numpy(angle["camera"]))
    mirrored = along_rays(grids, views, 0, 0, -torch.ones(4))
    assert torch.equal(along_rays(grids, views, 1, 0, torch.ones(4)).flip(-1), mirrored)
    assert not torch.equal(along_rays(grids, views, 0, 0, torch.ones(4)), mirrored)


def test_frustum_places_and_world_places_are_inverse():
    numbers = torch.tensor([[30.0, 20, 40, 0.1, -0.2, 0.3, 0.9], [200.0, -10, 25, 0, 0, 0, 1.2]])
    views, generator = Views(numbers), torch.Generator().manual_seed(0)
    points = torch.rand(2, 50, 3, generator=generator) - 0.5
    assert torch.allclose(views.world(views.frustum(points)), points, atol=1e-5)


def test_batches_pair_images_with_their_own_points(angle):
    """Points inside, and rays with something, lie under the mask, also in mirrored images."""
    inside = np.unpackbits(angle["inside"])[: NEAR + ANYWHERE]
    loss = FrustumLoss(CONFIG.build(), [angle | {"inside": inside}], batch=16)
    batch = loss._batch(torch.Generator().manual_seed(0), 0, 0)
    places = batch["points"][:, None, :, :2]
    under = torch.nn.functional.grid_sample(batch["mask"], places, align_corners=False)[:, 0, 0]
    deep = batch["inside"] > 0
    assert float((under > 0.5).float()[deep].mean()) > 0.97
    assert float((under > 0.5).float()[~deep].mean()) < 0.9
    on_mask = torch.nn.functional.avg_pool2d(batch["mask"], 2)[:, 0, ::2, ::2] > 0.5
    something, first = batch["dense"].amax(dim=1) > 0, batch["first"][:, ::2, ::2] < 1.5
    assert float((something & on_mask).sum() / (something | on_mask).sum()) > 0.85
    assert float((first & on_mask).sum() / (first | on_mask).sum()) > 0.85
    terms = loss(torch.Generator().manual_seed(0))
    assert all(bool(value.isfinite()) for value in terms.values())


def test_soft_iou_of_certain_answers_is_the_iou():
    found = torch.tensor([[1.0, 1, 0, 0] * 100, [0.0] * 400])
    truth = torch.tensor([[1.0, 0, 1, 0] * 100, [1.0] * 400])
    assert soft_iou(found, truth).tolist() == pytest.approx([1 / 3, 0], abs=0.005)
