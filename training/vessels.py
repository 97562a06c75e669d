"""Vessels and tools of varied proportions, for the training set."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .parts import Parts, curve, rotation

Array = np.ndarray[Any, np.dtype[Any]]


def vessel(p: Parts) -> None:
    """Add a cup, bowl, bottle, jug, pot or glass; it is hollow if it is open."""
    rng = p.rng
    kind = str(rng.choice(["bowl", "cup", "bottle", "glass", "any"]))
    profile = _profile(kind, rng)
    radii, height = profile[:, 0], profile[-1, 1]
    if kind == "bottle" or rng.random() < 0.25:
        p.revolve(profile, 0)
        if rng.random() < 0.6:
            wide = radii[-1]
            lid = [(0, -0.02), (wide * 1.2, -0.02), (wide * 1.1, 0.06), (0, 0.08)]
            p.revolve(lid, 1, (0, 0, height))
    else:
        inner = profile[14 if kind == "glass" else 4 :][::-1] - [rng.uniform(0.015, 0.03), 0]
        p.revolve(np.concatenate([profile, inner.clip([0.005, 0])]), 0)
    if rng.random() < (0.8 if kind == "cup" else 0.3):
        _handles(p, profile)
    if rng.random() < 0.2:
        side = radii[int(rng.integers(8, 16))]
        tip = (-side - rng.uniform(0.15, 0.3), 0, height * rng.uniform(0.7, 1.1))
        start = (-side + 0.02, 0, height * 0.35)
        p.tube(curve(start, (tip[0], 0, start[2]), tip), np.linspace(0.06, 0.025, 12), 0)
    if rng.random() < 0.3:
        r = radii[0] * rng.uniform(1.3, 2.5)
        saucer = [(0, -0.02), (r / 2, -0.02), (r, 0.03), (r, 0.045), (r / 2, 0), (0, 0)]
        p.revolve(saucer, 2)


def _profile(kind: str, rng: np.random.Generator) -> Array:
    """Return (24, 2) radii and heights of a vessel's outside."""
    z = np.linspace(0, 1, 24)
    height = rng.uniform(0.25, 1.2)
    if kind == "bowl":
        height, radii = rng.uniform(0.15, 0.35), 0.15 + 0.3 * z ** rng.uniform(0.4, 1)
    elif kind == "cup":
        height = rng.uniform(0.3, 0.6)
        radii = rng.uniform(0.2, 0.3) * (1 + rng.uniform(-0.2, 0.5) * z)
    elif kind == "bottle":
        height = rng.uniform(0.6, 1.2)
        neck, shoulder = rng.uniform(0.04, 0.1), rng.uniform(0.5, 0.8)
        below = 1 / (1 + np.exp((z - shoulder) * rng.uniform(15, 60)))
        radii = neck + (rng.uniform(0.15, 0.3) - neck) * below
    elif kind == "glass":
        stem = rng.uniform(0.2, 0.5)
        radii = np.where(z < stem, 0.02, 0.05 + 0.2 * np.sqrt((z - stem).clip(0) / (1 - stem)))
        radii[:2] = 0.18
    else:
        knots = rng.integers(3, 7)
        radii = np.interp(z, np.linspace(0, 1, knots), rng.uniform(0.12, 0.4, knots))
        if rng.random() < 0.6:
            window = np.hanning(11)[1:-1]
            radii = np.convolve(np.pad(radii, 4, "edge"), window / window.sum(), "valid")
    return np.stack([radii, z * height], axis=1)


def _handles(p: Parts, profile: Array) -> None:
    """Add one handle, or one on each side."""
    rng = p.rng
    height = profile[-1, 1]
    size, low = rng.uniform(0.1, 0.25), height * rng.uniform(0.1, 0.35)
    top = height * rng.uniform(0.65, 0.95)
    edge = np.interp([low, top], profile[:, 1], profile[:, 0]) - 0.01
    for side in (1, -1) if rng.random() < 0.2 else (1,):
        a, b = (side * edge[0], 0, low), (side * edge[1], 0, top)
        out = side * (edge.max() + size * 1.4)
        p.tube(curve(a, (out, 0, low), (out, 0, top), b), rng.uniform(0.015, 0.035), 1)


def extinguisher(p: Parts) -> None:
    """Build a tank with a lever and a hose."""
    rng = p.rng
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


def hammer(p: Parts) -> None:
    rng = p.rng
    long = rng.uniform(0.5, 1)
    p.tube(curve((0, 0, 0), (0, 0, long), count=6), rng.uniform(0.02, 0.05, 6), 0)
    p.box((0, 0, long), (rng.uniform(0.2, 0.5), *rng.uniform(0.06, 0.2, 2)), 1)


def pan(p: Parts) -> None:
    rng = p.rng
    radius, deep = rng.uniform(0.2, 0.4), rng.uniform(0.05, 0.35)
    outer, inner = [(0, 0), (radius, 0), (radius * 1.1, deep)], [(radius * 0.95, 0.03), (0, 0.03)]
    p.revolve([*outer, (radius * 1.05, deep), *inner], 0)
    end = (radius + rng.uniform(0.2, 0.6), 0, deep + rng.uniform(-0.05, 0.15))
    p.tube(curve((radius, 0, deep * 0.8), (radius + 0.1, 0, deep), end), 0.03, 1, flat=0.6)


def cart(p: Parts) -> None:
    """Build a box with a cabin and wheels."""
    rng = p.rng
    long, wide, high = rng.uniform(0.5, 1), rng.uniform(0.25, 0.45), rng.uniform(0.1, 0.3)
    wheel = rng.uniform(0.08, 0.18)
    p.box((0, 0, wheel + high / 2), (long, wide, high), 0)
    cabin = rng.uniform(0.3, 0.6) * long
    p.box((rng.uniform(-0.2, 0.2) * long, 0, wheel + high * 1.3), (cabin, wide * 0.9, high), 1)
    for x in np.linspace(-0.35, 0.35, int(rng.choice([2, 2, 3]))) * long:
        for s in (-1, 1):
            y = s * wide / 2
            p.tube([[x, y - 0.03, wheel], [x, y + 0.03, wheel]], wheel, 2)
