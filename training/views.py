"""Cameras of training images, and the framing of an object in them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipelines.reconstruction.frustum import FrustumConfig

from .shapes import Shape

CONFIG = FrustumConfig()
_FOCAL_MM, _SPAN_MM = (20.0, 70.0), (14.0, 34.0)  # focal length; image width on a 36 mm sensor
_LOWEST_DEG, _HIGHEST_DEG = -10.0, (35.0, 65.0)  # elevation; each maximum for half of the images
_FILL = 0.8, 0.95  # share of the image's side that the object fills; it may be off-centre
_WIDE, _FRAMINGS = 1.8, 12  # first side of the image; number of framing steps


class Views:
    """B cameras; each image spans a square of side `side` around its `target`.

    Args:
        numbers: (B, 7) azimuth, elevation and field of view in degrees, target (3), side.
    """

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers
        azimuth, self.elevation_deg, fov = numbers[:, :3].unbind(dim=1)
        self.target, self.side = numbers[:, 3:6], numbers[:, 6]
        self.distance = 0.5 / (fov.deg2rad() / 2).tan()  # of the camera, in image sides
        a, e = azimuth.deg2rad(), self.elevation_deg.deg2rad()
        right = torch.stack([-a.sin(), a.cos(), torch.zeros_like(a)], dim=1)
        back = torch.stack([e.cos() * a.cos(), e.cos() * a.sin(), e.sin()], dim=1)
        self.axes = torch.stack([right, torch.linalg.cross(back, right), back], dim=1)

    def camera(self, points: Tensor) -> Tensor:
        """Return (B, N, 3) right, up and backward, in image sides, of world points."""
        offset = (points - self.target[:, None]) / self.side[:, None, None]
        return offset @ self.axes.transpose(1, 2)

    def frustum(self, points: Tensor) -> Tensor:
        """Return (B, N, 3) u, v, w (see `fields.frustum_volume`) of points (B or 1, N, 3)."""
        x, y, z = self.camera(points).unbind(dim=-1)
        nearness = 2 * self.distance[:, None] / (self.distance[:, None] - z).clamp_min(0.05)
        return torch.stack([x * nearness, -y * nearness, -z / CONFIG.half_depth], dim=-1)

    def world(self, frustum: Tensor) -> Tensor:
        """Return world points (B, N, 3) of u, v, w: the inverse of `frustum`."""
        u, v, w = frustum.unbind(dim=-1)
        z = -w * CONFIG.half_depth
        near = (self.distance[:, None] - z) / self.distance[:, None] / 2
        camera = torch.stack([u * near, -v * near, z], dim=-1)
        return camera @ self.axes * self.side[:, None, None] + self.target[:, None]


def framed_views(shape: Shape, count: int, rng: np.random.Generator) -> Views:
    """Draw at most `count` cameras that show the object framed, filling most of the image.

    No part of it is in front of the frustum, so long objects are not seen from their ends.
    """
    tried = 2 * count
    numbers = np.zeros((tried, 7))
    numbers[:, 0] = rng.uniform(0, 360, tried)
    numbers[:, 1] = rng.uniform(_LOWEST_DEG, rng.choice(_HIGHEST_DEG, tried))
    focal_mm = np.exp(rng.uniform(*np.log(_FOCAL_MM), tried))
    numbers[:, 2] = np.degrees(2 * np.arctan(rng.uniform(*_SPAN_MM, tried) / 2 / focal_mm))
    numbers[:, 2] = numbers[:, 2].clip(14, 52)  # beyond, the camera would be inside the frustum
    numbers[:, 6] = _WIDE
    fill = torch.from_numpy(rng.uniform(*_FILL, tried))
    beside = torch.from_numpy(rng.uniform(-0.5, 0.5, (tried, 2))) * (1 - fill)[:, None]
    framed, vertices = torch.from_numpy(numbers), torch.from_numpy(shape.vertices)[None]
    for _ in range(_FRAMINGS):
        views = Views(framed)
        places = views.frustum(vertices)
        low, high = places.amin(dim=1), places.amax(dim=1)
        middle = (low + high)[:, :2] / 2 - beside
        right, down = (middle / 2 * views.side[:, None])[..., None].unbind(1)
        framed = framed.clone()
        framed[:, 3:6] += right * views.axes[:, 0] - down * views.axes[:, 1]
        filled = (high - low)[:, :2].amax(dim=1) / 2 / fill
        framed[:, 6] *= torch.maximum(filled, -low[:, 2])
    near = (filled - 1).abs() < 0.02
    return Views(framed[near if near.any() else slice(None)][:count])


def pixels_of(views: Views, vertices: Tensor, size: int) -> Tensor:
    """Return (B, N, 3) x, y in pixels and 1 / depth of points (N, 3), for `rasterize`."""
    u, v, w = views.frustum(vertices[None]).unbind(dim=-1)
    depth = views.distance[:, None] + w * CONFIG.half_depth
    return torch.stack([(u + 1) / 2 * size, (v + 1) / 2 * size, 1 / depth], dim=-1)
