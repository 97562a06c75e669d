"""Sample points on a surface."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .topology import Floats, Indices

_MAX_STEPS = 1e6  # per edge


def sample_surface(corners: Floats, spacing: float) -> tuple[Floats, Indices]:
    """Sample triangles on a regular grid, including their borders.

    Args:
        corners: (F, 3, 3) corners of the triangles.
        spacing: largest distance between neighbouring points.

    Returns:
        points: (N, 3).
        triangles: (N,) index of each point's triangle.
    """
    corners, along, across = _lay_out(corners, spacing)
    points, triangles = [], []
    for n, m in np.unique(np.stack([along, across], axis=1), axis=0).tolist():
        chosen = np.flatnonzero((along == n) & (across == m))
        v, u = (
            x.reshape(-1)
            for x in np.meshgrid(np.linspace(0, 1, m + 1), np.linspace(0, 1, n + 1), indexing="ij")
        )
        weights = np.stack([(1 - v) * (1 - u), (1 - v) * u, v], axis=1)  # (P, 3)
        points.append(np.einsum("pk,fkd->fpd", weights, corners[chosen]).reshape(-1, 3))
        triangles.append(np.repeat(chosen, len(weights)))
    return np.concatenate(points), np.concatenate(triangles)


def count_samples(corners: Floats, spacing: float) -> int:
    """Return the number of points that `sample_surface` returns."""
    _, along, across = _lay_out(corners, spacing)
    return int(((along + 1).astype(np.float64) * (across + 1)).sum())


def _lay_out(corners: Floats, spacing: float) -> tuple[Floats, Indices, Indices]:
    """Choose the sampling grid of each triangle.

    Returns:
        corners: (F, 3, 3), rotated so that the longest edge comes first.
        along: (F,) number of steps along that edge.
        across: (F,) number of rows between that edge and the opposite corner.
    """
    edges = np.roll(corners, -1, axis=1) - corners
    lengths = np.linalg.norm(edges, axis=2)
    first = lengths.argmax(axis=1)
    order = ((first[:, None] + np.arange(3)) % 3)[..., None]
    corners = np.take_along_axis(corners, order, axis=1)
    longest = lengths.max(axis=1)
    double_area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    height = np.divide(double_area, longest, out=np.zeros_like(longest), where=longest > 0)

    def steps(length: NDArray[np.float64]) -> Indices:
        return np.ceil(length / spacing).clip(1, _MAX_STEPS).astype(np.int64)

    return corners, steps(longest), steps(height)
