"""Which vertices, edges and triangles of a mesh belong together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def by_corner(
    vertices: Floats, corners: Indices, *attributes: tuple[Indices, Floats] | None
) -> tuple[Floats, Indices, list[Floats | None]]:
    """Vertices split where the corners of triangles that meet there differ in an attribute.

    Args:
        vertices: (V, 3).
        corners: (F, 3) numbers of vertices.
        attributes: each a table (N, d) and (F, 3) numbers of its rows, or None.

    Returns:
        the vertices, the faces, and each attribute at the vertices.
    """
    numbers = [corners] + [a[0] for a in attributes if a is not None]
    keys = np.stack([n.reshape(-1) for n in numbers], axis=1)
    unique, faces = np.unique(keys, axis=0, return_inverse=True)
    columns = iter(unique[:, 1:].T)
    found = [None if a is None else a[1][next(columns)] for a in attributes]
    return vertices[unique[:, 0]], faces.reshape(-1, 3), found
