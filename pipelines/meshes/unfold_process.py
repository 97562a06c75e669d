"""Unfolds a mesh with xatlas, in a process of its own.

Some meshes end xatlas with a segmentation fault.

    python unfold_process.py FOLDER

FOLDER/mesh.npz holds vertices (V, 3), faces (F, 3), the largest area of a chart, the texture's size
and the pixels between charts. FOLDER/atlas.npz will hold origin (N,) (the vertex that each new one
was), faces (F, 3) and uvs (N, 2).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def main(folder: Path) -> None:
    """Read the mesh of a folder and write its atlas there."""
    import xatlas

    mesh = np.load(folder / "mesh.npz")
    atlas = xatlas.Atlas()
    atlas.add_mesh(mesh["vertices"].astype(np.float32), mesh["faces"].astype(np.uint32))
    charts, packing = xatlas.ChartOptions(), xatlas.PackOptions()
    charts.max_iterations = 1
    charts.max_chart_area = float(mesh["chart_area"])
    packing.resolution, packing.padding = int(mesh["size"]), int(mesh["padding"])
    atlas.generate(charts, packing)
    origin, faces, uvs = atlas[0]
    np.savez(folder / "atlas.npz", origin=origin, faces=faces, uvs=uvs)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
