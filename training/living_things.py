"""Plants and creatures of varied proportions, for the training set."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .parts import Parts, curve, rotation, vector

Array = np.ndarray[Any, np.dtype[Any]]


def _stem(p: Parts) -> tuple[float, float, Array, float]:
    """Add a stem, perhaps in a pot.

    Returns:
        the height at which the stem starts, its length, its top (3,) and its thickness.
    """
    rng = p.rng
    base = 0.0
    if rng.random() < 0.5:
        base, pot = rng.uniform(0.15, 0.4), rng.uniform(0.12, 0.25)
        p.revolve([(0, 0), (pot * 0.7, 0), (pot, base), (pot * 0.85, base), (0, base * 0.9)], 0)
    height, thick = rng.uniform(0.2, 0.9), rng.uniform(0.02, 0.07)
    top = vector(*rng.uniform(-0.15, 0.15, 2), base + height)
    path = curve((0, 0, base * 0.8), (0, 0, base + height / 2), top)
    p.tube(path, np.linspace(thick, thick * 0.6, 12), 1)
    return base, height, top, thick


def tree(p: Parts) -> None:
    rng = p.rng
    _, _, top, thick = _stem(p)
    spread, size = rng.uniform(0.05, 0.3), rng.uniform(0.12, 0.3)
    for _ in range(int(rng.integers(3, 14))):
        place = top + rng.normal(size=3) * spread * [1, 1, 0.7]
        p.tube([top * [1, 1, 0.9], place], thick * 0.4, 1)
        p.ellipsoid(place, size * rng.uniform(0.5, 1, 3), 2 + int(rng.integers(2)))


def leafy_plant(p: Parts) -> None:
    rng = p.rng
    base, height, _, _ = _stem(p)
    long = rng.uniform(0.2, 0.6)
    for k in range(int(rng.integers(6, 28))):
        angle = k * 2.4
        out = vector(math.cos(angle), math.sin(angle), 0) * long
        start = vector(0, 0, base + rng.uniform(0.3, 1) * height)
        rise = vector(0, 0, rng.uniform(-0.1, 0.5) * long)
        path = curve(start, start + out / 2 + 2 * rise, start + out + rise, count=10)
        width = np.sin(np.linspace(0.15, math.pi, 10)) * rng.uniform(0.03, 0.08)
        p.tube(path, width.clip(0.003), 2, flat=0.25)


def cactus(p: Parts) -> None:
    rng = p.rng
    base, height, _, _ = _stem(p)
    body = rng.uniform(0.08, 0.18)
    path = curve((0, 0, base), (0, 0, base + height), count=9)
    p.tube(path, body * np.sin(np.linspace(0.9, 2.9, 9)), 2)
    for side in (-1, 1)[: int(rng.integers(0, 3))]:
        low = base + height * rng.uniform(0.3, 0.6)
        out = side * rng.uniform(0.2, 0.35)
        p.tube(curve((0, 0, low), (out, 0, low), (out, 0, low + 0.35)), body * 0.5, 2)


def mushroom(p: Parts) -> None:
    rng = p.rng
    _, _, top, _ = _stem(p)
    cap, t = rng.uniform(0.12, 0.4), np.linspace(0, math.pi / 2, 8)
    dome = np.stack([cap * np.cos(t), cap * rng.uniform(0.4, 1) * np.sin(t)], axis=1)
    p.revolve(np.concatenate([[(0, 0.0)], dome]), 2, top)


def conifer(p: Parts) -> None:
    rng = p.rng
    base, height, top, _ = _stem(p)
    layers = int(rng.integers(2, 6))
    for k in range(layers):
        wide = rng.uniform(0.25, 0.35) * (1 - 0.7 * k / layers)
        middle = top * k / layers
        middle[2] = base + height * (0.3 + 0.7 * k / layers)
        p.revolve([(0, 0), (wide, 0), (0.01, height / layers * 1.5)], 2, middle)


def creature(p: Parts) -> None:
    """Build a quadruped, bird, insect or biped out of ellipsoids and tubes."""
    rng = p.rng
    long, wide, tall = rng.uniform(0.2, 0.5), rng.uniform(0.1, 0.22), rng.uniform(0.1, 0.25)
    leg, thick = rng.uniform(0.1, 0.6), rng.uniform(0.02, 0.07)
    pairs = int(rng.choice([1, 2, 2, 2, 3]))
    upright = pairs == 1 and rng.random() < 0.7
    body = vector(wide, wide * 1.1, long) if upright else vector(long, wide, tall)
    middle = vector(0, 0, leg + tall * 0.7 + (long * 0.6 if upright else 0))
    p.ellipsoid(middle, body, 0)
    if rng.random() < 0.5:
        p.ellipsoid(middle - [body[0] * 0.5, 0, 0], body * rng.uniform(0.7, 1.1, 3), 0)
    for x in np.linspace(-0.7, 0.7, pairs) * body[0] if pairs > 1 else [0.0]:
        _leg_pair(p, middle + vector(x, 0, -body[2] * 0.5), wide, leg, thick)
    _head(p, middle, body, upright)
    if upright or rng.random() < 0.1:
        for side in (-1, 1):
            shoulder = middle + body * [0, side * 0.8, 0.55]
            reach = rng.uniform([-0.1, 0.05, -0.5], [0.4, 0.4, 0.3]) * [1, side, 1]
            elbow = shoulder + reach / 2 + vector(0, side * 0.1, 0)
            p.tube(curve(shoulder, elbow, shoulder + reach, count=8), thick, 0)
            p.ellipsoid(shoulder + reach, (thick * 1.3,) * 3, 1)
    if rng.random() < 0.7:
        tail, begin = rng.uniform(0.1, 0.6), middle - [body[0] * 0.9, 0, 0]
        tip = begin + vector(-tail * 0.8, rng.uniform(-0.2, 0.2), rng.uniform(-0.4, 1) * tail)
        path = curve(begin, begin - [tail * 0.7, 0, 0], tip)
        p.tube(path, np.linspace(rng.uniform(0.02, 0.08), rng.uniform(0.01, 0.08), 12), 0)


def _leg_pair(p: Parts, hips: Array, wide: float, leg: float, thick: float) -> None:
    """Add a left and a right leg from the hips to the ground, one foot ahead of the other."""
    rng = p.rng
    swing = rng.uniform(-0.5, 0.5) * leg * 0.4
    for side in (-1, 1):
        hip = hips + vector(0, side * wide * 0.7, 0)
        foot = vector(hips[0] + side * swing, side * wide * rng.uniform(0.7, 1.3), 0.02)
        knee = (hip + foot) / 2 + vector(rng.uniform(-0.1, 0.1), 0, 0)
        p.tube(curve(hip, knee, foot, count=8), np.linspace(thick * 1.4, thick * 0.8, 8), 0)
        p.ellipsoid(foot + vector(thick * 0.5, 0, 0), (thick * 1.5, thick, thick * 0.8), 1)


def _head(p: Parts, middle: Array, body: Array, upright: bool) -> None:
    """Add a neck, a head, perhaps a snout, eyes and ears."""
    rng = p.rng
    head, neck = rng.uniform(0.08, 0.28), rng.uniform(0, 0.4)
    if upright:
        place = middle + vector(0, 0, body[2] + head * 0.6 + neck * 0.2)
    else:
        place = middle + vector(body[0] * 0.8 + neck * 0.5, 0, body[2] * 0.7 + neck * 0.7)
    start = middle + body * [0.5 * (not upright), 0, 0.4]
    p.tube([start, place], [body[1] * 0.6, head * 0.6], 0)
    p.ellipsoid(place, head * rng.uniform(0.8, 1.2, 3), 0)
    if rng.random() < 0.7:
        snout = rng.uniform(0.4, 1.2) * head
        p.ellipsoid(place + head * vector(0.7, 0, -0.2), (snout, head * 0.4, head * 0.35), 1)
    ear, turn = rng.uniform(0.3, 1.3) * head, rotation(0, rng.uniform(-10, 60))
    for side in (-1, 1):
        p.ellipsoid(place + head * vector(0.8, side * 0.45, 0.3), (head * 0.15,) * 3, 4)
        mirrored = np.diag([1, -side, 1]) @ turn
        tip = place + mirrored @ vector(0, 0, head + ear * 0.4)
        p.ellipsoid(tip, (head * 0.15, head * 0.35, ear), 2, mirrored)
