"""Decimation: reduce the number of triangles of a surface.

The libraries were compared on model outputs and simple shapes, by closedness, time and distance:

- fast-simplification at aggressiveness 3 is as accurate as libigl's qslim and ten times as fast.
  Its default aggressiveness of 7 doubles the error. It pinches surfaces, and stalls on thin or flat
  ones.
- qslim keeps manifolds closed.
- manifold3d takes an error bound instead of a number of triangles.
- meshoptimizer's Python package is an alpha release.

So closed meshes are split where fast-simplification pinched them, and qslim takes over where it
stalled.
"""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import replace

import numpy as np
import torch

from ..errors import InvalidInput
from ..progress import Progress, silent, stage
from .color_transfer import texture_to_vertex_colors, transfer_colors
from .isolation import run_isolated
from .mesh import Mesh, drop_unused, face_areas
from .native_process import TASKS
from .repair import separate_touching
from .topology import (
    bare_shape,
    component_labels,
    first_equal_rows,
    is_closed_manifold,
    merge_vertices,
    split_nonmanifold,
)

log = logging.getLogger(__name__)

MIN_FACES = 4
_CAREFUL, _DEFAULT = 3, 7  # fast-simplification's aggressiveness
_MAX_SPECK_AREA = 1e-3  # total area of the dropped specks, as a share of the whole
_INLINE_FACES = 20_000  # smaller meshes run in this process: starting another takes longer
_TIMEOUT_S, _TIMEOUT_S_PER_FACE = 60.0, 1e-3  # about 50 times the usual duration of qslim


def decimate(mesh: Mesh, max_faces: int, progress: Progress = silent) -> Mesh:
    """Reduce a mesh to a number of triangles by quadric edge collapse.

    Vertices at one position are merged first. Closed meshes stay closed. Colours are copied from
    the nearest points of the original surface. A texture becomes vertex colours, since its uvs do
    not fit the new triangles. If no more edges can be collapsed, vertices in the same cell of a
    grid are merged. That may open a closed mesh, which logs a warning.

    Args:
        mesh: any.
        max_faces: largest number of triangles, at least `MIN_FACES`.
        progress: called throughout.

    Raises:
        InvalidInput: if `max_faces` is too small, or no triangle would remain.
        EnvironmentProblem: if the mesh has colours and libigl is missing.

    Source: Garland and Heckbert, "Surface simplification using quadric error metrics" (SIGGRAPH
    1997), as in fast-simplification and libigl; Rossignac and Borrel, "Multi-resolution 3D
    approximations for rendering complex scenes" (1993).
    """
    if max_faces < MIN_FACES:
        raise InvalidInput(f"max_faces must be at least {MIN_FACES}, got {max_faces}.")
    if len(mesh.faces) <= max_faces:
        return mesh
    lost = [] if mesh.material is None else list(mesh.material.images)
    if mesh.texture is not None or lost:
        also = f", and its {' and '.join(lost)} are dropped" if lost else ""
        log.warning(
            "The texture becomes vertex colours%s: its uvs do not fit fewer triangles.", also
        )
    original = merge_vertices(texture_to_vertex_colors(mesh))
    shape = bare_shape(original)
    fewer = collapse_edges(shape, max_faces, stage(progress, 0, 2))
    if len(fewer.faces) > max_faces:
        faster = _run("collapse_fast", shape, stage(progress, 0, 2), count=max_faces, agg=_DEFAULT)
        fewer = merge_vertices(faster)
    if len(fewer.faces) > max_faces:
        fewer = _cluster(fewer, max_faces)
    if not is_closed_manifold(fewer) and is_closed_manifold(shape):
        log.warning("The mesh is no longer closed: %d triangles are too few for it.", max_faces)
    return transfer_colors(original, fewer, stage(progress, 1, 2))


def collapse_edges(shape: Mesh, count: int, progress: Progress = silent) -> Mesh:
    """Collapse edges until at most `count` triangles are left, or no edge can be collapsed.

    If libigl is installed, a closed manifold stays one. It keeps its number of components, and no
    two of its vertices share a position.

    Args:
        shape: without attributes; vertices are compared by index.
        count: at least 1.
        progress: called throughout.
    """
    if len(shape.faces) <= count:
        return shape
    progress(0, 3)
    closed = is_closed_manifold(shape) and importlib.util.find_spec("igl") is not None
    fewer, target = shape, count
    while target < len(shape.faces):
        found = _run("collapse_fast", shape, progress, count=target, agg=_CAREFUL)
        if not closed:
            return found
        if (split := _split_pinches(found, shape)) is not None:
            fewer = split
            break
        target *= 4
    if len(fewer.faces) > count:
        fewer = _run("collapse_exactly", fewer, progress, count=count)
    return separate_touching(fewer) if closed else fewer


def _run(task: str, shape: Mesh, progress: Progress, **numbers: int) -> Mesh:
    """Run one of `native_process.TASKS`, in a separate process if the shape is large."""
    vertices, faces = shape.vertices.numpy(), shape.faces.numpy()
    if len(faces) <= _INLINE_FACES:
        progress(1, 3)
        found = TASKS[task](vertices, faces, **numbers)
    else:
        found = run_isolated(
            task,
            {"vertices": vertices, "faces": faces, **numbers},
            library="Decimation",
            remedy="clean the mesh first, or allow more triangles.",
            timeout_s=_TIMEOUT_S + _TIMEOUT_S_PER_FACE * len(faces),
            progress=progress,
        )
    return drop_unused(
        Mesh(
            torch.from_numpy(np.ascontiguousarray(found["vertices"], np.float32)),
            torch.from_numpy(found["faces"].astype(np.int64)),
        )
    )


def _split_pinches(fewer: Mesh, shape: Mesh) -> Mesh | None:
    """Split a surface where edge collapse pinched it, and drop the specks that this separates.

    Returns:
        a closed manifold with as many components as `shape`; None if that is impossible.
    """
    split = split_nonmanifold(fewer)
    labels = component_labels(split, by_position=False)
    areas = np.bincount(labels, weights=face_areas(split).numpy())
    components = int(component_labels(shape, by_position=False).max()) + 1
    specks = np.argsort(-areas)[components:]
    if len(areas) < components or areas[specks].sum() > _MAX_SPECK_AREA * areas.sum():
        return None
    kept = torch.from_numpy(~np.isin(labels, specks))
    found = drop_unused(replace(split, faces=split.faces[kept]))
    return found if is_closed_manifold(found) else None


def _cluster(shape: Mesh, count: int) -> Mesh:
    """Merge the vertices in each cell of the finest grid that leaves at most `count` triangles.

    Raises:
        InvalidInput: if no grid leaves any triangle.
    """
    low = shape.vertices.amin(dim=0)
    extent = float((shape.vertices.amax(dim=0) - low).amax())
    cells = float(len(shape.faces))
    while cells > 1:
        cells /= 1.1
        grid = ((shape.vertices - low) / (extent / cells)).floor().long()
        first = torch.from_numpy(first_equal_rows(grid.numpy()))
        uses = torch.bincount(first, minlength=len(first)).clamp_min(1)[:, None]
        center = torch.zeros_like(shape.vertices).index_add_(0, first, shape.vertices) / uses
        found = merge_vertices(Mesh(center[first], shape.faces))
        if 0 < len(found.faces) <= count:
            return found
    raise InvalidInput(f"The mesh cannot be reduced to {count} triangles: allow more.")
