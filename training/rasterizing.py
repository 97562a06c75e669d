"""Rasterize triangles and test the visibility of points: inner loops, compiled by numba.

A training set needs hundreds of depth maps of every object, and millions of lookups in them.
`pipelines.rendering` renders few images of large meshes; here the triangles are few.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, np.dtype[Any]]

_ON_EDGE = 1e-6


@njit(cache=True)
def rasterize(screen: Array, size: int) -> tuple[Array, Array, Array]:
    """Find the nearest triangle at the centre of each pixel.

    Args:
        screen: (T, 3, 3) corners as x, y in pixels (a pixel's centre is at + 0.5) and nearness,
            which is positive, largest for what is nearest, and linear on the screen: 1 / depth in
            perspective, -depth plus a constant in parallel projection.
        size: pixels along a side of the square image.

    Returns:
        triangle: (size, size) int32, -1 where there is none.
        nearness: (size, size) float32, 0 where there is none.
        barycentric: (size, size, 2) float32 weights of the second and third corner on the screen.
    """
    triangle = np.full((size, size), -1, np.int32)
    nearness = np.zeros((size, size), np.float32)
    barycentric = np.zeros((size, size, 2), np.float32)
    for t in range(len(screen)):
        ax, ay, az = screen[t, 0]
        bx, by, bz = screen[t, 1]
        cx, cy, cz = screen[t, 2]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < 1e-12:
            continue
        left = max(0, int(np.ceil(min(ax, bx, cx) - 0.5)))
        right = min(size - 1, int(np.floor(max(ax, bx, cx) - 0.5)))
        top = max(0, int(np.ceil(min(ay, by, cy) - 0.5)))
        bottom = min(size - 1, int(np.floor(max(ay, by, cy) - 0.5)))
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                x, y = column + 0.5 - ax, row + 0.5 - ay
                b = (x * (cy - ay) - y * (cx - ax)) / area
                c = (y * (bx - ax) - x * (by - ay)) / area
                if b < -_ON_EDGE or c < -_ON_EDGE or b + c > 1 + _ON_EDGE:
                    continue
                near = az + b * (bz - az) + c * (cz - az)
                if near > nearness[row, column]:
                    nearness[row, column] = near
                    triangle[row, column] = t
                    barycentric[row, column, 0], barycentric[row, column, 1] = b, c
    return triangle, nearness, barycentric


@njit(cache=True)
def parallel_depth_maps(corners: Array, axes: Array, half: float, size: int) -> Array:
    """Render (C, size, size) nearness of triangles from C parallel cameras; -1e9 is empty.

    Args:
        corners: (T, 3, 3) in the world.
        axes: (C, 3, 3) rows: each camera's right, down and backward axis.
        half: half of the side of the square around the origin that an image spans.
        size: pixels along a side.
    """
    maps = np.empty((len(axes), size, size), np.float32)
    screen = np.empty(corners.shape, np.float64)
    for camera in range(len(axes)):
        for t in range(len(corners)):
            for k in range(3):
                x, y, near = 0.0, 0.0, 0.0
                for d in range(3):
                    x += corners[t, k, d] * axes[camera, 0, d]
                    y += corners[t, k, d] * axes[camera, 1, d]
                    near += corners[t, k, d] * axes[camera, 2, d]
                screen[t, k, 0] = (x / half + 1) / 2 * size
                screen[t, k, 1] = (y / half + 1) / 2 * size
                screen[t, k, 2] = near + 10
        _, nearness, _ = rasterize(screen, size)
        maps[camera] = np.where(nearness > 0, nearness - 10, np.float32(-1e9))
    return maps


@njit(cache=True)
def hidden_from_all(points: Array, maps: Array, axes: Array, half: float, bias: float) -> Array:
    """Return (N,) whether points (N, 3) are hidden from all cameras of `parallel_depth_maps`."""
    hidden = np.ones(len(points), np.bool_)
    for i in range(len(points)):
        for camera in range(len(axes)):
            x, y, near = _project(points[i], axes[camera], half, maps.shape[1])
            if near > maps[camera, y, x] + bias:
                hidden[i] = False
                break
    return hidden


@njit(cache=True)
def visibility(points: Array, maps: Array, axes: Array, half: float, reach: int) -> Array:
    """Return the visibility (N, C) of points (N, 3) from each camera, in [0, 1].

    It is the share of the (2 `reach` + 1)^2 pixels around the point in which nothing is nearer.
    That gives shadows soft edges.
    """
    size = maps.shape[1]
    free = np.empty((len(points), len(axes)), np.float32)
    for i in range(len(points)):
        for camera in range(len(axes)):
            x, y, near = _project(points[i], axes[camera], half, size)
            count, total = 0, 0
            for row in range(max(0, y - reach), min(size, y + reach + 1)):
                for column in range(max(0, x - reach), min(size, x + reach + 1)):
                    total += 1
                    count += near >= maps[camera, row, column]
            free[i, camera] = count / max(total, 1)
    return free


@njit(cache=True)
def sky_light(
    points: Array, normals: Array, maps: Array, axes: Array, half: float, radiance: Array
) -> Array:
    """Return the light (N, 3) that reaches points (N, 3) from all unobstructed directions.

    Args:
        points: (N, 3) slightly outside a surface.
        normals: (N, 3) outward unit normals of the surface.
        maps: see `parallel_depth_maps`, likewise `axes` and `half`.
        radiance: (C, 3) from each camera's direction. If it is 1 everywhere, an unobstructed point
            gets 1.
    """
    light = np.zeros((len(points), 3), np.float32)
    for i in range(len(points)):
        total = 1e-6
        for camera in range(len(axes)):
            facing = 0.0
            for d in range(3):
                facing += normals[i, d] * axes[camera, 2, d]
            if facing <= 0:
                continue
            total += facing
            x, y, near = _project(points[i], axes[camera], half, maps.shape[1])
            if near >= maps[camera, y, x]:
                for d in range(3):
                    light[i, d] += facing * radiance[camera, d]
        for d in range(3):
            light[i, d] /= total
    return light


@njit(cache=True)
def _project(point: Array, axes: Array, half: float, size: int) -> tuple[int, int, float]:
    """Return the column, row and nearness of a point (3,)."""
    x, y, near = 0.0, 0.0, 0.0
    for d in range(3):
        x += point[d] * axes[0, d]
        y += point[d] * axes[1, d]
        near += point[d] * axes[2, d]
    column = min(size - 1, max(0, int((x / half + 1) / 2 * size)))
    row = min(size - 1, max(0, int((y / half + 1) / 2 * size)))
    return column, row, near


@njit(cache=True)
def corner_normals(
    corner_vertex: Array,
    normals: Array,
    areas: Array,
    incident: Array,
    starts: Array,
    cosine: float,
) -> Array:
    """Return (T, 3, 3) unit normals of corners, smooth across edges flatter than the crease angle.

    Triangles with the opposite orientation are treated as if they were flipped.

    Args:
        corner_vertex: (T, 3) the merged vertex of each corner.
        normals: (T, 3) unit normals of triangles.
        areas: (T,) of triangles.
        incident: (3 T,) triangles, in the order of their merged vertices.
        starts: (V + 1,) where each merged vertex's triangles begin in `incident`.
        cosine: of the crease angle.
    """
    smooth = np.empty((len(normals), 3, 3), np.float64)
    for t in range(len(normals)):
        for k in range(3):
            vertex = corner_vertex[t, k]
            sx, sy, sz = 0.0, 0.0, 0.0
            for j in range(starts[vertex], starts[vertex + 1]):
                other = incident[j]
                dot = (
                    normals[t, 0] * normals[other, 0]
                    + normals[t, 1] * normals[other, 1]
                    + normals[t, 2] * normals[other, 2]
                )
                if abs(dot) >= cosine:
                    weight = areas[other] * np.sign(dot)
                    sx += weight * normals[other, 0]
                    sy += weight * normals[other, 1]
                    sz += weight * normals[other, 2]
            length = np.sqrt(sx * sx + sy * sy + sz * sz)
            if length < 1e-12:
                smooth[t, k] = normals[t]
            else:
                smooth[t, k, 0], smooth[t, k, 1], smooth[t, k, 2] = (
                    sx / length,
                    sy / length,
                    sz / length,
                )
    return smooth
