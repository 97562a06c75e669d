"""How alike a mesh and the true object are, all around."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from . import rasterizing
from .shapes import Shape, axes_toward

SIDE = 1.7  # image sides that a silhouette spans
_PIXELS, _POINTS = 128, 10_000
_NEAR = 0.05  # of the longest side

Array = np.ndarray[Any, np.dtype[Any]]


def silhouette_iou(corners: Array, true_corners: Array, toward: Array) -> float:
    """Return the IoU of two silhouettes, seen in parallel from a direction (3,).

    Args:
        corners: (T, 3, 3) triangles in the camera's frame, in image sides.
        true_corners: likewise.
        toward: from the origin to the eye.
    """
    axes = axes_toward(np.asarray(toward, float)[None])
    found, truth = (
        rasterizing.parallel_depth_maps(soup, axes, SIDE / 2, _PIXELS)[0] > -1e8
        for soup in (corners, true_corners)
    )
    return float((found & truth).sum() / max((found | truth).sum(), 1))


def outer_surface(soup: Shape, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return points (N, 3) of a shape that can be seen from somewhere, and unit normals (N, 3)."""
    chosen = rng.choice(len(soup.areas), 2 * _POINTS, p=soup.areas / soup.areas.sum())
    weights = rng.dirichlet([1, 1, 1], len(chosen))[:, :, None]
    points, normals = (soup.corners[chosen] * weights).sum(axis=1), soup.normals[chosen]
    walled = soup.inside(points + 0.032 * normals) & soup.inside(points - 0.032 * normals)
    return points[~walled][:_POINTS], normals[~walled][:_POINTS]


def surface_measures(
    found: tuple[Array, Array], truth: tuple[Array, Array], longest: float
) -> dict[str, float]:
    """Compare points and normals of two surfaces.

    Args:
        found: points (N, 3) and unit normals (N, 3) of the mesh.
        truth: those of the true object.
        longest: side of the true object's box.

    Returns:
        F-score: of precision and recall at a distance of 0.05 of the longest side.
        normals: mean absolute cosine between nearest points, both ways.
    """
    shares, cosines = [], []
    for (points, normals), (others, their) in ((found, truth), (truth, found)):
        distance, nearest = cKDTree(others).query(points)
        shares.append(float((distance < _NEAR * longest).mean()))
        cosines.append(float(np.abs((normals * their[nearest]).sum(axis=1)).mean()))
    precision, recall = shares
    return {
        "F-score 0.05": 2 * precision * recall / max(precision + recall, 1e-9),
        "normal consistency": sum(cosines) / 2,
    }
