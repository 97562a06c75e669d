"""Furniture of varied proportions, for the training set."""

from __future__ import annotations

import math

import numpy as np

from .parts import Parts, curve, rotation


def _corners(x: float, y: float) -> list[tuple[float, float]]:
    return [(x, y), (x, -y), (-x, -y), (-x, y)]


def _legs(p: Parts, corners: list[tuple[float, float]], height: float, color: int) -> None:
    """Add a leg below each corner of a plate at `height`."""
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
    _legs(p, _corners(0.85 * x, 0.85 * y), seat, 1)
    _back(p, x, y, seat)
    if rng.random() < 0.35:
        arm = seat + rng.uniform(0.15, 0.25)
        for s in (-y, y):
            p.box((0, s, arm), (depth, 0.04, 0.03), 1)
            p.tube([[x * 0.8, s, seat], [x * 0.8, s, arm]], 0.018, 1)


def _back(p: Parts, x: float, y: float, seat: float) -> None:
    """Add a plate, slats, rungs, a hoop or nothing behind a seat of 2 x by 2 y."""
    rng = p.rng
    back = seat + rng.uniform(0.3, 0.65)
    lean = rng.uniform(0, 0.15)
    kind = rng.choice(["none", "plate", "slats", "rungs", "hoop"], p=[0.1, 0.25, 0.25, 0.2, 0.2])
    if kind == "plate":
        turn = rotation(1, -math.degrees(math.atan(lean)))
        low = seat + rng.choice([0, 0.15])
        p.box((-x - lean / 4, 0, (low + back) / 2), (0.04, 2 * y, back - low), 2, turn)
    elif kind == "hoop":
        left, right = (-x - lean, -y, back * 1.15), (-x - lean, y, back * 1.15)
        p.tube(curve((-x, -y, seat), left, right, (-x, y, seat)), 0.02, 1)
    elif kind != "none":
        for s in (-y * 0.9, y * 0.9):
            p.tube([[-x, s, seat], [-x - lean, s, back]], 0.02, 1)
        p.box((-x - lean, 0, back), (0.03, 2 * y, rng.uniform(0.04, 0.12)), 2)
        for t in np.linspace(0.15, 0.85, rng.integers(2, 6)):
            if kind == "slats":
                s = (2 * t - 1) * y
                p.tube([[-x, s, seat], [-x - lean, s, back]], 0.012, 1)
            else:
                p.box((-x - lean * t, 0, seat + t * (back - seat)), (0.02, 2 * y, 0.03), 2)


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
    _legs(p, _corners(0.75 * x, 0.75 * y), height, 1)
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
        if rng.random() < 0.6:  # a door with a knob; other rows stay open
            p.box((depth / 2, 0, z), (wall, width * 0.96, tall * 0.94), 1)
            p.ellipsoid((depth / 2 + 0.03, 0, z), (0.02,) * 3, 2)
    if foot > 0.04:
        _legs(p, _corners(depth * 0.45, width * 0.45), foot, 2)


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
