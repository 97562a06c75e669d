"""Building blocks of procedural objects: boxes, surfaces of revolution, tubes along curves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Rng = np.random.Generator

_SIDES = 20  # of a round cross-section


class Parts:
    """Collects triangles with one colour each."""

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self.palette = _palette(rng)
        self._vertices: list[Array] = []
        self._faces: list[Array] = []
        self._colors: list[Array] = []
        self._count = 0

    def add(self, vertices: Array, faces: Array, color: int) -> None:
        """Add vertices (V, 3) and faces (F, 3); `color` is an index of the palette."""
        self._vertices.append(vertices)
        self._faces.append(faces + self._count)
        self._colors.append(np.tile(self.palette[color % len(self.palette)], (len(faces), 1)))
        self._count += len(vertices)

    def grid(self, points: Array, color: int) -> None:
        """Add a tube with closed ends through R rings of N points (R, N, 3)."""
        rings, around = points.shape[:2]
        ends = points[[0, -1]].mean(axis=1)
        vertices = np.concatenate([points.reshape(-1, 3), ends])
        i, j = np.meshgrid(np.arange(rings - 1), np.arange(around), indexing="ij")
        a, b = (i * around + j).ravel(), (i * around + (j + 1) % around).ravel()
        sides = np.concatenate(
            [np.stack([a, b, b + around], 1), np.stack([a, b + around, a + around], 1)]
        )
        k, last = np.arange(around), (rings - 1) * around
        first_cap = np.stack([np.full(around, rings * around), (k + 1) % around, k], 1)
        last_cap = np.stack(
            [np.full(around, rings * around + 1), last + k, last + (k + 1) % around], 1
        )
        self.add(vertices, np.concatenate([sides, first_cap, last_cap]), color)

    def box(self, center: Any, size: Any, color: int, turn: Array | None = None) -> None:
        """Add a box with edges of lengths `size`, turned about its centre."""
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2
        vertices = signs * size @ (np.eye(3) if turn is None else turn.T) + center
        quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
        faces = [(q[0], q[i], q[i + 1]) for q in quads for i in (1, 2)]
        self.add(vertices, np.array(faces), color)

    def revolve(self, profile: Any, color: int, center: Any = (0, 0, 0), squash: float = 1) -> None:
        """Add a surface of revolution around z of a profile (N, 2) of radii and heights."""
        radius, height = np.asarray(profile, float).T
        angle = np.arange(_SIDES) / _SIDES * 2 * math.pi
        ring = np.stack([np.cos(angle), np.sin(angle) * squash], axis=1)
        flat = radius.clip(1e-4)[:, None, None] * ring
        points = np.concatenate(
            [flat, np.broadcast_to(height[:, None, None], (*flat.shape[:2], 1))], 2
        )
        self.grid(points + center, color)

    def tube(self, path: Any, radii: Any, color: int, flat: float = 1.0) -> None:
        """Add a tube along points (N, 3) with radii (N,); `flat` scales its second axis."""
        path = np.asarray(path, float)
        radii = np.broadcast_to(np.asarray(radii, float), len(path))
        along = np.gradient(path, axis=0)
        along /= np.linalg.norm(along, axis=1, keepdims=True).clip(1e-9)
        helper = np.array([0.0, 0, 1]) if abs(along[:, 2]).max() < 0.9 else np.array([0.0, 1, 0])
        if abs(along @ helper).max() > 0.95:
            helper = np.array([1.0, 0.1, 0])
        side = np.cross(along, helper)
        side /= np.linalg.norm(side, axis=1, keepdims=True).clip(1e-9)
        up = np.cross(side, along)
        angle = np.arange(12) / 12 * 2 * math.pi
        ring = np.cos(angle)[:, None] * side[:, None] + flat * np.sin(angle)[:, None] * up[:, None]
        self.grid(path[:, None] + radii[:, None, None] * ring, color)

    def ellipsoid(self, center: Any, radii: Any, color: int, turn: Array | None = None) -> None:
        """Add an ellipsoid with half axes `radii`, turned about its centre."""
        t = np.linspace(0, math.pi, 11)
        angle = np.arange(_SIDES) / _SIDES * 2 * math.pi
        ring = np.stack([np.cos(angle), np.sin(angle), np.zeros(_SIDES)], axis=1)
        points = np.sin(t)[:, None, None] * ring + np.cos(t)[:, None, None] * [0.0, 0, 1]
        self.grid(points * radii @ (np.eye(3) if turn is None else turn.T) + center, color)

    def finish(self) -> tuple[Array, Array, Array]:
        """Return vertices in a box of side 1, faces, and the faces' colours, 0 to 255."""
        vertices = np.concatenate(self._vertices)
        vertices -= (vertices.min(axis=0) + vertices.max(axis=0)) / 2
        faces, colors = np.concatenate(self._faces), np.concatenate(self._colors)
        return vertices / np.ptp(vertices, axis=0).max(), faces, colors * 255


def _palette(rng: Rng) -> Array:
    """Return (6, 3) colours in [0, 1]: wood tones, greys, muted or any colours."""
    colors = rng.random((6, 3))
    kind = rng.choice(["wood", "grey", "muted", "any"])
    if kind == "wood":
        base = np.array([0.55, 0.36, 0.2]) * rng.uniform(0.4, 1.6)
        colors = base * rng.uniform(0.8, 1.2, (6, 1)) + 0.05 * (colors - 0.5)
    if kind in ("grey", "muted"):
        grey = colors.mean(axis=1, keepdims=True)
        colors = grey + (colors - grey) * (0.1 if kind == "grey" else 0.4)
    return colors.clip(0.02, 0.98)


def vector(x: float, y: float, z: float) -> Array:
    return np.array([x, y, z])


def rotation(axis: int, degrees: float) -> Array:
    """Return (3, 3) for a turn about a coordinate axis."""
    a = math.radians(degrees)
    turn = np.eye(3)
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    turn[i, i] = turn[j, j] = math.cos(a)
    turn[i, j], turn[j, i] = -math.sin(a), math.sin(a)
    return turn


def curve(*points: Any, count: int = 12) -> Array:
    """Return (count, 3) points of the Bezier curve with these control points."""
    t = np.linspace(0, 1, count)[:, None]
    controls = np.array(points, float)
    n = len(controls) - 1
    return sum(  # type: ignore[no-any-return]
        math.comb(n, k) * t**k * (1 - t) ** (n - k) * controls[k] for k in range(n + 1)
    )
