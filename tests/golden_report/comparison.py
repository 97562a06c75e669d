"""Compare arrays and meshes with golden ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

CHUNK = 65536


@dataclass(frozen=True)
class Row:
    """The result of a comparison, which passes if `worst` is at most `tolerance`."""

    name: str
    absolute: float
    relative: float
    worst: float
    tolerance: float
    note: str = ""

    @property
    def passed(self) -> bool:
        return bool(self.worst <= self.tolerance)  # false for NaN


def compare(
    name: str,
    found: Tensor | np.ndarray,
    golden: np.ndarray,
    tolerance: float,
    *,
    relative: bool = False,
) -> Row:
    """Return the largest error: absolute, and relative to the largest golden value."""
    a, b = np.asarray(found, dtype=np.float64), np.asarray(golden, dtype=np.float64)
    if a.shape != b.shape:
        return Row(
            name,
            float("inf"),
            float("inf"),
            float("inf"),
            tolerance,
            f"shape {a.shape}, golden {b.shape}",
        )
    if not a.size:
        return Row(name, 0.0, 0.0, 0.0, tolerance, "empty")
    absolute = float(np.abs(a - b).max())
    ratio = absolute / max(float(np.abs(b).max()), 1e-12)
    return Row(
        name,
        absolute,
        ratio,
        ratio if relative else absolute,
        tolerance,
        "relative" if relative else "",
    )


@dataclass(frozen=True)
class Ties:
    """Grid points whose value equals the level within the tolerance, so that either side is valid.

    Attributes:
        points: (N, 3) positions of these points.
        spacing: distance between neighbouring grid points.
    """

    points: np.ndarray
    spacing: float

    @classmethod
    def of(cls, values: np.ndarray, level: float, tolerance: float, axis: np.ndarray) -> Ties:
        """Find the ties among values (X, Y, Z) on a grid with the same axis in all directions."""
        index = np.argwhere(np.abs(np.asarray(values, dtype=np.float64) - level) <= tolerance)
        return cls(
            np.asarray(axis, dtype=np.float64)[index].reshape(-1, 3), float(axis[1] - axis[0])
        )

    def beside(self, vertices: np.ndarray) -> np.ndarray:
        """Return which vertices (V,) are in a cell that touches a tie, or in a cell beside it."""
        if not len(self.points):
            return np.zeros(len(vertices), dtype=bool)
        distance, _ = cKDTree(self.points).query(vertices, p=np.inf)
        near: np.ndarray = distance <= 2 * self.spacing
        return near


NO_TIES = Ties(np.zeros((0, 3)), 1.0)


def compare_meshes(
    name: str,
    vertices: Tensor,
    faces: Tensor,
    golden_vertices: np.ndarray,
    golden_faces: np.ndarray,
    tolerance: float,
    unmatched: float = 0.0,
    ties: Ties = NO_TIES,
) -> tuple[list[Row], np.ndarray]:
    """Match vertices by position and triangles by their vertices, except beside ties.

    Returns:
        the comparisons of counts, vertices and triangles.
        the index (V,) of the golden vertex that is closest to each vertex.
    """
    if not len(vertices) or not len(golden_vertices):
        missing = float(abs(len(vertices) - len(golden_vertices)))
        return [Row(f"{name} counts", missing, missing, missing, 0.0, "empty")], np.zeros(
            0, dtype=np.int64
        )
    own = vertices.numpy().astype(np.float64)
    left_out, golden_left_out = ties.beside(own), ties.beside(golden_vertices)
    ours, theirs = ~left_out[faces.numpy()].any(axis=1), ~golden_left_out[golden_faces].any(axis=1)
    counts = abs(int((~left_out).sum()) - int((~golden_left_out).sum())) + abs(
        int(ours.sum()) - int(theirs.sum())
    )
    note = (
        f"{len(vertices)} vertices, {len(faces)} triangles; golden {len(golden_vertices)},"
        f" {len(golden_faces)}"
    )
    if left_out.any() or golden_left_out.any():
        note += (
            f"; beside ties, left out: {int(left_out.sum())} and {int(golden_left_out.sum())}"
            " vertices"
        )
    distance, match = cKDTree(golden_vertices).query(own)
    back, _ = cKDTree(own).query(golden_vertices)
    worst = float(
        max(distance[~left_out].max(initial=0.0), back[~golden_left_out].max(initial=0.0))
    )
    our_triangles = {tuple(sorted(t)) for t in match[faces.numpy()[ours]].tolist()}
    their_triangles = {tuple(sorted(t)) for t in golden_faces[theirs].tolist()}
    share = (
        1 - len(our_triangles & their_triangles) / max(len(their_triangles), 1)
        if their_triangles
        else float(bool(our_triangles))
    )
    return [
        Row(f"{name} counts", *(float(counts),) * 3, 0.0, note),
        Row(
            f"{name} vertices",
            worst,
            worst / float(np.abs(golden_vertices).max()),
            worst,
            tolerance,
        ),
        Row(f"{name} triangles", share, share, share, unmatched, "share unmatched"),
    ], match


def tensor_of(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
