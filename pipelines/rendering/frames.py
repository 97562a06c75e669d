"""Rendered frames, and helpers shared by ray casting and volume rendering."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rendering:
    """N rendered images of a field, float32, in host memory.

    Attributes:
        rgb: (N, 3, H, W) on white, at most slightly outside [0, 1].
        depth: (N, 1, H, W) distance from the camera along the ray. For a density, the sum of
            sample depths weighted by visibility. For a signed distance, the distance of the
            surface, or of the world's origin if the ray misses the surface.
        weight: (N, 1, H, W) in [0, 1], opacity of the object at each pixel.
    """

    rgb: Tensor
    depth: Tensor
    weight: Tensor


def depth_images(rendering: Rendering) -> Tensor:
    """Convert depths to grey images (N, 3, H, W) in [0, 1].

    The nearest point is white, farther points are darker, and the background is black. All images
    share one scale.
    """
    seen = rendering.weight > 0.5
    if not bool(seen.any()):
        return torch.zeros_like(rendering.rgb)
    near, far = rendering.depth[seen].amin(), rendering.depth[seen].amax()
    nearness = 1 - 0.9 * (rendering.depth - near) / (far - near).clamp_min(1e-6)
    return (nearness.clamp(0, 1) * seen).expand_as(rendering.rgb)


def box_interval(
    origins: Tensor, directions: Tensor, low: Tensor | float, high: Tensor | float
) -> tuple[Tensor, Tensor]:
    """Return the distances (...) at which rays (..., 3) enter and leave the box [low, high].

    For a ray that misses the box, the second is smaller than the first.
    """
    first, second = (low - origins) / directions, (high - origins) / directions
    return torch.minimum(first, second).amax(dim=-1), torch.maximum(first, second).amin(dim=-1)
