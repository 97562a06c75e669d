"""Helpers of the tests of mesh files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.meshes.color_transfer import texture_to_vertex_colors
from pipelines.meshes.mesh import Mesh

CASES = Path(__file__).parents[2] / "data" / "cases"
RED, BLUE, ORANGE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.5, 0.0)


def is_a_cube(mesh: Mesh, side: float = 1.0) -> bool:
    """Check for twelve triangles that face outward around the right volume."""
    size = mesh.vertices.amax(dim=0) - mesh.vertices.amin(dim=0)
    return (
        len(mesh.faces) == 12
        and mesh.volume() == pytest.approx(side**3, rel=1e-4)
        and size.tolist() == pytest.approx([side] * 3, rel=1e-4)
    )


def colors_of(mesh: Mesh) -> set[tuple[float, ...]]:
    found = texture_to_vertex_colors(mesh).vertex_colors
    assert found is not None
    return {tuple(round(c, 2) for c in row) for row in found.tolist()}


def file_vertices(mesh: Mesh) -> np.ndarray:
    return mesh.vertices.roll(-1, dims=1).numpy()


def face_normals(mesh: Mesh) -> np.ndarray:
    a, b, c = (file_vertices(mesh)[mesh.faces[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"


def save_obj(tmp_path: Path, text: str | bytes, **files: str) -> Path:
    path = tmp_path / "x.obj"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for name, content in files.items():
        (tmp_path / name.replace("_", ".")).write_text(content)
    return path
