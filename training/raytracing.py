"""Pictures of procedural objects by sphere tracing (Hart 1996), on white."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.cameras import Cameras

from .objects import BOUNDING_RADIUS, ProceduralObject

MAX_STEPS = 64


@dataclass(frozen=True)
class Light:
    """Lambertian shading: ambient + headlight + one lamp, each a share of the albedo.

    Attributes:
        ambient, head, lamp: shares, about 1 in all.
        direction: (3,) unit vector toward the lamp.
    """

    ambient: float
    head: float
    lamp: float
    direction: tuple[float, float, float]


STUDIO = Light(0.6, 0.25, 0.15, (0.0, 0.0, 1.0))


def render(
    shape: ProceduralObject, cameras: Cameras, size: int, light: Light = STUDIO
) -> tuple[Tensor, Tensor]:
    """Pictures of an object.

    Args:
        shape: the object, inside the bounding sphere.
        cameras: N cameras outside that sphere.
        size: pixels of a side.
        light: the same for all cameras.

    Returns:
        rgb (N, 3, size, size) on white and alpha (N, 1, size, size), float32 in [0, 1]. Silhouettes
        are antialiased by how near a ray passes.
    """
    origins, directions = (r.flatten(0, 1) for r in cameras.rays(size, size))
    pixel = 1 / (cameras.intrinsics_normalized[:, 1, 1] * size)  # width of a pixel at distance 1
    pixel = pixel.repeat_interleave(size * size)
    middle = -(origins * directions).sum(dim=1)
    half = (BOUNDING_RADIUS + 0.03) ** 2 - (origins.square().sum(dim=1) - middle**2)
    active = (half > 0).nonzero().squeeze(1)
    reach = half[active].sqrt()
    depth, end = middle[active] - reach, middle[active] + reach
    nearest, nearest_depth = torch.full_like(depth, torch.inf), depth.clone()
    hit = torch.zeros_like(active, dtype=torch.bool)
    alive = torch.arange(len(active))
    for _ in range(MAX_STEPS):
        rays = active[alive]
        distance = -shape.signed_distance(origins[rays] + depth[alive, None] * directions[rays])
        ratio = distance / (pixel[rays] * depth[alive])
        closer = ratio < nearest[alive]
        nearest[alive[closer]] = ratio[closer]
        nearest_depth[alive[closer]] = depth[alive[closer]]
        landed = ratio < 0.03
        hit[alive[landed]] = True
        depth[alive] += distance.clamp_min(0) * ~landed
        alive = alive[~landed & (depth[alive] < end[alive])]
        if not len(alive):
            break
    coverage = torch.where(hit, 1.0, (0.5 - nearest).clamp(0, 1))
    seen = coverage > 0
    rays = active[seen]
    points = origins[rays] + nearest_depth[seen, None] * directions[rays]
    normals = shape.normal(points)
    facing = -(normals * directions[rays]).sum(dim=1).clamp(-1, 0)
    lamp = (normals @ normals.new_tensor(light.direction)).clamp_min(0)
    shade = light.ambient + light.head * facing + light.lamp * lamp
    color = (shape.color(points) * shade[:, None]).clamp(0, 1)
    alpha = torch.zeros(len(origins))
    alpha[rays] = coverage[seen]
    rgb = torch.ones(len(origins), 3)
    rgb[rays] = color * coverage[seen, None] + 1 - coverage[seen, None]
    pictures = rgb.unflatten(0, (-1, size, size)).permute(0, 3, 1, 2)
    return pictures, alpha.unflatten(0, (-1, 1, size, size))
