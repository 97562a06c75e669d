"""Closed bodies, for printing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ..errors import InvalidInput
from .decimation import MIN_FACES, decimate
from .mesh import Mesh, drop_unused, face_areas, shape_of
from .painting import count_strewn, painted_like, strew, texture_to_vertex_colors
from .repair import is_watertight, merge_vertices, rims, smooth, with_fans

_VOXELS = 160  # along the longest side, where nothing else makes a mesh watertight
_LEAST_VOXELS = 6
_MOST_REDUCTION = 100  # times fewer triangles by decimation; beyond that, larger voxels do better
_MOST_SAMPLES = (
    40_000_000  # points strewn to find the voxels of a surface: larger surfaces get larger voxels
)
_THINNEST = 1e-6  # thickness of a body over its length
_LEAKS = (0, 1, 2, 4, 8)  # voxels by which gaps are closed to find what is inside


def make_watertight(mesh: Mesh, max_faces: int = 0) -> Mesh:
    """A closed mesh, for printing.

    Mending is tried first. Where it does not suffice, the mesh's voxels are filled, and their
    surface is taken.

    Args:
        mesh: at least one triangle; a texture becomes colours of vertices.
        max_faces: most triangles of the result; 0 for no limit.

    Raises:
        InvalidInput: if the mesh encloses nothing, or cannot be closed with so few triangles.
    """
    original = merge_vertices(texture_to_vertex_colors(mesh))
    mended = _mended(shape_of(original))
    whole = _is_body(mended)
    closed = _fewer_and_closed(mended, max_faces) if whole else None
    voxels = _VOXELS
    while closed is None and voxels >= _LEAST_VOXELS:
        filled = _from_voxels(mended, voxels)
        if filled is None and not whole:
            raise InvalidInput("The mesh encloses nothing, so it cannot be made watertight.")
        if filled is None:
            break
        closed, whole, voxels = _fewer_and_closed(filled, max_faces), True, voxels * 7 // 10
    if closed is None:
        raise InvalidInput(
            f"The mesh cannot be made watertight with {max_faces} triangles: allow more."
        )
    return painted_like(closed, original)


def _is_body(shape: Mesh) -> bool:
    """Whether a shape is closed and encloses more than rounding does.

    Triangles and their backs alone enclose something by rounding.
    """
    extent = float((shape.vertices.amax(dim=0) - shape.vertices.amin(dim=0)).amax())
    return is_watertight(shape) and shape.volume() > _THINNEST * extent * float(
        face_areas(shape).sum()
    )


def _fewer_and_closed(closed: Mesh, max_faces: int) -> Mesh | None:
    """At most so many triangles, and still closed; None where that does not come out."""
    if not max_faces or len(closed.faces) <= max_faces:
        return closed
    if len(closed.faces) > _MOST_REDUCTION * max_faces:
        return None
    for share in (1.0, 0.9, 0.7):  # what is mended on the way may be over the limit
        fewer = _mended(decimate(closed, max(MIN_FACES, int(share * max_faces))))
        if len(fewer.faces) <= max_faces and _is_body(fewer):
            return fewer
    return None


def _mended(shape: Mesh) -> Mesh:
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


def _without_branching_edges(mesh: Mesh) -> Mesh:
    """Without triangles at an edge that more than two share, or that two run along one way."""
    edges = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    code = edges[:, 0] * len(mesh.vertices) + edges[:, 1]
    _, which, times = code.unique(return_inverse=True, return_counts=True)
    bad = (times[which] > 1).view(-1, 3).any(dim=1)
    return drop_unused(replace(mesh, faces=mesh.faces[~bad])) if bool(bad.any()) else mesh


def _from_voxels(shape: Mesh, voxels: int) -> Mesh | None:
    """The surface of the voxels that a shape fills, so many along its longest side.

    None if it fills none but those that it passes.

    Small gaps are closed to find what is inside.
    """
    from scipy.ndimage import binary_dilation, binary_erosion, binary_fill_holes
    from skimage.measure import marching_cubes

    surface, low, voxel = _surface_voxels(shape, voxels)
    for gap in _LEAKS:
        padded = np.pad(surface, gap + 1)
        wide = binary_dilation(padded, iterations=gap) if gap else padded
        filled = binary_fill_holes(wide)
        inside = binary_erosion(filled, iterations=gap) if gap else filled
        solid = inside | padded
        if solid.sum() > padded.sum() and (filled & ~wide).any():
            break
    else:
        return None
    points, faces, _, _ = marching_cubes(
        solid.astype(np.float32), level=0.5, gradient_direction="ascent"
    )
    vertices = (points - (gap + 1) + 0.5) * voxel + low
    return smooth(
        Mesh(
            torch.from_numpy(vertices.astype(np.float32)), torch.from_numpy(faces.astype(np.int64))
        ),
        4,
    )


def _surface_voxels(shape: Mesh, voxels: int) -> tuple[np.ndarray, np.ndarray, float]:
    """(X, Y, Z) bool voxels that the surface passes, the first one's corner, and their side.

    The side is larger for very large surfaces.
    """
    corners = shape.vertices.double().numpy()[shape.faces.numpy()]
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    voxel = float((high - low).max()) / voxels
    while count_strewn(corners, voxel / 2) > _MOST_SAMPLES:
        voxel *= 1.25
    surface = np.zeros(np.floor((high - low) / voxel).astype(int) + 1, dtype=bool)
    step = max(1, int(len(corners) * 2_000_000 / max(count_strewn(corners, voxel / 2), 1)))
    for start in range(0, len(corners), step):
        points, _ = strew(corners[start : start + step], voxel / 2)
        index = np.floor((points - low) / voxel).astype(int).clip(0, np.array(surface.shape) - 1)
        surface[tuple(index.T)] = True
    return surface, low, voxel
