"""Compare a mesh with the true object on all sides."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from . import rasterizing
from .shapes import Shape, axes_toward

SIDE = 1.7  # width of a silhouette's image, in image sides of the camera
_PIXELS, POINTS = 128, 10_000
_WALL = 0.032  # if points at this distance on both sides are inside, the surface is an inner wall
_NEAR = 0.05  # largest distance of matching points, as a share of the longest side

Array = np.ndarray[Any, np.dtype[Any]]


def silhouette_iou(corners: Array, true_corners: Array, toward: Array) -> float:
    """Return the IoU of two silhouettes, seen in parallel from a direction (3,).

    Args:
        corners: (T, 3, 3) triangles in the camera's frame, in image sides.
        true_corners: triangles of the true object, likewise.
        toward: direction from the origin to the eye.
    """
    axes = axes_toward(np.asarray(toward, float)[None])
    found, truth = (
        rasterizing.parallel_depth_maps(soup, axes, SIDE / 2, _PIXELS)[0] > -1e8
        for soup in (corners, true_corners)
    )
    return float((found & truth).sum() / max((found | truth).sum(), 1))


def sample_surface(corners: Array, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return points (N, 3) on triangles (T, 3, 3) and unit normals (N, 3), in either direction."""
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = np.linalg.norm(cross, axis=1)
    chosen = rng.choice(len(areas), count, p=areas / areas.sum())
    weights = rng.dirichlet([1, 1, 1], count)[:, :, None]
    return (corners[chosen] * weights).sum(axis=1), cross[chosen] / areas[chosen, None]


def sample_outer_surface(shape: Shape, rng: np.random.Generator) -> tuple[Array, Array]:
    """Sample a shape's surface, but not its inner walls; see `sample_surface`."""
    points, normals = sample_surface(shape.corners, 2 * POINTS, rng)
    walled = shape.inside(points + _WALL * normals) & shape.inside(points - _WALL * normals)
    return points[~walled][:POINTS], normals[~walled][:POINTS]


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
