"""Repair meshes: fill holes, remove noise, and separate non-manifold edges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidInput
from ..progress import Progress, silent
from .mesh import Mesh, drop_unused, face_areas
from .topology import (
    boundary_loops,
    component_labels,
    edge_codes,
    first_equal_rows,
    merged_faces,
    split_nonmanifold,
)

# Factors of a step inward and a step outward.
# Source: Taubin, "A signal processing approach to fair surface design" (SIGGRAPH 1995).
_TAUBIN_FACTORS = (0.5, -0.53)
# A loop is a hole if the area needed to close it is at most this share of its component's area.
# Otherwise it is the border of an open surface.
_MAX_HOLE_AREA = 0.18
# Touching surfaces are moved by this share of their triangles' size, at most this often.
_GAP, _MAX_GAP_STEPS = 0.002, 3


def fill_holes(mesh: Mesh, max_edges: int = 64) -> Mesh:
    """Close small holes with fans of triangles, in the mean colour of the loop around them.

    The border of an open surface, such as a sheet, a bowl or an open box, is not a hole.

    Args:
        mesh: without a texture.
        max_edges: largest number of edges of a hole; 0 fills none.
    """
    loops = [loop for loop in boundary_loops(mesh) if len(loop) <= max_edges]
    if not loops:
        return mesh
    labels = component_labels(mesh)
    areas = np.bincount(labels, weights=face_areas(mesh).numpy())
    label_of_vertex = np.zeros(len(mesh.vertices), dtype=np.int64)
    label_of_vertex[mesh.faces.numpy()] = labels[:, None]
    return close_loops(
        mesh,
        [
            loop
            for loop in loops
            if _fan_area(mesh.vertices[loop[:, 0]])
            <= _MAX_HOLE_AREA * areas[label_of_vertex[loop[0, 0]]]
        ],
    )


def close_loops(mesh: Mesh, loops: list[Tensor]) -> Mesh:
    """Close boundary loops, each given as edges (N, 2), with a fan around the centre."""
    if not loops:
        return mesh
    vertices = [mesh.vertices]
    faces = [mesh.faces]
    colors = [] if mesh.vertex_colors is None else [mesh.vertex_colors]
    center = len(mesh.vertices)
    for loop in loops:
        # A loop runs in the direction of the triangles beside it; new triangles run against it.
        if len(loop) == 3:
            faces.append(loop[:, 0].flip(0)[None])
            continue
        vertices.append(mesh.vertices[loop[:, 0]].mean(dim=0, keepdim=True))
        if mesh.vertex_colors is not None:
            colors.append(mesh.vertex_colors[loop[:, 0]].mean(dim=0, keepdim=True))
        faces.append(
            torch.stack([loop[:, 1], loop[:, 0], torch.full_like(loop[:, 0], center)], dim=1)
        )
        center += 1
    return Mesh(
        torch.cat(vertices),
        torch.cat(faces),
        torch.cat(colors) if colors else None,
        material=mesh.material,
    )


def _fan_area(loop: Tensor) -> float:
    """Return the area of the fan around the centre of a closed loop (N, 3)."""
    spokes = (loop - loop.mean(dim=0)).double()
    return float(torch.linalg.cross(spokes, spokes.roll(-1, dims=0)).norm(dim=1).sum() / 2)


def close_shape(shape: Mesh) -> Mesh:
    """Turn a shape into a closed manifold: split touching bodies, and close every loop.

    Triangles that are oriented against their neighbours are removed.

    Args:
        shape: without attributes, one vertex at each position.
    """
    split = split_nonmanifold(_drop_conflicting_faces(split_nonmanifold(shape)))
    return close_loops(split, list(boundary_loops(split, by_position=False)))


def _drop_conflicting_faces(mesh: Mesh) -> Mesh:
    """Remove triangles with an edge that another triangle uses in the same direction."""
    code, _ = edge_codes(mesh.faces, len(mesh.vertices))
    _, edge, uses = code.unique(return_inverse=True, return_counts=True)
    bad = (uses[edge] > 1).view(-1, 3).any(dim=1)
    return drop_unused(replace(mesh, faces=mesh.faces[~bad])) if bool(bad.any()) else mesh


def separate_touching(body: Mesh) -> Mesh:
    """Separate vertices at the same position by moving them inward, by a share of a triangle.

    Slicers merge vertices by position, and would otherwise find edges with four triangles.

    Args:
        body: a closed manifold without attributes.
    """
    for _ in range(_MAX_GAP_STEPS):
        position = torch.from_numpy(first_equal_rows(body.vertices.numpy()))
        shared = torch.bincount(position, minlength=len(position))[position] > 1
        if not bool(shared.any()):
            break
        centers = body.vertices[body.faces].mean(dim=1)
        total = torch.zeros_like(body.vertices)
        for k in range(3):
            total.index_add_(0, body.faces[:, k], centers)
        count = torch.bincount(body.faces.reshape(-1), minlength=len(body.vertices))[:, None]
        inward = total / count.clamp_min(1) - body.vertices
        moved = body.vertices + _GAP * inward
        body = replace(body, vertices=torch.where(shared[:, None], moved, body.vertices))
    return body


def smooth(mesh: Mesh, iterations: int = 10, progress: Progress = silent) -> Mesh:
    """Remove noise by Taubin's smoothing, which keeps the volume.

    Args:
        mesh: any.
        iterations: number of iterations, at least 0; each is a step inward and a step outward.
        progress: called after each iteration.

    Raises:
        InvalidInput: if `iterations` is negative.
    """
    if iterations < 0:
        raise InvalidInput(f"Smoothing takes 0 or more iterations, got {iterations}.")
    if not iterations:
        return mesh
    merged, count = merged_faces(mesh), len(mesh.vertices)
    code = torch.cat(edge_codes(merged, count)).unique()
    source, target = code // count, code % count
    degree = torch.bincount(source, minlength=count)[:, None]
    vertices = mesh.vertices
    for done in range(iterations):
        for factor in _TAUBIN_FACTORS:
            total = torch.zeros_like(vertices).index_add_(0, source, vertices[target])
            moved = vertices + factor * (total / degree.clamp_min(1) - vertices)
            vertices = torch.where(degree > 0, moved, vertices)
        progress(done + 1, iterations)
    position = torch.arange(count)
    position[mesh.faces.reshape(-1)] = merged.reshape(-1)
    return replace(mesh, vertices=vertices[position], normals=None, tangents=None)
