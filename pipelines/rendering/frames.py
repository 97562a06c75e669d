"""The frames of an orbit, and what both ways of rendering share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rendering:
    """N images of a field, float32, in host memory.

    Attributes:
        rgb: (N, 3, H, W) on white, a little beyond [0, 1] at most.
        depth: (N, 1, H, W) distance from the camera along the ray: weighted by what is seen of a
            density; of a signed distance, that of the surface, or of the world's origin where there
            is none.
        weight: (N, 1, H, W) in [0, 1], how much of the object a pixel sees.
    """

    rgb: Tensor
    depth: Tensor
    weight: Tensor


def depth_images(rendering: Rendering) -> Tensor:
    """Return (N, 3, H, W) in [0, 1]: white where the object is nearest, darker with distance.

    It is black where the object is not. All images have one scale.
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
    """Return where rays (..., 3) enter and leave the box from `low` to `high`, each (...).

    A ray that misses the box leaves before it enters.
    """
    first, second = (low - origins) / directions, (high - origins) / directions
    return torch.minimum(first, second).amax(dim=-1), torch.maximum(first, second).amin(dim=-1)
