"""Signed distances of simple forms, negative inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Vec3 = tuple[float, float, float]
Form = Literal["ellipsoid", "box", "cone", "torus"]


@dataclass(frozen=True)
class Primitive:
    """One part of an object.

    Attributes:
        form: ellipsoid (half axes), box (half edges), cone (radius below, radius above, half
            height; along z), torus (ring radius, tube radius, -; around z).
        size: the form's three numbers.
        center: position of the form's origin.
        rotation: (3, 3) from the form's frame to the object's, or None.
        rounding: radius of a box's edges.
    """

    form: Form
    size: Vec3
    center: Vec3
    rotation: Tensor | None = None
    rounding: float = 0.0

    def outside_distance(self, points: Tensor) -> Tensor:
        """Return (N,) distance of points (N, 3) to the surface; a lower bound for ellipsoids."""
        p = points - points.new_tensor(self.center)
        if self.rotation is not None:
            p = p @ self.rotation.to(p)  # rows times R is R^T times columns: into the form's frame
        a, b, c = self.size
        if self.form == "ellipsoid":
            axes = p.new_tensor(self.size)
            k0 = (p / axes).norm(dim=1)
            k1 = (p / axes**2).norm(dim=1).clamp_min(1e-6)
            return k0 * (k0 - 1) / k1
        if self.form == "box":
            q = p.abs() - p.new_tensor(self.size) + self.rounding
            return q.clamp_min(0).norm(dim=1) + q.amax(dim=1).clamp_max(0) - self.rounding
        if self.form == "torus":
            ring = p[:, :2].norm(dim=1) - a
            return torch.sqrt(ring**2 + p[:, 2] ** 2) - b
        radius = p[:, :2].norm(dim=1)
        ax = radius - torch.minimum(radius, torch.where(p[:, 2] < 0, a, b))
        ay = p[:, 2].abs() - c
        kx, ky = b - a, 2 * c
        t = ((b - radius) * kx + (c - p[:, 2]) * ky) / (kx * kx + ky * ky)
        t = t.clamp(0, 1)
        bx, by = radius - b + kx * t, p[:, 2] - c + ky * t
        inside = (bx < 0) & (ay < 0)
        distance = torch.minimum(ax**2 + ay**2, bx**2 + by**2).sqrt()
        return torch.where(inside, -distance, distance)
