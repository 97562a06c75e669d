"""Colours of a surface, from its texture or from the nearest points of another surface."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import EnvironmentProblem
from ..images.colors import multiplied
from ..progress import Progress, silent
from .mesh import Mesh, interpolate
from .topology import Floats, merged_faces, split_corners

_QUERIES_AT_ONCE = 65536
_COLOR_STEP = 0.05  # smaller differences count as a smooth gradient


def texture_colors(texture: Tensor, uvs: Tensor) -> Tensor:
    """Sample a texture bilinearly.

    Args:
        texture: (H, W, 3), rows from the top.
        uvs: (N, 2) with the origin at the lower left; the texture repeats outside [0, 1].

    Returns:
        (N, 3) colours.
    """
    repeated = torch.where((uvs >= 0) & (uvs <= 1), uvs, uvs - uvs.floor())
    grid = torch.stack([repeated[:, 0], 1 - repeated[:, 1]], dim=1) * 2 - 1
    found = F.grid_sample(
        texture.permute(2, 0, 1)[None], grid[None, None], align_corners=False, padding_mode="border"
    )  # (1, 3, 1, N)
    return found[0, :, 0].T.contiguous()


def texture_to_vertex_colors(mesh: Mesh) -> Mesh:
    """Replace the texture and base colour by vertex colours; drop uvs and material images."""
    mesh = with_base_color(mesh)
    return replace(
        mesh,
        vertex_colors=_shown(mesh.texture, mesh.uvs, mesh.vertex_colors),
        material=mesh.material and mesh.material.without_images(),
        uvs=None,
        texture=None,
        tangents=None,
    )


def _shown(texture: Tensor | None, uvs: Tensor | None, colors: Tensor | None) -> Tensor | None:
    """Multiply colours (N, 3) by a texture at uvs (N, 2); either may be missing."""
    if texture is None or uvs is None:
        return colors
    found = texture_colors(texture, uvs)
    return found if colors is None else multiplied(found, colors)


def with_base_color(mesh: Mesh) -> Mesh:
    """Move the material's base colour, if any, into the vertex colours by multiplying them."""
    base = None if mesh.material is None else mesh.material.base_color
    if mesh.material is None or base is None:
        return mesh
    white = torch.ones_like(mesh.vertices) if mesh.vertex_colors is None else mesh.vertex_colors
    return replace(
        mesh,
        vertex_colors=multiplied(white, base.expand_as(white)),
        material=mesh.material.without_base_color(),
    )


def nearest_colors(mesh: Mesh, points: Tensor, progress: Progress = silent) -> Tensor:
    """Return the colours (N, 3) of the surface at the points nearest to the given ones.

    Args:
        mesh: with vertex colours, a texture, a base colour, or several of these.
        points: (N, 3) query points.
        progress: see `nearest_points`.
    """
    triangle, weights = nearest_points(mesh, points, progress)
    return surface_colors(mesh, mesh.faces[triangle], weights)


def surface_colors(mesh: Mesh, corners: Tensor, weights: Tensor) -> Tensor:
    """Return (N, 3) colours of points in triangles.

    Vertex colours and texture are multiplied in linear light.

    Args:
        mesh: with vertex colours, a texture, a base colour, or several of these.
        corners: (N, 3) vertex indices of each point's triangle.
        weights: (N, 3) barycentric coordinates of the points.
    """
    mesh = with_base_color(mesh)
    uvs, colors = (
        None if values is None else interpolate(values.cpu(), corners, weights)
        for values in (mesh.uvs, mesh.vertex_colors)
    )
    shown = _shown(None if mesh.texture is None else mesh.texture.cpu(), uvs, colors)
    assert shown is not None
    return shown


def nearest_points(
    mesh: Mesh, points: Tensor, progress: Progress = silent
) -> tuple[Tensor, Tensor]:
    """Find the point of a surface that is nearest to each query point.

    Args:
        mesh: at least one triangle.
        points: (N, 3) query points.
        progress: called after each chunk of points.

    Returns:
        triangles: (N,) indices of the nearest triangles.
        weights: (N, 3) barycentric coordinates of the nearest points, at least 0.

    Raises:
        EnvironmentProblem: if libigl is missing.
    """
    require_libigl("Colours copied from another mesh")
    import igl

    vertices, faces = mesh.vertices.double().cpu().numpy(), mesh.faces.cpu().numpy()
    tree = igl.AABB()
    tree.init(vertices, faces)
    queries = points.double().cpu().numpy()
    triangles, weights = np.zeros(len(queries), np.int64), np.zeros((len(queries), 3))
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        chunk = slice(start, start + _QUERIES_AT_ONCE)
        _, triangles[chunk], nearest = tree.squared_distance(vertices, faces, queries[chunk])
        weights[chunk] = _barycentric(vertices[faces[triangles[chunk]]], nearest)
        progress(start + len(nearest), len(queries))
    return torch.from_numpy(triangles), torch.from_numpy(weights).float()


def require_libigl(feature: str) -> None:
    """Raise an error with install instructions if libigl is missing.

    Raises:
        EnvironmentProblem: if libigl is missing.
    """
    if importlib.util.find_spec("igl") is None:
        raise EnvironmentProblem(
            f"{feature} need the package libigl: run 'pip install libigl'. There is no wheel of it"
            " for some platforms, such as Macs with Intel processors."
        )


def _barycentric(corners: Floats, points: Floats) -> Floats:
    """Return (N, 3) barycentric coordinates of points (N, 3) that lie in triangles (N, 3, 3).

    Each weight is the share of the triangle's area opposite the corner. In a triangle without
    area, the weights come from the point's position along the longest edge.
    """
    spokes = corners - points[:, None]
    areas = np.linalg.norm(np.cross(np.roll(spokes, -1, 1), np.roll(spokes, -2, 1)), axis=2)
    total = areas.sum(axis=1, keepdims=True)
    flat = total[:, 0] == 0
    weights: Floats = areas / np.where(total > 0, total, 1.0)
    if flat.any():
        edges = np.roll(corners[flat], -1, axis=1) - corners[flat]
        rows, longest = np.arange(len(edges)), (edges**2).sum(axis=2).argmax(axis=1)
        edge = edges[rows, longest]
        along = -(spokes[flat][rows, longest] * edge).sum(axis=1)
        share = (along / np.maximum((edge**2).sum(axis=1), 1e-300)).clip(0, 1)
        on_edge = np.zeros((len(edges), 3))
        on_edge[rows, longest], on_edge[rows, (longest + 1) % 3] = 1 - share, share
        weights[flat] = on_edge
    return weights


def transfer_colors(source: Mesh, target: Mesh, progress: Progress = silent) -> Mesh:
    """Copy the source's nearest colours and its material, without images, to the target.

    Vertices are split at sharp colour borders of the source.

    Args:
        source: with vertex colours, or without any colours.
        target: without attributes, near the source's surface.
        progress: see `nearest_points`.

    Raises:
        EnvironmentProblem: if there are colours to transfer and libigl is missing.
    """
    material = source.material and source.material.without_images()
    target = replace(target, material=material)
    if source.vertex_colors is None:
        return target
    if not _has_sharp_borders(source):
        return replace(target, vertex_colors=nearest_colors(source, target.vertices, progress))
    corners = target.vertices[target.faces]  # (F, 3, 3)
    inward = corners.lerp(corners.mean(dim=1, keepdim=True), 0.25)
    colors = nearest_colors(source, inward.reshape(-1, 3), progress).double().numpy()
    _, same = np.unique((colors / _COLOR_STEP).round(), axis=0, return_inverse=True)
    same = same.reshape(-1)
    count = np.bincount(same).astype(np.float64)
    table = np.stack([np.bincount(same, weights=colors[:, i]) / count for i in range(3)], axis=1)
    vertices, faces, (found,) = split_corners(
        target.vertices.double().numpy(), target.faces.numpy(), (same.reshape(-1, 3), table)
    )
    assert found is not None
    return Mesh(
        torch.from_numpy(vertices).float(),
        torch.from_numpy(faces),
        torch.from_numpy(found).float(),
        material=material,
    )


def _has_sharp_borders(mesh: Mesh) -> bool:
    """Return whether vertices at one position have clearly different colours."""
    assert mesh.vertex_colors is not None
    first, own = merged_faces(mesh).reshape(-1), mesh.faces.reshape(-1)
    return bool(((mesh.vertex_colors[first] - mesh.vertex_colors[own]).abs() > _COLOR_STEP).any())
