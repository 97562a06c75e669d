"""Measures that compare a mesh with the true object."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from pipelines.fields.frustum_volume import FrustumVolume
from training.evaluate import CameraFrame, mean_of, measure, simple_solids
from training.measures import sample_outer_surface, sample_surface, silhouette_iou, surface_measures
from training.shapes import Shape
from training.views import CONFIG, Views

from .conftest import soup_of

RIGHT, ABOVE, _ = np.eye(3)


def _box(*size):
    mesh = trimesh.creation.box(size)
    return mesh.vertices[mesh.faces]


def test_silhouette_iou_of_a_slab_is_high_from_the_front_only():
    slab, cube = _box(0.6, 0.6, 0.2), _box(0.6, 0.6, 0.6)
    assert silhouette_iou(slab, cube, np.array([0, 0, 1.0])) == 1
    assert silhouette_iou(slab, cube, RIGHT) == pytest.approx(1 / 3, abs=0.02)
    assert silhouette_iou(slab, cube, ABOVE) == pytest.approx(1 / 3, abs=0.02)


def test_equal_surfaces_have_a_perfect_score():
    rng = np.random.default_rng(0)
    one, other = (sample_surface(_box(0.6, 0.6, 0.6), 4000, rng) for _ in range(2))
    scores = surface_measures(one, other, 0.6)
    assert scores["F-score 0.05"] > 0.98
    assert scores["normal consistency"] > 0.9


def test_surfaces_far_apart_have_no_score():
    rng = np.random.default_rng(0)
    small, large = (sample_surface(_box(*[side] * 3), 4000, rng) for side in (0.3, 0.6))
    assert surface_measures(small, large, 0.6)["F-score 0.05"] == 0


def test_ridges_lower_the_normal_consistency():
    rng = np.random.default_rng(0)
    flat = np.array([[[0, 0, 0], [1, 0, 0], [0, 1, 0.0]]])
    steep = np.array([[[0, 0, 0], [0.01, 0, 0], [0, 0.01, 0.01]]])
    offsets = np.array([[0.02 * i, 0.02 * j, 0] for i in range(25) for j in range(25)])
    steep = (steep + offsets[:, None, None]).reshape(-1, 3, 3)
    scores = surface_measures(sample_surface(steep, 3000, rng), sample_surface(flat, 3000, rng), 1)
    assert scores["normal consistency"] == pytest.approx(0.5**0.5, abs=0.02)


def test_inner_walls_do_not_count():
    nested = trimesh.util.concatenate([trimesh.creation.icosphere(3, r) for r in (0.5, 0.2)])
    points, _ = sample_outer_surface(Shape.of(*soup_of(nested)), np.random.default_rng(0))
    assert np.linalg.norm(points, axis=1).min() > 0.45


def test_evaluate_camera_and_world_frames_are_inverse():
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 16:56, 8:40] = 1
    logits = torch.full((1, 1, 48, 64, 64), -4.0)
    logits[:, :, 20:30] = 4
    volume = FrustumVolume.of(
        logits, torch.zeros(1, 3, 6, 64, 64), torch.ones(1, 3, 64, 64), mask,
        elevation_deg=20.0, fov_y_deg=40.0, half_depth=0.85,
    )  # fmt: skip
    frame = CameraFrame(volume)
    points = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    torch.testing.assert_close(frame.of_world(frame.to_world(points)), points)
    eye = frame.of_world(volume.camera.c2w[:, :3, 3])[0]
    assert eye.tolist() == pytest.approx([0, 0, 0.5 / np.tan(np.radians(20))], abs=1e-4)


class _Oracle:
    """A model that returns the true volume of a ball, so that all measures but colour are good."""

    def __init__(self, made):
        self.views = Views(torch.from_numpy(made["camera"][:1]))

    def field(self, images, cameras, masks):
        size, bins = CONFIG.image_size // 2, CONFIG.bins
        line = (torch.arange(size) + 0.5) / size * 2 - 1
        w = (torch.arange(bins) + 0.5) / bins * 2 - 1
        places = torch.stack(torch.meshgrid(w, line, line, indexing="ij")[::-1], dim=-1)
        world = self.views.world(places.reshape(1, -1, 3))
        logits = (0.45 - world.norm(dim=-1)) / float(self.views.side[0]) * 200
        return FrustumVolume.of(
            logits.clamp(-8, 8).view(1, 1, bins, size, size),
            torch.zeros(1, 3, 6, size, size),
            images,
            masks,
            elevation_deg=float(self.views.elevation_deg[0]),
            fov_y_deg=float(self.views.numbers[0, 2]),
            half_depth=CONFIG.half_depth,
        )


def test_evaluate_true_volume_scores_well_all_around(ball, photographed_ball):
    made = photographed_ball | {"corners": ball.vertices[ball.faces].astype(np.float32)}
    scores = measure(_Oracle(made), made)
    assert scores["volume IoU"] > 0.9
    assert min(scores[f"silhouette, {side}"] for side in ("side", "above", "front")) > 0.93
    assert scores["F-score 0.05"] > 0.99
    assert scores["normal consistency"] > 0.95
    assert scores["first-hit depth"] < 0.06
    assert scores["elevation"] < 1e-3


def test_means_count_their_objects():
    assert mean_of([{"a": 1.0}, {"a": 2.0}]) == {"a": 1.5, "objects": 2}


def test_simple_solids_are_closed_and_fit_their_box():
    solids = simple_solids()
    assert len(solids) == 8
    for soup in solids.values():
        assert trimesh.Trimesh(soup.vertices, soup.faces).is_watertight
        assert np.abs(soup.vertices).max() == pytest.approx(0.5, abs=1e-6)
