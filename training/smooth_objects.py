"""Random smooth objects that depict nothing.

They are unions and smooth unions of primitives and of surfaces of revolution, often mirrored. Their
colours follow the parts or ignore them.

Source: Xie et al., LRM-Zero (arXiv 2406.09371), section 3.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.ndimage import label
from skimage.measure import marching_cubes
from torch import Tensor
from torch.nn import functional as F

from .primitives import Form, Primitive

CELLS = 72  # cells along an edge of the grid that is meshed
_HALF = 1.05
_FORMS: tuple[Form, ...] = ("ellipsoid", "ellipsoid", "box", "cone", "torus")

Array = np.ndarray[Any, np.dtype[Any]]
Part = Callable[[Tensor], Tensor]


def make_smooth_object(seed: int) -> tuple[Array, Array, Array]:
    """Return vertices (V, 3) in a box of side 1, faces (F, 3) and their colours, 0 to 255."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    line = torch.linspace(-_HALF, _HALF, CELLS + 1)
    points = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), dim=-1).reshape(-1, 3)
    mirrored = rng.random() < 0.6  # as most things are
    parts = [_part(rng, generator) for _ in range(rng.randint(1, 7))]
    distances = _distances(parts, points, mirrored)
    blend = rng.choice([0.0, 0.03, 0.1, 0.2])
    distance = distances[0]
    for other in distances[1:]:
        distance = smooth_minimum(distance, other, blend)
    # End the object inside the grid, so that its surface is closed.
    distance = torch.maximum(distance, points.abs().amax(dim=1) - (_HALF - 0.05))
    volume = distance.reshape((CELLS + 1,) * 3).numpy()
    bodies, count = label(volume < 0)
    if not count:
        return make_smooth_object(seed + 1_000_003)
    largest = bodies == np.bincount(bodies[bodies > 0]).argmax()
    vertices, faces, _, _ = marching_cubes(np.where(largest, volume, np.abs(volume) + 1e-4), 0.0)
    centers = vertices[faces].mean(axis=1) / CELLS * 2 * _HALF - _HALF
    places = torch.from_numpy(centers.astype(np.float32))
    nearest = _distances(parts, places, mirrored).argmin(dim=0)
    colors = _texture(places, nearest, rng, generator)
    vertices = vertices - (vertices.max(0) + vertices.min(0)) / 2
    edges = np.ptp(vertices, axis=0)
    return vertices / max(edges.max(), np.linalg.norm(edges) / 1.4), faces, colors.numpy() * 255


def _distances(parts: list[Part], points: Tensor, mirrored: bool) -> Tensor:
    """Return (parts, N) distances of points (N, 3)."""
    if mirrored:
        points = torch.stack([points[:, 0], points[:, 1].abs(), points[:, 2]], dim=1)
    return torch.stack([part(points) for part in parts])


def smooth_minimum(a: Tensor, b: Tensor, blend: float) -> Tensor:
    """Return the smaller of two distances, rounded where they differ by less than `blend`.

    Source: Quilez, smooth minimum (quadratic polynomial).
    """
    if blend == 0:
        return torch.minimum(a, b)
    near = (blend - (a - b).abs()).clamp_min(0) / blend
    return torch.minimum(a, b) - near.square() * blend / 4


class _Revolved:
    """A surface of revolution: a vase, a bottle, a chess piece."""

    def __init__(self, rng: random.Random, generator: torch.Generator) -> None:
        knots = rng.randint(3, 9)
        profile = torch.rand(1, 1, knots, generator=generator) * 0.4 + 0.06
        self.radii = F.interpolate(profile, size=64, mode="linear", align_corners=True)[0, 0]
        self.half = rng.uniform(0.3, 0.9)
        self.center = (rng.uniform(-0.2, 0.2), rng.uniform(0, 0.2))

    def __call__(self, points: Tensor) -> Tensor:
        place = ((points[:, 2] / self.half + 1) / 2 * 63).clamp(0, 63)
        low = place.floor().long().clamp_max(62)
        radius = torch.lerp(self.radii[low], self.radii[low + 1], place - low)
        around = (points[:, :2] - points.new_tensor(self.center)).norm(dim=1)
        return torch.maximum((around - radius) * 0.8, points[:, 2].abs() - self.half)


def _part(rng: random.Random, generator: torch.Generator) -> Part:
    """Draw a part: a signed distance, negative inside, of points (N, 3)."""
    if rng.random() < 0.2:
        return _Revolved(rng, generator)
    form = rng.choice(_FORMS)
    long, flat = rng.uniform(0.15, 0.7), rng.uniform(0.06, 0.35)
    size = [rng.uniform(0.06, 0.5), rng.choice([long, flat]), long]
    rng.shuffle(size)
    if form == "torus":
        size = [rng.uniform(0.15, 0.5), rng.uniform(0.04, 0.14), 0.0]
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator))[0]
    part = Primitive(
        form,
        (size[0], size[1], size[2]),
        (rng.uniform(-0.5, 0.5), rng.uniform(-0.1, 0.5), rng.uniform(-0.6, 0.6)),
        turn if rng.random() < 0.5 else None,
        rng.uniform(0, 0.8) * min(size) if form == "box" else 0.0,
    )
    return part.outside_distance


def _texture(
    places: Tensor, part: Tensor, rng: random.Random, generator: torch.Generator
) -> Tensor:
    """Return (N, 3) colours in [0, 1]: one for each part, or stripes, patches or noise."""
    palette = torch.rand(8, 3, generator=generator)
    if rng.random() < 0.4:  # muted, as most photographs are
        palette = torch.lerp(palette.mean(dim=1, keepdim=True), palette, rng.uniform(0.1, 0.6))
    colors = palette[part % 8]
    kind = rng.choice(["parts", "patches", "stripes", "noise", "noise"])
    noise = torch.randn(1, 4, *(rng.randint(3, 14),) * 3, generator=generator)
    drawn = F.grid_sample(noise, places[None, None, None], align_corners=True)[0, :, 0, 0].T
    if kind == "patches":
        colors = torch.where(drawn[:, :1] > rng.uniform(0, 0.6), palette[-1], colors)
    if kind == "stripes":
        wave = (places @ torch.randn(3, generator=generator) * rng.uniform(5, 25)).sin()
        colors = torch.where((wave + drawn[:, 0] * 0.3 > 0)[:, None], palette[-1], colors)
    if kind != "parts":
        colors = colors + drawn[:, 1:] * rng.uniform(0.02, 0.15)
    return colors.clamp(0, 1)
