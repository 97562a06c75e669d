"""The triangles of an object, and its depth maps from all around."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import maximum_filter

from . import rasterizing

CAMERAS, _SIDE, HALF, _BIAS = 42, 128, 0.92, 0.004  # HALF: half of a depth map's width
_OFFSET = 0.032  # distance from a surface of the points that tell which side of it is outside

Array = np.ndarray[Any, np.dtype[Any]]


class Shape(NamedTuple):
    """A triangle soup in a box of side 1 around the origin, z up.

    Attributes:
        vertices: (V, 3) distinct positions.
        corners: (T, 3, 3) corners of the triangles.
        normals: (T, 3) unit normals of the triangles, in either direction.
        areas: (T,) areas of the triangles.
        colors: (T, 3) sRGB in [0, 1].
        corner_normals: (T, 3, 3) unit, smooth across flat edges.
        axes: (CAMERAS, 3, 3) right, down and backward axis of parallel cameras on a sphere.
        depth_maps: (CAMERAS, S, S) nearness of the surface at each pixel of these cameras.
        dilated_maps: (CAMERAS, S, S) largest nearness among each pixel's 3 x 3 neighbours.
    """

    vertices: Array
    corners: Array
    normals: Array
    areas: Array
    colors: Array
    corner_normals: Array
    axes: Array
    depth_maps: Array
    dilated_maps: Array

    @classmethod
    def of(cls, vertices: Array, faces: Array, colors: Array, crease_deg: float = 40.0) -> Shape:
        """Build the shape of vertices (V, 3) and faces (T, 3) with colours (T, 3), 0 to 255.

        Triangles without an area are left out. Edges with a smaller angle than `crease_deg` between
        their triangles are shaded smoothly.
        """
        merged, index = np.unique(vertices.round(6), axis=0, return_inverse=True)
        corner_vertex = index.reshape(-1)[faces]
        corners = merged[corner_vertex]
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        areas = np.linalg.norm(cross, axis=1) / 2
        solid = areas > 1e-10
        corners, corner_vertex, areas = corners[solid], corner_vertex[solid], areas[solid]
        normals = cross[solid] / (2 * areas[:, None])
        order = np.argsort(corner_vertex.reshape(-1), kind="stable")
        starts = np.searchsorted(corner_vertex.reshape(-1)[order], np.arange(len(merged) + 1))
        smooth = rasterizing.corner_normals(
            corner_vertex, normals, areas, order // 3, starts, math.cos(math.radians(crease_deg))
        )
        axes = axes_toward(_fibonacci(CAMERAS))
        maps = rasterizing.parallel_depth_maps(corners, axes, HALF, _SIDE)
        own = colors[solid] / 255
        return cls(merged, corners, normals, areas, own, smooth, axes, maps, _dilated(maps))

    def inside(self, points: Array) -> Array:
        """Return (N,) whether points (N, 3) are inside: hidden from all cameras.

        A point is compared with the nearest depth among 3 x 3 pixels, which keeps thin parts.
        """
        return rasterizing.hidden_from_all(points, self.dilated_maps, self.axes, HALF, _BIAS)

    def sample_surface(self, count: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
        """Return points (N, 3), their triangles (N,) and outward unit normals (N, 3).

        A normal is 0 where neither side or both sides are outside, as on inner walls and sheets.
        """
        triangles = rng.choice(len(self.areas), count, p=self.areas / self.areas.sum())
        weights = rng.dirichlet([1, 1, 1], count)[:, :, None]
        points = (self.corners[triangles] * weights).sum(axis=1)
        normals = (self.corner_normals[triangles] * weights).sum(axis=1)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-9)
        before, behind = (self.inside(points + sign * _OFFSET * normals) for sign in (1, -1))
        return points, triangles, normals * (behind.astype(int) - before)[:, None]


def axes_toward(backs: Array) -> Array:
    """Return (C, 3, 3) right, down and backward axes of cameras in directions (C, 3)."""
    helper = np.where(np.abs(backs[:, 2:]) < 0.95, [[0.0, 0, 1]], [[1.0, 0, 0]])
    rights = np.cross(helper, backs)
    rights /= np.linalg.norm(rights, axis=1, keepdims=True)
    return np.stack([rights, -np.cross(backs, rights), backs], axis=1)


def _dilated(maps: Array) -> Array:
    """Return the largest of each pixel's 3 x 3 neighbours in maps (C, S, S)."""
    return maximum_filter(maps, size=(1, 3, 3), mode="nearest")


def _fibonacci(count: int) -> Array:
    """Return (count, 3) directions, spread over the sphere."""
    i = np.arange(count) + 0.5
    z, angle = 1 - 2 * i / count, math.pi * (1 + 5**0.5) * i
    radius = np.sqrt(1 - z * z)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)
