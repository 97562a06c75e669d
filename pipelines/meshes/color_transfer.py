"""Colours of surfaces: what a texture shows, and what stands at a mesh's nearest point."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..images.colors import multiplied
from .mesh import Mesh, joined_faces
from .topology import by_corner

_SAMPLES = 1_000_000  # points strewn over a surface to find its nearest triangles by
_CANDIDATES = 8  # triangles whose exact distance is taken
_CHUNK = 65536
_COLOR_STEP = 0.05  # colours that differ by less blend

Floats = NDArray[np.float64]


def texture_colors(texture: Tensor, uvs: Tensor) -> Tensor:
    """(N, 3) bilinear samples of a texture (H, W, 3), which repeats outside [0, 1].

    The coordinates (N, 2) start from its lower left.
    """
    repeated = torch.where((uvs >= 0) & (uvs <= 1), uvs, uvs - uvs.floor())
    grid = torch.stack([repeated[:, 0], 1 - repeated[:, 1]], dim=1) * 2 - 1
    found = F.grid_sample(
        texture.permute(2, 0, 1)[None], grid[None, None], align_corners=False, padding_mode="border"
    )  # (1, 3, 1, N)
    return found[0, :, 0].T.contiguous()


def texture_to_vertex_colors(mesh: Mesh) -> Mesh:
    """The mesh with what its texture shows at each vertex, and without uvs and images.

    Its material's base colour goes into these colours as well.
    """
    mesh = with_base_color(mesh)
    material = mesh.material and mesh.material.without_images()
    plain = Mesh(
        mesh.vertices,
        mesh.faces,
        mesh.vertex_colors,
        normals=mesh.normals,
        vertex_alpha=mesh.vertex_alpha,
        material=material,
    )
    if mesh.texture is None or mesh.uvs is None:
        return plain
    found = texture_colors(mesh.texture, mesh.uvs)
    colors = found if mesh.vertex_colors is None else multiplied(found, mesh.vertex_colors)
    return replace(plain, vertex_colors=colors)


def with_base_color(mesh: Mesh) -> Mesh:
    """The mesh with its material's base colour in the colours of its vertices.

    Where the material has none, it stays as it is.
    """
    base = None if mesh.material is None else mesh.material.base_color
    if mesh.material is None or base is None:
        return mesh
    white = torch.ones_like(mesh.vertices) if mesh.vertex_colors is None else mesh.vertex_colors
    return replace(
        mesh,
        vertex_colors=multiplied(white, base.expand_as(white)),
        material=mesh.material.without_base_color(),
    )


def nearest_colors(mesh: Mesh, points: Tensor) -> Tensor:
    """(N, 3) colours at the nearest points of a mesh's surface, interpolated in its triangles.

    Args:
        mesh: with vertex colours, a texture, a material's base colour, or several of these.
        points: (N, 3).
    """
    triangle, weights = nearest_points(mesh, points)
    return surface_colors(mesh, mesh.faces[triangle], weights)


def surface_colors(mesh: Mesh, corners: Tensor, weights: Tensor) -> Tensor:
    """(N, 3) colours of points in triangles.

    What the vertices say is multiplied, as light is, by what the texture shows.

    Args:
        mesh: with vertex colours, a texture, a material's base colour, or several of these.
        corners: (N, 3) vertices of each point's triangle.
        weights: (N, 3) barycentric coordinates in it.
    """

    def interpolated(values: Tensor) -> Tensor:
        return (values.cpu()[corners] * weights[..., None]).sum(dim=1)

    mesh = with_base_color(mesh)
    if mesh.texture is None or mesh.uvs is None:
        assert mesh.vertex_colors is not None
        return interpolated(mesh.vertex_colors)
    shown = texture_colors(mesh.texture.cpu(), interpolated(mesh.uvs))
    return (
        shown if mesh.vertex_colors is None else multiplied(shown, interpolated(mesh.vertex_colors))
    )


def nearest_points(mesh: Mesh, points: Tensor) -> tuple[Tensor, Tensor]:
    """The triangles (N,) of a mesh that are nearest to points (N, 3), and where in them.

    Where is said by the barycentric coordinates (N, 3) of the nearest point.

    The surface is strewn with points; the triangles of the nearest of those are compared exactly.
    trimesh's own search asks for an R-tree and takes minutes for a texture.

    Source: Ericson, "Real-Time Collision Detection" (2005), section 5.1.5.
    """
    from scipy.spatial import cKDTree

    corners = mesh.vertices.double().numpy()[mesh.faces.numpy()]  # (F, 3, 3)
    strewn, owners = strew(corners, max(_spacing(corners), 1e-30))
    tree = cKDTree(strewn)
    wanted = points.double().numpy()
    found_triangle = np.empty(len(wanted), dtype=np.int64)
    found_weights = np.empty((len(wanted), 3))
    for start in range(0, len(wanted), _CHUNK):
        chunk = wanted[start : start + _CHUNK]
        _, near = tree.query(chunk, k=min(_CANDIDATES, len(strewn)), workers=-1)
        candidates = owners[near.reshape(len(chunk), -1)]  # (N, k)
        weights = _in_triangle(corners[candidates], chunk[:, None])
        distance = np.linalg.norm(
            (corners[candidates] * weights[..., None]).sum(axis=2) - chunk[:, None], axis=2
        )
        best = distance.argmin(axis=1)
        rows = np.arange(len(chunk))
        found_triangle[start : start + _CHUNK] = candidates[rows, best]
        found_weights[start : start + _CHUNK] = weights[rows, best]
    return torch.from_numpy(found_triangle), torch.from_numpy(found_weights).float()


def strew(corners: Floats, spacing: float) -> tuple[Floats, NDArray[np.int64]]:
    """Points (N, 3) on triangles (F, 3, 3), borders included, and each point's triangle (N,).

    Points are no further apart than the spacing.
    """
    corners, along, across = _rows(corners, spacing)
    points, owners = [], []
    for n, m in np.unique(np.stack([along, across], axis=1), axis=0).tolist():
        chosen = np.flatnonzero((along == n) & (across == m))
        v, u = (
            x.reshape(-1)
            for x in np.meshgrid(np.linspace(0, 1, m + 1), np.linspace(0, 1, n + 1), indexing="ij")
        )
        weights = np.stack([(1 - v) * (1 - u), (1 - v) * u, v], axis=1)  # (P, 3)
        points.append(np.einsum("pk,fkd->fpd", weights, corners[chosen]).reshape(-1, 3))
        owners.append(np.repeat(chosen, len(weights)))
    return np.concatenate(points), np.concatenate(owners)


def count_strewn(corners: Floats, spacing: float) -> int:
    """How many points `strew` would make."""
    _, along, across = _rows(corners, spacing)
    return int(((along + 1).astype(np.float64) * (across + 1)).sum())


def painted_like(shape: Mesh, original: Mesh) -> Mesh:
    """A shape without colours in those of another mesh, with the numbers of its material.

    Vertices are doubled where the original's colours meet without blending.

    Args:
        shape: near the original's surface.
        original: with vertex colours, or without any.
    """
    material = original.material and original.material.without_images()
    shape = replace(shape, material=material)
    if original.vertex_colors is None:
        return shape
    if not _has_borders(original):
        return replace(shape, vertex_colors=nearest_colors(original, shape.vertices))
    corners = shape.vertices[shape.faces]  # (F, 3, 3)
    inward = corners.lerp(corners.mean(dim=1, keepdim=True), 0.25)
    colors = nearest_colors(original, inward.reshape(-1, 3)).double().numpy()
    _, same = np.unique((colors / _COLOR_STEP).round(), axis=0, return_inverse=True)
    same = same.reshape(-1)
    count = np.bincount(same).astype(np.float64)
    table = np.stack([np.bincount(same, weights=colors[:, i]) / count for i in range(3)], axis=1)
    vertices, faces, (found,) = by_corner(
        shape.vertices.double().numpy(), shape.faces.numpy(), (same.reshape(-1, 3), table)
    )
    assert found is not None
    return Mesh(
        torch.from_numpy(vertices).float(),
        torch.from_numpy(faces),
        torch.from_numpy(found).float(),
        material=material,
    )


def _has_borders(mesh: Mesh) -> bool:
    """Whether vertices at one position have clearly different colours."""
    assert mesh.vertex_colors is not None
    first, own = joined_faces(mesh).reshape(-1), mesh.faces.reshape(-1)
    return bool(((mesh.vertex_colors[first] - mesh.vertex_colors[own]).abs() > _COLOR_STEP).any())


def _spacing(corners: Floats) -> float:
    """A spacing at which some `_SAMPLES` points cover triangles (F, 3, 3)."""
    lengths = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
    area = float(
        np.linalg.norm(
            np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
        ).sum()
        / 2
    )
    spacing = max(np.sqrt(area / _SAMPLES), float(lengths.max(initial=0.0)) / 1000)
    while spacing and count_strewn(corners, spacing) > 2 * _SAMPLES + 6 * len(corners):
        spacing *= 1.5
    return spacing


def _rows(corners: Floats, spacing: float) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Triangles with their longest edge first, steps along it, and rows of steps beside it."""
    edges = np.roll(corners, -1, axis=1) - corners
    lengths = np.linalg.norm(edges, axis=2)
    first = lengths.argmax(axis=1)
    turned = np.take_along_axis(corners, ((first[:, None] + np.arange(3)) % 3)[..., None], axis=1)
    longest = lengths.max(axis=1)
    double_area = np.linalg.norm(
        np.cross(turned[:, 1] - turned[:, 0], turned[:, 2] - turned[:, 0]), axis=1
    )
    height = np.divide(double_area, longest, out=np.zeros_like(longest), where=longest > 0)
    along, across = np.ceil(longest / spacing), np.ceil(height / spacing)
    return turned, along.clip(1, 1e6).astype(np.int64), across.clip(1, 1e6).astype(np.int64)


def _dot(a: Floats, b: Floats) -> Floats:
    product: Floats = (a * b).sum(axis=-1)
    return product


def _in_triangle(corners: Floats, points: Floats) -> Floats:
    """(..., 3) barycentric coordinates of the points of triangles that are nearest to points.

    Triangles are (..., 3, 3), points (..., 3).
    """
    a, b, c = corners[..., 0, :], corners[..., 1, :], corners[..., 2, :]
    ab, ac, ap = b - a, c - a, points - a
    aa, bb, cc, d1, d2 = _dot(ab, ab), _dot(ab, ac), _dot(ac, ac), _dot(ap, ab), _dot(ap, ac)
    det = aa * cc - bb * bb
    safe = np.where(det > 0, det, 1.0)
    v, w = (cc * d1 - bb * d2) / safe, (aa * d2 - bb * d1) / safe
    weights = np.stack([1 - v - w, v, w], axis=-1)
    inside = (det > 0) & (weights >= 0).all(axis=-1)
    best = np.full(inside.shape, np.inf)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        start, edge = corners[..., i, :], corners[..., j, :] - corners[..., i, :]
        length = _dot(edge, edge)
        share = (_dot(points - start, edge) / np.where(length > 0, length, 1.0)).clip(0, 1)
        distance = np.linalg.norm(start + edge * share[..., None] - points, axis=-1)
        on_edge = np.zeros_like(weights)
        on_edge[..., i], on_edge[..., j] = 1 - share, share
        nearer = ~inside & (distance < best)
        weights = np.where(nearer[..., None], on_edge, weights)
        best = np.where(nearer, distance, best)
    return weights
