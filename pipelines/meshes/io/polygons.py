"""Cut polygons and strips into triangles."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ...errors import InvalidInput
from ..topology import Floats, Indices


def check_indices(indices: Indices, count: int, what: str = "vertex") -> None:
    """Raise `InvalidInput` unless all indices of faces are at least 0 and below `count`."""
    if indices.size and not 0 <= indices.min() <= indices.max() < count:
        raise InvalidInput(f"a face refers to a {what} that does not exist")


def strip_triangles(strip: Indices) -> Indices:
    """Return the triangles (F, 3) of a strip of vertex indices (N,)."""
    faces = np.stack([strip[:-2], strip[1:-1], strip[2:]], axis=1)
    faces[1::2] = faces[1::2][:, [1, 0, 2]]
    return faces


def cut_polygons(
    vertices: Floats, groups: Iterable[tuple[Indices, Indices]]
) -> tuple[Indices, Indices]:
    """Cut polygons with any numbers of corners into triangles, in the order of the polygons.

    Args:
        vertices: (V, 3).
        groups: N polygons with C corners each: the polygons' numbers (N,), and (N, C, 2) with the
            vertex of each corner and a second index, such as that of its texture coordinate.

    Returns:
        owners: (F,) number of each triangle's polygon, ascending.
        corners: (F, 3, 2) vertex and second index of each corner.
    """
    owners, corners = [np.zeros(0, dtype=np.int64)], [np.zeros((0, 3, 2), dtype=np.int64)]
    for numbers, table in groups:
        owner, places = triangulate(vertices, table[..., 0])
        owners.append(numbers[owner])
        corners.append(table[owner[:, None], places])
    found = np.concatenate(owners)
    order = found.argsort(kind="stable")
    return found[order], np.concatenate(corners)[order]


def triangulate(vertices: Floats, polygons: Indices) -> tuple[Indices, Indices]:
    """Cut polygons with the same number of corners: convex ones as fans, others by ear clipping.

    Args:
        vertices: (V, 3).
        polygons: (N, C) vertex indices of their corners in order, C >= 3.

    Returns:
        owners: (F,) index of each triangle's polygon, ascending.
        places: (F, 3) positions of each triangle's corners within its polygon.

    Source: Newell's normal (Sutherland et al., 1974); ear clipping by mapbox_earcut.
    """
    count, sides = polygons.shape
    fan = np.array([[0, i, i + 1] for i in range(1, sides - 1)])
    owners, places = np.arange(count).repeat(sides - 2), np.tile(fan, (count, 1))
    if sides == 3:
        return owners, places
    corners = vertices[polygons]  # (N, C, 3)
    following = np.roll(corners, -1, axis=1)
    first = corners[:, :1]
    normals = np.cross(corners - first, following - first).sum(axis=1)
    turns = np.cross(following - corners, np.roll(corners, -2, axis=1) - following)
    concave = (np.einsum("ncd,nd->nc", turns, normals) < 0).any(axis=1)
    ears = {
        i: found
        for i in np.flatnonzero(concave).tolist()
        if len(found := _ears(corners[i], normals[i]))
    }
    kept = ~np.isin(owners, list(ears))
    owners = np.concatenate([owners[kept], *(np.full(len(cut), i) for i, cut in ears.items())])
    places = np.concatenate([places[kept], *ears.values()])
    order = owners.argsort(kind="stable")
    return owners[order], places[order]


def _ears(corners: Floats, normal: Floats) -> Indices:
    """Return triangles (F, 3) of a polygon's corners (C, 3); none if ear clipping fails."""
    import mapbox_earcut

    flat = np.delete(corners, np.abs(normal).argmax(), axis=1)
    ends = np.array([len(flat)], dtype=np.uint32)
    triangles = mapbox_earcut.triangulate_float64(flat, ends).reshape(-1, 3).astype(np.int64)
    a, b, c = (corners[triangles[:, i]] for i in range(3))
    against = (np.cross(b - a, c - a) @ normal) < 0
    return np.where(against[:, None], triangles[:, ::-1], triangles)
