"""Endless furniture, vessels, plants, creatures and tools of varied proportions.

Each is a soup of closed parts: boxes, surfaces of revolution, tubes along curves. They overlap, as
parts of the collected objects do: what is inside is found by carving.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Rng = np.random.Generator

_SIDES = 20  # of a round thing


class Parts:
    """Collects triangles, with a colour each."""

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self.palette = _palette(rng)
        self._vertices: list[Array] = []
        self._faces: list[Array] = []
        self._colors: list[Array] = []
        self._count = 0

    def add(self, vertices: Array, faces: Array, color: int) -> None:
        """Add vertices (V, 3) and faces (F, 3) in that colour of the palette."""
        self._vertices.append(vertices)
        self._faces.append(faces + self._count)
        self._colors.append(np.tile(self.palette[color % len(self.palette)], (len(faces), 1)))
        self._count += len(vertices)

    def grid(self, points: Array, color: int) -> None:
        """Add rings (R, N, 3) of N points, joined to a tube whose ends are closed."""
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
    """Return (6, 3) colours that go together: wood, metal, or any, more or less muted."""
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


def _legs(p: Parts, corners: list[tuple[float, float]], height: float, color: int) -> None:
    """Stand legs below a plate at `height` whose corners are those."""
    rng = p.rng
    thick, splay, taper = rng.uniform(0.02, 0.05), rng.uniform(0, 0.25), rng.uniform(0.5, 1.1)
    rounded, bend = rng.random() < 0.6, rng.uniform(-0.15, 0.15) * (rng.random() < 0.3)
    for x, y in corners:
        foot = np.array([x * (1 + splay), y * (1 + splay), 0])
        top = np.array([x, y, height])
        path = curve(top, (foot + top) / 2 * [1 + bend, 1 + bend, 1], foot, count=8)
        if rounded or splay > 0.05 or bend:
            p.tube(path, np.linspace(thick, thick * taper, 8), color)
        else:
            p.box((x, y, height / 2), (2 * thick, 2 * thick, height), color)
    if rng.random() < 0.3:  # stretchers
        low = height * rng.uniform(0.2, 0.5)
        for a, b in zip(corners, corners[1:] + corners[:1], strict=True):
            p.tube([[*a, low], [*b, low]], thick * 0.6, color)


def chair(p: Parts) -> None:
    rng = p.rng
    width, depth, seat = rng.uniform(0.35, 0.6), rng.uniform(0.35, 0.55), rng.uniform(0.35, 0.55)
    thick = rng.uniform(0.02, 0.1)
    x, y = depth / 2, width / 2
    if rng.random() < 0.3:
        p.revolve([(0, seat), (x, seat), (x, seat + thick), (0, seat + thick)], 0, squash=y / x)
    else:
        p.box((0, 0, seat + thick / 2), (depth, width, thick), 0)
    _legs(
        p, [(s * 0.85 * x, t * 0.85 * y) for s, t in ((1, 1), (1, -1), (-1, -1), (-1, 1))], seat, 1
    )
    back = seat + rng.uniform(0.3, 0.65)
    lean = rng.uniform(0, 0.15)
    kind = rng.choice(["none", "plate", "slats", "rungs", "hoop"], p=[0.1, 0.25, 0.25, 0.2, 0.2])
    if kind == "plate":
        turn = rotation(1, -math.degrees(math.atan(lean)))
        low = seat + rng.choice([0, 0.15])
        p.box((-x - lean / 4, 0, (low + back) / 2), (0.04, width, back - low), 2, turn)
    elif kind == "hoop":
        high = back * 1.15
        p.tube(
            curve((-x, -y, seat), (-x - lean, -y, high), (-x - lean, y, high), (-x, y, seat)),
            0.02,
            1,
        )
    elif kind != "none":
        for s in (-y * 0.9, y * 0.9):
            p.tube([[-x, s, seat], [-x - lean, s, back]], 0.02, 1)
        p.box((-x - lean, 0, back), (0.03, width, rng.uniform(0.04, 0.12)), 2)
        for t in np.linspace(0.15, 0.85, rng.integers(2, 6)):
            if kind == "slats":
                s = (2 * t - 1) * y
                p.tube([[-x, s, seat], [-x - lean, s, back]], 0.012, 1)
            else:
                p.box((-x - lean * t, 0, seat + t * (back - seat)), (0.02, width, 0.03), 2)
    if rng.random() < 0.35:
        arm = seat + rng.uniform(0.15, 0.25)
        for s in (-y, y):
            p.box((0, s, arm), (depth, 0.04, 0.03), 1)
            p.tube([[x * 0.8, s, seat], [x * 0.8, s, arm]], 0.018, 1)


def table(p: Parts) -> None:
    rng = p.rng
    width, depth, height = rng.uniform(0.5, 1.4), rng.uniform(0.4, 0.9), rng.uniform(0.3, 0.9)
    thick, x, y = rng.uniform(0.02, 0.08), depth / 2, width / 2
    if rng.random() < 0.4:
        p.revolve([(0, height), (x, height), (x, height + thick), (0, height + thick)], 0)
        y = x
    else:
        p.box((0, 0, height + thick / 2), (depth, width, thick), 0)
    if rng.random() < 0.25:
        foot, pole = rng.uniform(0.4, 0.8) * x, rng.uniform(0.03, 0.08)
        p.revolve([(0, 0), (foot, 0), (foot, 0.03), (pole, 0.08), (pole, height), (0, height)], 1)
        return
    _legs(
        p,
        [(s * 0.75 * x, t * 0.75 * y) for s, t in ((1, 1), (1, -1), (-1, -1), (-1, 1))],
        height,
        1,
    )
    if rng.random() < 0.3:
        p.box((0, 0, height * rng.uniform(0.2, 0.7)), (depth * 0.8, width * 0.8, thick), 2)


def cabinet(p: Parts) -> None:
    rng = p.rng
    width, depth, height = rng.uniform(0.3, 1.2), rng.uniform(0.25, 0.6), rng.uniform(0.4, 1.6)
    foot, wall = rng.uniform(0, 0.15), 0.03
    rows = int(rng.integers(1, 6))
    for s in (-1, 1):
        p.box((0, s * width / 2, foot + height / 2), (depth, wall, height), 0)
    p.box((-depth / 2, 0, foot + height / 2), (wall, width, height), 0)
    for z in np.linspace(0, height, rows + 1):
        p.box((0, 0, foot + z), (depth, width, wall), 0)
    for row in range(rows):
        z, tall = foot + (row + 0.5) * height / rows, height / rows - wall
        if rng.random() < 0.6:  # else open
            p.box((depth / 2, 0, z), (wall, width * 0.96, tall * 0.94), 1)
            p.ellipsoid((depth / 2 + 0.03, 0, z), (0.02,) * 3, 2)
    if foot > 0.04:
        x, y = depth * 0.45, width * 0.45
        _legs(p, [(x, y), (x, -y), (-x, -y), (-x, y)], foot, 2)


def sofa(p: Parts) -> None:
    rng = p.rng
    width, depth, seat = rng.uniform(0.6, 1.6), rng.uniform(0.6, 0.8), rng.uniform(0.25, 0.4)
    arm, back = seat + rng.uniform(0.1, 0.3), seat + rng.uniform(0.3, 0.6)
    p.box((0, 0, seat / 2), (depth, width, seat), 0)
    p.box((-depth / 2, 0, back / 2), (rng.uniform(0.12, 0.25), width, back), 0)
    thick = rng.uniform(0.08, 0.2)
    for s in (-1, 1):
        y = s * width / 2
        p.box((0, y, arm / 2), (depth, thick, arm), 0)
        if rng.random() < 0.5:
            p.tube([[-depth / 2, y, arm], [depth / 2, y, arm]], thick * 0.65, 0)
    count = int(rng.integers(1, 4))
    for k in range(count):
        y = ((k + 0.5) / count - 0.5) * (width - thick)
        p.box((0.04, y, seat + 0.05), (depth * 0.8, (width - thick) / count * 0.94, 0.12), 1)


def lamp(p: Parts) -> None:
    rng = p.rng
    height, foot = rng.uniform(0.3, 1.2), rng.uniform(0.12, 0.25)
    p.revolve([(0, 0), (foot, 0), (foot, 0.03), (0.02, 0.05)], 0)
    bend = rng.uniform(0, 0.4) * (rng.random() < 0.4)
    path = curve((0, 0, 0), (0, 0, height), (bend, 0, height), count=10)
    p.tube(path, rng.uniform(0.01, 0.04), 0)
    low, high, tall = rng.uniform(0.12, 0.35), rng.uniform(0.05, 0.25), rng.uniform(0.12, 0.35)
    p.revolve([(0, -tall / 2), (low, -tall / 2), (high, tall / 2), (0, tall / 2)], 1, path[-1])


def vessel(p: Parts) -> None:
    """Turn a cup, bowl, bottle, jug, pot or glass, hollow where it is open."""
    rng = p.rng
    height = rng.uniform(0.25, 1.2)
    knots = rng.integers(3, 7)
    z = np.linspace(0, 1, 24)
    radii = np.interp(z, np.linspace(0, 1, knots), rng.uniform(0.12, 0.4, knots))
    if rng.random() < 0.6:  # smooth it
        radii = np.convolve(
            np.pad(radii, 4, "edge"), np.hanning(11)[1:-1] / np.hanning(11).sum(), "same"
        )[4:-4]
    kind = rng.choice(["bowl", "cup", "bottle", "glass", "any"])
    if kind == "bowl":
        height, radii = rng.uniform(0.15, 0.35), 0.15 + 0.3 * z ** rng.uniform(0.4, 1)
    if kind == "cup":
        height, radii = (
            rng.uniform(0.3, 0.6),
            rng.uniform(0.2, 0.3) * (1 + rng.uniform(-0.2, 0.5) * z),
        )
    if kind == "bottle":
        neck, shoulder = rng.uniform(0.04, 0.1), rng.uniform(0.5, 0.8)
        radii = neck + (rng.uniform(0.15, 0.3) - neck) / (
            1 + np.exp((z - shoulder) * rng.uniform(15, 60))
        )
        height = rng.uniform(0.6, 1.2)
    if kind == "glass":
        stem = rng.uniform(0.2, 0.5)
        radii = np.where(z < stem, 0.02, 0.05 + 0.2 * np.sqrt((z - stem).clip(0) / (1 - stem)))
        radii[:2] = 0.18
    profile = np.stack([radii, z * height], axis=1)
    closed = kind == "bottle" or rng.random() < 0.25
    if closed:
        p.revolve(profile, 0)
        if rng.random() < 0.6:
            p.revolve(
                [(0, -0.02), (radii[-1] * 1.2, -0.02), (radii[-1] * 1.1, 0.06), (0, 0.08)],
                1,
                (0, 0, height),
            )
    else:
        wall = rng.uniform(0.015, 0.03)
        keep = slice(4 if kind != "glass" else 14, None)
        inner = np.stack([(radii - wall).clip(0.005), z * height], axis=1)[keep][::-1]
        p.revolve(np.concatenate([profile, inner]), 0)
    middle = int(rng.integers(8, 16))
    at = radii[middle]
    if rng.random() < (0.8 if kind == "cup" else 0.3):
        size, low = rng.uniform(0.1, 0.25), height * rng.uniform(0.1, 0.35)
        top = height * rng.uniform(0.65, 0.95)
        edge = np.interp([low, top], z * height, radii) - 0.01
        for side in (1, -1) if rng.random() < 0.2 else (1,):
            a, b = (side * edge[0], 0, low), (side * edge[1], 0, top)
            out = side * (at + size * 1.4)
            p.tube(curve(a, (out, 0, low), (out, 0, top), b), rng.uniform(0.015, 0.035), 1)
    if rng.random() < 0.2:
        tip = (-at - rng.uniform(0.15, 0.3), 0, height * rng.uniform(0.7, 1.1))
        start = (-at + 0.02, 0, height * 0.35)
        p.tube(curve(start, (tip[0], 0, start[2]), tip), np.linspace(0.06, 0.025, 12), 0)
    if rng.random() < 0.3:
        disc = radii[0] * rng.uniform(1.3, 2.5)
        p.revolve(
            [(0, -0.02), (disc * 0.5, -0.02), (disc, 0.03), (disc, 0.045), (disc * 0.5, 0), (0, 0)],
            2,
        )


def plant(p: Parts) -> None:
    rng = p.rng
    base = 0.0
    if rng.random() < 0.5:
        base, pot = rng.uniform(0.15, 0.4), rng.uniform(0.12, 0.25)
        p.revolve([(0, 0), (pot * 0.7, 0), (pot, base), (pot * 0.85, base), (0, base * 0.9)], 0)
    height = rng.uniform(0.2, 0.9)
    lean = rng.uniform(-0.15, 0.15, 2)
    top = np.array([*lean, base + height])
    kind = rng.choice(["tree", "leaves", "cactus", "mushroom", "conifer"])
    thick = rng.uniform(0.02, 0.07)
    p.tube(
        curve((0, 0, base * 0.8), (0, 0, base + height / 2), top),
        np.linspace(thick, thick * 0.6, 12),
        1,
    )
    count = int(rng.integers(3, 14))
    if kind == "tree":
        spread, size = rng.uniform(0.05, 0.3), rng.uniform(0.12, 0.3)
        for _ in range(count):
            place = top + rng.normal(size=3) * spread * [1, 1, 0.7]
            p.tube([top * [1, 1, 0.9], place], thick * 0.4, 1)
            p.ellipsoid(place, size * rng.uniform(0.5, 1, 3), 2 + int(rng.integers(2)))
    elif kind == "leaves":
        long = rng.uniform(0.2, 0.6)
        for k in range(count * 2):
            a = k * 2.4
            out = np.array([math.cos(a), math.sin(a), 0]) * long
            start = np.array([*lean, 0]) * 0 + [0, 0, base + rng.uniform(0.3, 1) * height]
            rise = np.array([0, 0, rng.uniform(-0.1, 0.5) * long])
            path = curve(start, start + out / 2 + 2 * rise, start + out + rise, count=10)
            width = np.sin(np.linspace(0.15, math.pi, 10)) * rng.uniform(0.03, 0.08)
            p.tube(path, width.clip(0.003), 2, flat=0.25)
    elif kind == "cactus":
        body = rng.uniform(0.08, 0.18)
        p.tube(
            curve((0, 0, base), (0, 0, base + height), count=9),
            body * np.sin(np.linspace(0.9, 2.9, 9)),
            2,
        )
        for s in (-1, 1)[: int(rng.integers(0, 3))]:
            low = base + height * rng.uniform(0.3, 0.6)
            out = s * rng.uniform(0.2, 0.35)
            p.tube(curve((0, 0, low), (out, 0, low), (out, 0, low + 0.35)), body * 0.5, 2)
    elif kind == "mushroom":
        cap = rng.uniform(0.12, 0.4)
        t = np.linspace(0, math.pi / 2, 8)
        dome = np.stack([cap * np.cos(t), cap * rng.uniform(0.4, 1) * np.sin(t)], axis=1)
        p.revolve(np.concatenate([[(0, 0.0)], dome]), 2, top)
    else:
        layers = int(rng.integers(2, 6))
        for k in range(layers):
            wide = rng.uniform(0.25, 0.35) * (1 - 0.7 * k / layers)
            z = base + height * (0.3 + 0.7 * k / layers)
            p.revolve(
                [(0, 0), (wide, 0), (0.01, height / layers * 1.5)], 2, (*(lean * k / layers), z)
            )


def creature(p: Parts) -> None:
    """Build a quadruped, bird, insect or biped out of ellipsoids and tubes."""
    rng = p.rng
    long, wide, tall = rng.uniform(0.2, 0.5), rng.uniform(0.1, 0.22), rng.uniform(0.1, 0.25)
    leg, thick = rng.uniform(0.1, 0.6), rng.uniform(0.02, 0.07)
    pairs = int(rng.choice([1, 2, 2, 2, 3]))
    upright = pairs == 1 and rng.random() < 0.7
    z = leg + tall * 0.7
    body = (wide, wide * 1.1, long) if upright else (long, wide, tall)
    z += long * 0.6 if upright else 0
    p.ellipsoid((0, 0, z), body, 0)
    if rng.random() < 0.5:
        p.ellipsoid((-body[0] * 0.5, 0, z), np.array(body) * rng.uniform(0.7, 1.1, 3), 0)
    for x in np.linspace(-0.7, 0.7, pairs) * body[0] if pairs > 1 else [0.0]:
        swing = rng.uniform(-0.5, 0.5) * leg * 0.4
        for s in (-1, 1):
            hip = np.array([x, s * wide * 0.7, z - body[2] * 0.5])
            foot = np.array([x + s * swing, s * wide * rng.uniform(0.7, 1.3), 0.02])
            knee = (hip + foot) / 2 + vector(rng.uniform(-0.1, 0.1), 0, 0)
            p.tube(curve(hip, knee, foot, count=8), np.linspace(thick * 1.4, thick * 0.8, 8), 0)
            p.ellipsoid(foot + vector(thick * 0.5, 0, 0), (thick * 1.5, thick, thick * 0.8), 1)
    head = rng.uniform(0.08, 0.28)
    neck = rng.uniform(0, 0.4)
    place = np.array(
        [body[0] * 0.8 + (0 if upright else neck * 0.5), 0, z + body[2] * 0.7 + neck * 0.7]
    )
    if upright:
        place = np.array([0, 0, z + body[2] + head * 0.6 + neck * 0.2])
    start = np.array([body[0] * 0.5 * (not upright), 0, z + body[2] * 0.4])
    p.tube([start, place], [wide * 0.6, head * 0.6], 0)
    p.ellipsoid(place, head * rng.uniform(0.8, 1.2, 3), 0)
    if rng.random() < 0.7:
        snout = rng.uniform(0.4, 1.2) * head
        p.ellipsoid(place + vector(head * 0.7, 0, -head * 0.2), (snout, head * 0.4, head * 0.35), 1)
    ear, turn = rng.uniform(0.3, 1.3) * head, rotation(0, rng.uniform(-10, 60))
    for s in (-1, 1):
        p.ellipsoid(place + vector(head * 0.8, s * head * 0.45, head * 0.3), (head * 0.15,) * 3, 4)
        mirror = np.diag([1, -s, 1])
        tip = place + mirror @ turn @ [0, 0, head + ear * 0.4]
        p.ellipsoid(tip, (head * 0.15, head * 0.35, ear), 2, mirror @ turn)
        if upright or rng.random() < 0.1:
            shoulder = np.array([0, s * body[1] * 0.8, z + body[2] * 0.55])
            hand = shoulder + vector(
                rng.uniform(-0.1, 0.4), s * rng.uniform(0.05, 0.4), rng.uniform(-0.5, 0.3)
            )
            p.tube(
                curve(shoulder, (shoulder + hand) / 2 + [0, s * 0.1, 0], hand, count=8), thick, 0
            )
            p.ellipsoid(hand, (thick * 1.3,) * 3, 1)
    if rng.random() < 0.7:
        tail = rng.uniform(0.1, 0.6)
        begin = np.array([-body[0] * 0.9, 0, z])
        rise = rng.uniform(-0.4, 1) * tail
        p.tube(
            curve(
                begin,
                begin - [tail * 0.7, 0, 0],
                begin + vector(-tail * 0.8, rng.uniform(-0.2, 0.2), rise),
            ),
            np.linspace(rng.uniform(0.02, 0.08), rng.uniform(0.01, 0.08), 12),
            0,
        )


def tool(p: Parts) -> None:
    """Build a hammer, pan, brush, extinguisher or the like: a body, a handle, a hose."""
    rng = p.rng
    kind = rng.choice(["tank", "hammer", "pan", "cart"])
    if kind == "tank":
        radius, height = rng.uniform(0.1, 0.25), rng.uniform(0.5, 1)
        t = np.linspace(0, math.pi / 2, 6)
        dome = np.stack([radius * np.cos(t), height + radius * 0.6 * np.sin(t)], axis=1)
        p.revolve(np.concatenate([[(0, 0), (radius, 0)], dome]), 0)
        top = height + radius * 0.6
        p.revolve([(0, 0), (0.05, 0), (0.05, 0.08), (0, 0.08)], 1, (0, 0, top))
        p.box((0.05, 0, top + 0.1), (0.3, 0.04, 0.03), 1, rotation(1, rng.uniform(-30, 10)))
        p.box((0.05, 0, top + 0.05), (0.25, 0.04, 0.03), 1, rotation(1, rng.uniform(0, 20)))
        hose = [(0, 0, top + 0.05), (-radius * 2, 0, top), (-radius * 1.5, 0, height * 0.3)]
        p.tube(curve(*hose), rng.uniform(0.015, 0.03), 2)
    elif kind == "hammer":
        long = rng.uniform(0.5, 1)
        p.tube(curve((0, 0, 0), (0, 0, long), count=6), rng.uniform(0.02, 0.05, 6), 0)
        p.box((0, 0, long), (rng.uniform(0.2, 0.5), *rng.uniform(0.06, 0.2, 2)), 1)
    elif kind == "pan":
        radius, deep = rng.uniform(0.2, 0.4), rng.uniform(0.05, 0.35)
        p.revolve(
            [
                (0, 0),
                (radius, 0),
                (radius * 1.1, deep),
                (radius * 1.05, deep),
                (radius * 0.95, 0.03),
                (0, 0.03),
            ],
            0,
        )
        end = (radius + rng.uniform(0.2, 0.6), 0, deep + rng.uniform(-0.05, 0.15))
        p.tube(curve((radius, 0, deep * 0.8), (radius + 0.1, 0, deep), end), 0.03, 1, flat=0.6)
    else:
        long, wide, high = rng.uniform(0.5, 1), rng.uniform(0.25, 0.45), rng.uniform(0.1, 0.3)
        wheel = rng.uniform(0.08, 0.18)
        p.box((0, 0, wheel + high / 2), (long, wide, high), 0)
        cabin = rng.uniform(0.3, 0.6) * long
        p.box((rng.uniform(-0.2, 0.2) * long, 0, wheel + high * 1.3), (cabin, wide * 0.9, high), 1)
        for x in np.linspace(-0.35, 0.35, int(rng.choice([2, 2, 3]))) * long:
            for s in (-1, 1):
                y = s * wide / 2
                p.tube([[x, y - 0.03, wheel], [x, y + 0.03, wheel]], wheel, 2)


KINDS: dict[str, tuple[Callable[[Parts], None], ...]] = {
    "furniture": (chair, chair, table, cabinet, sofa, lamp),
    "vessel": (vessel,),
    "plant": (plant,),
    "creature": (creature,),
    "tool": (tool,),
}


def make_procedural_object(kind: str, seed: int) -> tuple[Array, Array, Array]:
    """Return vertices (V, 3) in a box of side 1, faces (F, 3) and their colours, 0 to 255."""
    rng = np.random.default_rng([seed, list(KINDS).index(kind)])
    parts = Parts(rng)
    KINDS[kind][seed % len(KINDS[kind])](parts)
    return parts.finish()
