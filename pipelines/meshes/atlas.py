"""Unfold meshes onto a square texture atlas."""

from __future__ import annotations

import importlib.util

import numpy as np
import torch

from ..errors import EnvironmentProblem, InvalidInput
from ..progress import Progress, silent
from .isolation import run_isolated
from .mesh import Mesh, face_areas
from .native_process import Arrays
from .topology import Indices, first_equal_rows, merged_faces

_PADDING = 4  # pixels between the islands of the atlas
_MIN_CHARTS = 64  # a chart has at most the mesh's area divided by this
_LARGEST_PIECE = 12_500  # triangles of a piece: xatlas's time grows faster than their number
_THINNEST = 1e-4  # lowest ratio of a triangle's height to its longest edge
_SMALLEST = 1e-12  # lowest area of a triangle, in a mesh scaled to size 1
_TIMEOUT_S, _TIMEOUT_S_PER_FACE = 120.0, 5e-3  # about 50 times the usual duration of xatlas


def unfold(mesh: Mesh, size: int, progress: Progress = silent) -> Mesh:
    """Cut a mesh into charts and pack them into a square texture.

    The result has `uvs` in [0, 1]; vertices are split at seams. xatlas can crash on slivers and on
    duplicate triangles, so it gets neither. A sliver then takes the uvs of its vertices in other
    triangles, and is dropped if there are none. A duplicate takes the uvs of its first copy. xatlas
    runs in a separate process, in case it crashes anyway.

    Args:
        mesh: at least one triangle.
        size: side length of the texture in pixels.
        progress: called while xatlas runs; raise in it to stop xatlas.

    Raises:
        InvalidInput: if all triangles are slivers.
        EnvironmentProblem: if xatlas is missing, crashes or times out.

    Source: charts and packing by xatlas, after Sander et al., "Signal-Specialized Parametrization"
    (EGWR 2002).
    """
    if importlib.util.find_spec("xatlas") is None:
        raise EnvironmentProblem(
            "Textures need the package xatlas: run 'pip install xatlas', which needs a C++"
            " compiler on Python 3.14 and on ARM Linux, or keep the colours at the vertices."
        )
    low = mesh.vertices.amin(dim=0)
    extent = float((mesh.vertices.amax(dim=0) - low).amax()) or 1.0
    unit = Mesh((mesh.vertices - low) / extent, mesh.faces)
    good, twin = _good_faces(unit)
    if not len(good):
        raise InvalidInput(
            "Every triangle of the mesh is a sliver, so it cannot be unfolded: keep the colours at"
            " its vertices."
        )
    # xatlas spends most of its time growing and flattening charts. That time grows faster than a
    # chart's area, so the area is limited.
    atlas = run_isolated(
        "unfold",
        {
            "vertices": unit.vertices.numpy(),
            "faces": mesh.faces[good].numpy(),
            "piece": _pieces(unit.vertices[unit.faces[good]].mean(dim=1).numpy()),
            "chart_area": face_areas(unit)[good].sum().item() / _MIN_CHARTS,
            "size": size,
            "padding": _PADDING,
        },
        library="xatlas",
        remedy="clean it first, or keep the colours at its vertices.",
        timeout_s=_TIMEOUT_S + _TIMEOUT_S_PER_FACE * len(good),
        progress=progress,
    )
    return _with_withheld(mesh, atlas, good.numpy(), twin.numpy())


def _with_withheld(mesh: Mesh, atlas: Arrays, good: Indices, twin: Indices) -> Mesh:
    """Build the unfolded mesh from xatlas' result, and add the triangles that it did not get.

    Args:
        mesh: the mesh to unfold.
        atlas: result of `native_process.unfold` for the triangles `good`.
        good: see `_good_faces`.
        twin: see `_good_faces`.
    """
    origin = atlas["origin"].astype(np.int64)
    # The atlas vertex of each mesh vertex, for the triangles that xatlas did not get.
    place = np.full(len(mesh.vertices), -1, dtype=np.int64)
    place[origin[::-1]] = np.arange(len(origin))[::-1]
    faces = place[mesh.faces.numpy()]
    faces[good] = atlas["faces"]
    copies = np.flatnonzero(twin >= 0)
    for k in range(3):
        # Use the corner of the first copy that is at the same vertex.
        firsts = faces[twin[copies]]
        same = origin[firsts] == mesh.faces.numpy()[copies, k, None]
        faces[copies, k] = np.take_along_axis(firsts, same.argmax(axis=1)[:, None], axis=1)[:, 0]
    # Drop thin triangles with a vertex that only thin triangles use: it is in no chart.
    faces = faces[(faces >= 0).all(axis=1)]
    return Mesh(
        mesh.vertices[torch.from_numpy(origin)],
        torch.from_numpy(faces),
        uvs=torch.from_numpy(atlas["uvs"]).float(),
        paired=mesh.paired,
    )


def _pieces(centers: np.ndarray) -> np.ndarray:
    """Divide triangles with centres (F, 3) into compact pieces; return each one's piece (F,)."""
    pieces = [np.arange(len(centers))]
    while len(pieces[0]) > _LARGEST_PIECE:
        halves = []
        for own in pieces:
            longest = np.ptp(centers[own], axis=0).argmax()
            halves += np.array_split(own[centers[own, longest].argsort(kind="stable")], 2)
        pieces = halves
    found = np.empty(len(centers), dtype=np.int64)
    for number, own in enumerate(pieces):
        found[own] = number
    return found


def _good_faces(unit: Mesh) -> tuple[torch.Tensor, torch.Tensor]:
    """Select the triangles for xatlas.

    Returns:
        good: (G,) indices of triangles that are thick enough and not duplicates.
        twin: (F,) for a duplicate, the index of its first copy; -1 for other triangles.
    """
    corners = unit.vertices.double()[unit.faces]
    longest = (corners - corners.roll(1, dims=1)).norm(dim=2).amax(dim=1)
    area = face_areas(unit)
    thick = (area > _SMALLEST) & (2 * area > _THINNEST * longest**2)
    first = torch.from_numpy(first_equal_rows(merged_faces(unit).sort(dim=1).values.numpy()))
    own_vertices = (unit.faces.sort(dim=1).values == unit.faces[first].sort(dim=1).values).all(
        dim=1
    )
    is_first = first == torch.arange(len(first))
    twin = torch.where(thick & ~is_first & own_vertices, first, -1)
    return (thick & is_first).nonzero().squeeze(1), twin
