"""Objects of the training set."""

from __future__ import annotations

import lzma

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


def write_object_file(path, soups):
    """Write objects in the packed form that `ObjectFile` reads."""
    vertices, corners, colors, counts = [], [], [], []
    for soup in soups:
        whole = ((soup.vertices + 0.5) * 4095).round().astype(int)
        first = soup.faces[:, 0]
        vertices.append(np.diff(whole, axis=0, prepend=0))
        corners.append(
            np.stack([np.diff(first, prepend=0), *(soup.faces[:, 1:] - first[:, None]).T], axis=1)
        )
        colors.append(soup.colors)
        counts.append((len(soup.vertices), len(soup.faces)))
    offsets = np.concatenate([[[0, 0]], np.cumsum(counts, axis=0)]).astype("<i4")
    arrays = {
        "names": "\n".join(f"things/{i}" for i in range(len(soups))).encode(),
        "vertex_offsets": offsets[:, 0].tobytes(),
        "face_offsets": offsets[:, 1].tobytes(),
        "vertices": np.concatenate(vertices).T.astype("<i2").tobytes(),
        "faces": np.concatenate(corners).T.astype("<i2").tobytes(),
        "face_colors": np.concatenate(colors).T.astype(np.uint8).tobytes(),
    }
    packed = {name: np.frombuffer(lzma.compress(raw), np.uint8) for name, raw in arrays.items()}
    np.savez(path, **packed)
