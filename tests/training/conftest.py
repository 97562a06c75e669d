"""Objects of the training set."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from training.dataset import make_object
from training.objects import Soup


def soup_of(mesh: trimesh.Trimesh) -> Soup:
    return Soup(mesh.vertices, mesh.faces, np.full((len(mesh.faces), 3), 200.0))


@pytest.fixture(scope="session")
def ball():
    """A ball of diameter 0.9."""
    return soup_of(trimesh.creation.icosphere(3, 0.45))


@pytest.fixture(scope="session")
def photographed_ball(ball):
    return make_object(ball, seed=0, images=4)


@pytest.fixture(scope="session")
def angle():
    """Two bars at a right angle: no image of it is its own mirror image."""
    upright = trimesh.creation.box([0.15, 0.15, 0.9])
    flat = trimesh.creation.box([0.6, 0.6, 0.15]).apply_translation([0.3, 0.2, -0.4])
    return soup_of(trimesh.util.concatenate([upright, flat]))


@pytest.fixture(scope="session")
def photographed_angle(angle):
    return make_object(angle, seed=0, images=4)
