"""Topology: connections between vertices, edges and triangles.

Meshes often have several vertices at one position, with different colours or uvs. Functions about
connections therefore treat vertices at the same position as one, unless documented otherwise.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InvalidInput
from .mesh import Mesh, drop_unused, face_areas

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

# Attributes are rounded to 1 / this before they are compared for merging.
_COLOR_STEPS, _UV_STEPS = 512, 1_000_000


def first_equal_rows(rows: NDArray[np.generic]) -> Indices:
    """Return (N,): for each row of `rows` (N, d), the index of the first equal row."""
    order = _sorted_order(rows)
    new = np.ones(len(order), dtype=bool)
    new[1:] = (rows[order[1:]] != rows[order[:-1]]).any(axis=1)
    first = np.minimum.reduceat(order, np.flatnonzero(new)) if len(order) else order
    found = np.empty(len(order), dtype=np.int64)
    found[order] = first[new.cumsum() - 1]
    return found


def _sorted_order(rows: NDArray[np.generic]) -> Indices:
    """Return an order (N,) in which equal rows of `rows` (N, d) are neighbours."""
    if len(rows) and np.issubdtype(rows.dtype, np.integer) and rows.min() >= 0:
        sizes = tuple((rows.max(axis=0) + 1).tolist())
        if math.prod(sizes) < 2**63:  # one number a row is five times as fast to sort
            codes = np.ravel_multi_index(tuple(rows.T), sizes)
            return torch.from_numpy(codes).argsort().numpy()
    return np.lexsort(rows.T)


def merged_faces(mesh: Mesh) -> Tensor:
    """Return (F, 3) faces that use only the first of the vertices at each position."""
    return torch.from_numpy(first_equal_rows(mesh.vertices.cpu().numpy()))[mesh.faces.cpu()]


def bare_shape(mesh: Mesh) -> Mesh:
    """Return the mesh without attributes, with one vertex at each position."""
    return drop_unused(Mesh(mesh.vertices, merged_faces(mesh)))


def merge_vertices(mesh: Mesh, tolerance: float = 1e-6) -> Mesh:
    """Merge vertices that are closer than a tolerance and have the same colours and uvs.

    Close vertices with different colours or uvs move to one position but are not merged. Triangles
    without area and duplicate triangles are removed. A texture is kept. Normals and tangents are
    dropped, as they do not fit the merged vertices.

    Args:
        mesh: any.
        tolerance: distance as a share of the mesh's longest side.
    """
    mesh = replace(mesh, normals=None, tangents=None)
    if not len(mesh.faces):
        return drop_unused(mesh)
    low = mesh.vertices.amin(dim=0)
    extent = float((mesh.vertices.amax(dim=0) - low).amax())
    cells = ((mesh.vertices - low).double() / max(extent * tolerance, 1e-30)).round().long()
    position = first_equal_rows(cells.numpy())
    keys = [position[:, None]]
    if mesh.vertex_colors is not None:
        keys.append((mesh.vertex_colors * _COLOR_STEPS).round().long().numpy())
    if mesh.uvs is not None:
        keys.append((mesh.uvs * _UV_STEPS).round().long().numpy())
    vertex = first_equal_rows(np.concatenate(keys, axis=1)) if len(keys) > 1 else position
    corners = np.sort(position[mesh.faces.numpy()], axis=1)
    has_area = (corners[:, 0] != corners[:, 1]) & (corners[:, 1] != corners[:, 2])
    is_first = first_equal_rows(corners) == np.arange(len(corners))
    faces = vertex[mesh.faces.numpy()][has_area & is_first]
    return drop_unused(
        replace(
            mesh, vertices=mesh.vertices[torch.from_numpy(position)], faces=torch.from_numpy(faces)
        )
    )


def split_corners(
    vertices: Floats, corners: Indices, *attributes: tuple[Indices, Floats] | None
) -> tuple[Floats, Indices, list[Floats | None]]:
    """Split vertices at which triangles have different values of an attribute.

    Args:
        vertices: (V, 3).
        corners: (F, 3) vertex indices of the triangles.
        attributes: for each attribute None, or (F, 3) row indices and a table (N, d) of values.

    Returns:
        vertices: (W, 3).
        faces: (F, 3).
        attributes: for each attribute None, or (W, d) values at the vertices.
    """
    columns = {id(rows): rows for rows in (corners, *(a[0] for a in attributes if a is not None))}
    keys = np.stack([rows.reshape(-1) for rows in columns.values()], axis=1)
    unique, faces = np.unique(
        keys.squeeze(1) if len(columns) == 1 else keys, axis=0, return_inverse=True
    )
    own = dict(zip(columns, unique.reshape(-1, len(columns)).T, strict=True))
    found = [None if a is None else a[1][own[id(a[0])]] for a in attributes]
    return vertices[own[id(corners)]], faces.reshape(-1, 3), found


def component_labels(mesh: Mesh, by_position: bool = True) -> Indices:
    """Return (F,) indices of the connected component of each triangle, from 0.

    Triangles that share a vertex are connected; with `by_position`, so are those with vertices at
    the same position. scipy is used instead of libigl, since every extraction needs this function
    and libigl has no wheels for some platforms.
    """
    from scipy.sparse import coo_array  # slow to import
    from scipy.sparse.csgraph import connected_components

    faces = (merged_faces(mesh) if by_position else mesh.faces).numpy()
    ends = faces[:, [0, 1, 1, 2]].reshape(-1, 2).astype(np.int32)  # int64 fails in old scipy
    graph = coo_array((np.ones(len(ends), dtype=np.int8), ends.T), shape=(len(mesh.vertices),) * 2)
    _, label_of_vertex = connected_components(graph, directed=False)
    labels: Indices = np.unique(label_of_vertex[faces[:, 0]], return_inverse=True)[1].reshape(-1)
    return labels


def keep_large_components(mesh: Mesh, min_share: float = 1.0) -> Mesh:
    """Remove connected components that are small in area.

    Args:
        mesh: at least one triangle.
        min_share: smallest area to keep, as a share of the largest component's, in [0, 1]; 1 keeps
            only the largest, 0 keeps all.

    Raises:
        InvalidInput: if the share is outside [0, 1] or the mesh has no triangles.
    """
    if not 0 <= min_share <= 1:
        raise InvalidInput(f"min_share must be between 0 and 1, got {min_share}.")
    if not len(mesh.faces):
        raise InvalidInput("The mesh has no triangles.")
    labels = component_labels(mesh)
    areas = np.bincount(labels, weights=face_areas(mesh).numpy())
    largest = labels == areas.argmax()
    kept = largest if min_share == 1 else areas[labels] >= min_share * areas.max()
    return drop_unused(replace(mesh, faces=mesh.faces[torch.from_numpy(kept)]))


def directed_edges(faces: Tensor) -> Tensor:
    """Return (3 F, 2) edges of faces (F, 3), each from one corner to the next."""
    return faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)


def edge_codes(faces: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Encode directed edges as integers, so that equal edges have equal codes.

    Args:
        faces: (F, 3) indices of vertices.
        count: number of vertices.

    Returns:
        forward: (3 F,) codes of the edges, in the order of `directed_edges`.
        backward: (3 F,) codes of the same edges in the opposite direction.
    """
    start, end = faces.reshape(-1), faces.roll(-1, dims=1).reshape(-1)
    return start * count + end, end * count + start


def _edge_counts(mesh: Mesh) -> csr_array:
    """Return (V, V): the number of triangles that use each directed edge.

    Its entries are sorted by counting, which is five times as fast as sorting `edge_codes`.
    """
    from scipy.sparse import coo_array  # slow to import

    start = mesh.faces.cpu().numpy().astype(np.int32)  # int64 fails in old scipy
    ends = (start.reshape(-1), np.roll(start, -1, axis=1).reshape(-1))
    shape = (len(mesh.vertices),) * 2
    return coo_array((np.ones(start.size, dtype=np.int32), ends), shape=shape).tocsr()


def open_edges(mesh: Mesh) -> int:
    """Return the number of edges that only one triangle uses, by position."""
    return int((~torch.isin(*edge_codes(merged_faces(mesh), len(mesh.vertices)))).sum())


def is_watertight(mesh: Mesh) -> bool:
    """Return whether each edge is used equally often in both directions.

    Vertices are compared by index, not by position.
    """
    counts = _edge_counts(mesh)
    return counts.nnz > 0 and (counts != counts.T.tocsr()).nnz == 0


def is_closed_manifold(mesh: Mesh) -> bool:
    """Return whether exactly two triangles meet at each edge, in opposite directions.

    Vertices are compared by index, not by position.
    """
    counts = _edge_counts(mesh)
    once = counts.nnz == mesh.faces.numel() > 0
    return once and (counts != counts.T.tocsr()).nnz == 0


def split_nonmanifold(shape: Mesh) -> Mesh:
    """Split vertices until each edge has at most two triangles, and each vertex one fan.

    Args:
        shape: without attributes; vertices are compared by index.

    Source: libigl's `split_nonmanifold`.
    """
    import igl

    faces, origin = igl.split_nonmanifold(shape.faces.numpy())
    return Mesh(shape.vertices[torch.from_numpy(origin)], torch.from_numpy(faces))


def boundary_loops(mesh: Mesh, by_position: bool = True) -> Iterator[Tensor]:
    """Yield closed loops of edges that only one triangle uses.

    Args:
        mesh: any.
        by_position: treat vertices at the same position as one.

    Yields:
        (N, 2) edges of a loop as vertex indices, in the direction of their triangles.
    """
    faces = merged_faces(mesh) if by_position else mesh.faces
    own, edges = directed_edges(mesh.faces), directed_edges(faces)
    leaving: dict[int, list[int]] = defaultdict(list)
    for edge in (~torch.isin(*edge_codes(faces, len(mesh.vertices)))).nonzero()[:, 0].tolist():
        leaving[int(edges[edge, 0])].append(edge)
    while leaving:
        start = at = next(iter(leaving))
        walk: list[int] = []
        while at in leaving:
            walk.append(leaving[at].pop())
            if not leaving[at]:
                del leaving[at]
            at = int(edges[walk[-1], 1])
            if at == start:
                yield own[walk]
                break
