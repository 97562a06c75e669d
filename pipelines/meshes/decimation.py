"""Fewer triangles."""

from __future__ import annotations

import logging

import numpy as np
import torch

from ..errors import InvalidInput
from .color_transfer import painted_like, texture_to_vertex_colors
from .mesh import Mesh, shape_of
from .repair import first_of_same, merge_vertices

log = logging.getLogger(__name__)

MIN_FACES = 4


def decimate(mesh: Mesh, max_faces: int) -> Mesh:
    """At most so many triangles, by quadric edge collapse.

    Colours are those of the nearest points of the surface before.

    Vertices at one place are merged first. A texture becomes colours of vertices, since its atlas
    does not fit other triangles. Where edge collapse gets stuck, as on flat rings, vertices that
    share a cell of a grid become one.

    Raises:
        InvalidInput: if fewer than `MIN_FACES` are asked for, or so few leave nothing of the mesh.

    Source: Garland and Heckbert, "Surface simplification using quadric error metrics" (SIGGRAPH
    1997), as in fast-simplification; Rossignac and Borrel, "Multi-resolution 3D approximations for
    rendering complex scenes" (1993).
    """
    from fast_simplification import simplify  # slow to import

    if max_faces < MIN_FACES:
        raise InvalidInput(f"A mesh needs at least {MIN_FACES} triangles, got {max_faces}.")
    if len(mesh.faces) <= max_faces:
        return mesh
    lost = [] if mesh.material is None else list(mesh.material.images)
    if mesh.texture is not None or lost:
        also = f", and its {' and '.join(lost)} are left out" if lost else ""
        log.warning(
            "The texture becomes colours of vertices%s: its atlas does not fit fewer triangles.",
            also,
        )
    original = merge_vertices(texture_to_vertex_colors(mesh))
    fewer = shape_of(original)
    if len(fewer.faces) > max_faces:
        vertices, faces = simplify(
            fewer.vertices.numpy(), fewer.faces.numpy().astype(np.int32), target_count=max_faces
        )
        collapsed = Mesh(
            torch.from_numpy(np.ascontiguousarray(vertices, np.float32)),
            torch.from_numpy(faces.astype(np.int64)),
        )
        fewer = merge_vertices(collapsed)
    if len(fewer.faces) > max_faces:
        fewer = _clustered(fewer, max_faces)
    return painted_like(fewer, original)


def _clustered(shape: Mesh, max_faces: int) -> Mesh:
    """The shape with one vertex for all that share a cell of a grid, in their middle.

    The grid is the finest that leaves so few triangles.
    """
    low = shape.vertices.amin(dim=0)
    extent = float((shape.vertices.amax(dim=0) - low).amax())
    cells = float(len(shape.faces))
    while cells > 1:
        cells /= 1.1
        place = first_of_same(((shape.vertices - low) / (extent / cells)).floor().long())
        count = torch.zeros(len(place)).index_add_(0, place, torch.ones(len(place)))
        middle = (
            torch.zeros_like(shape.vertices).index_add_(0, place, shape.vertices)
            / count.clamp_min(1)[:, None]
        )
        found = merge_vertices(Mesh(middle[place], shape.faces))
        if 0 < len(found.faces) <= max_faces:
            return found
    raise InvalidInput(f"The mesh cannot be reduced to {max_faces} triangles: allow more.")
