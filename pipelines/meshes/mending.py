"""Shells made closed, and taken apart where they hang together too thinly for other programs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from .mesh import Mesh, drop_unused
from .repair import first_of_same, rims, with_fans

_HAIR, _MOVES = 0.002, 3  # shares of a triangle's size, and how often


def mended(shape: Mesh) -> Mesh:
    """Bodies that touch along edges are taken apart, and every rim is closed.

    Triangles that run against their neighbours go.
    """
    apart = _apart(_without_branching_edges(_apart(shape)))
    faces = apart.faces.numpy()
    return with_fans(apart, list(rims(faces, faces))) if len(faces) else shape


def _apart(shape: Mesh) -> Mesh:
    """The shape with vertices doubled where their triangles hang together by a point alone.

    Triangles hang together by an edge of just two triangles that run along it both ways.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    faces, count = shape.faces.numpy(), len(shape.vertices)
    # The edge from each corner to the next.
    start, end = (faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1))
    code, back = start * count + end, end * count + start
    order = np.argsort(code)
    place = np.searchsorted(code[order], back)
    opposite = order[place.clip(max=len(order) - 1)]
    undirected = np.minimum(code, back)
    _, which, times = np.unique(undirected, return_inverse=True, return_counts=True)
    plain = (code[opposite] == back) & (times[which.reshape(-1)] == 2)
    edge, other = np.flatnonzero(plain), opposite[plain]
    following = edge - edge % 3 + (edge + 1) % 3
    following_other = other - other % 3 + (other + 1) % 3
    # A corner and the one at the same vertex across the edge belong together: at its start, and at
    # its end.
    pairs = np.stack(
        [np.concatenate([edge, following]), np.concatenate([following_other, other])]
    ).astype(np.int32)
    graph = coo_array(
        (np.ones(pairs.shape[1], dtype=np.int8), (pairs[0], pairs[1])), shape=(len(start),) * 2
    )
    _, number = connected_components(graph, directed=False)
    _, first = np.unique(number, return_index=True)
    return Mesh(
        shape.vertices[torch.from_numpy(start[first])],
        torch.from_numpy(number.astype(np.int64).reshape(-1, 3)),
    )


def without_touching(body: Mesh) -> Mesh:
    """The body with a hair's breadth between vertices that lay at one place.

    Slicers join what lies at one place, and then find edges with four triangles.
    """
    for _ in range(_MOVES):
        place = first_of_same(body.vertices)
        shared = torch.bincount(place, minlength=len(place))[place] > 1
        if not bool(shared.any()):
            break
        corners = body.vertices[body.faces]
        middle = torch.zeros_like(body.vertices)
        for k in range(3):
            middle.index_add_(0, body.faces[:, k], corners.mean(dim=1))
        count = torch.bincount(body.faces.reshape(-1), minlength=len(body.vertices))[:, None]
        inward = middle / count.clamp_min(1) - body.vertices
        body = replace(
            body,
            vertices=torch.where(shared[:, None], body.vertices + _HAIR * inward, body.vertices),
        )
    return body


def _without_branching_edges(mesh: Mesh) -> Mesh:
    """Without triangles at an edge that more than two share, or that two run along one way."""
    edges = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    code = edges[:, 0] * len(mesh.vertices) + edges[:, 1]
    _, which, times = code.unique(return_inverse=True, return_counts=True)
    bad = (times[which] > 1).view(-1, 3).any(dim=1)
    return drop_unused(replace(mesh, faces=mesh.faces[~bad])) if bool(bad.any()) else mesh
