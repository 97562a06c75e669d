"""Tasks of C++ libraries, run in a separate process that can be stopped and may crash.

    python native_process.py TASK FOLDER

Read the arguments of the function TASK from FOLDER/input.npz; write its results to
FOLDER/output.npz.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, Any]


def unfold(
    vertices: np.ndarray,
    faces: np.ndarray,
    piece: np.ndarray,
    chart_area: float,
    size: int,
    padding: int,
) -> Arrays:
    """Unfold a mesh with xatlas, which works on pieces of it in parallel threads.

    Args:
        vertices: (V, 3).
        faces: (F, 3).
        piece: (F,) number of each triangle's piece, from 0.
        chart_area: largest area of a chart.
        size: side length of the texture in pixels.
        padding: pixels between charts.

    Returns:
        origin: (N,) for each new vertex, the index of the input vertex.
        faces: (F, 3).
        uvs: (N, 2).
    """
    import xatlas

    atlas = xatlas.Atlas()
    members = [np.flatnonzero(piece == k) for k in range(piece.max() + 1)]
    used = []
    for own in members:
        kept, corners = np.unique(faces[own], return_inverse=True)
        atlas.add_mesh(vertices[kept].astype(np.float32), corners.reshape(-1, 3).astype(np.uint32))
        used.append(kept)
    charts, packing = xatlas.ChartOptions(), xatlas.PackOptions()
    charts.max_iterations = 1
    charts.max_chart_area = float(chart_area)
    packing.resolution, packing.padding = int(size), int(padding)
    atlas.generate(charts, packing)
    origins, uvs, unfolded, count = [], [], np.empty_like(faces), 0
    for k, (own, kept) in enumerate(zip(members, used, strict=True)):
        origin, corners, places = atlas[k]
        unfolded[own] = corners + count
        count += len(origin)
        origins.append(kept[origin])
        uvs.append(places)
    return {"origin": np.concatenate(origins), "faces": unfolded, "uvs": np.concatenate(uvs)}


def collapse_fast(vertices: np.ndarray, faces: np.ndarray, count: int, agg: int) -> Arrays:
    """Collapse edges with fast-simplification.

    It takes 1 s for a million triangles, but may pinch closed surfaces, and may stall before it
    reaches `count` triangles.
    """
    from fast_simplification import simplify

    vertices, faces = simplify(
        vertices.astype(np.float32), faces.astype(np.int32), target_count=int(count), agg=int(agg)
    )
    return {"vertices": vertices, "faces": faces}


def collapse_exactly(vertices: np.ndarray, faces: np.ndarray, count: int) -> Arrays:
    """Collapse edges of a manifold with libigl's qslim, which preserves the topology."""
    import igl

    vertices, faces, _, _ = igl.qslim(
        np.asfortranarray(vertices, dtype=np.float64),
        np.asfortranarray(faces, dtype=np.int32),
        int(count),
    )
    return {"vertices": vertices, "faces": faces}


def remesh_quads(vertices: np.ndarray, faces: np.ndarray, vertex_count: int) -> Arrays:
    """Remesh a surface to quads with Instant Meshes.

    Args:
        vertices: (V, 3).
        faces: (F, 3), without triangles that have no area.
        vertex_count: a quarter of the number of quads.

    Returns:
        vertices: (N, 3).
        quads: (Q, 4).
    """
    from pynanoinstantmeshes import remesh

    vertices, quads = remesh(
        np.ascontiguousarray(vertices, np.float32),
        np.ascontiguousarray(faces, np.uint32),
        int(vertex_count),
        deterministic=True,
    )
    return {"vertices": vertices, "quads": quads}


TASKS: dict[str, Callable[..., Arrays]] = {
    task.__name__: task for task in (unfold, collapse_fast, collapse_exactly, remesh_quads)
}


def main(task: str, folder: Path) -> None:
    """Run a task on the arguments in a folder, and save the results there."""
    with np.load(folder / "input.npz") as stored:
        arguments = {name: stored[name] for name in stored.files}
    np.savez(folder / "output.npz", **TASKS[task](**arguments))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
