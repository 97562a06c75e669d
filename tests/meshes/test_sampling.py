from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.meshes.sampling import sample_surface

CASES = Path(__file__).parents[1] / "data" / "cases"


@pytest.mark.parametrize("spacing", [0.5, 0.11])
def test_sample_surface_keeps_the_spacing(spacing):
    corners = np.random.default_rng(0).random((20, 3, 3))
    points, owners = sample_surface(corners, spacing)
    for i in range(20):
        weights = np.random.default_rng(i).dirichlet((1, 1, 1), 50)
        inside = weights @ corners[i]
        own = points[owners == i]
        assert (
            np.linalg.norm(inside[:, None] - own[None], axis=2).min(axis=1).max() <= spacing * 0.75
        )
