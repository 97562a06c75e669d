"""Rays that skip empty space still find the first sample inside the object."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from pipelines.cameras import orbit_cameras
from pipelines.rendering.frames import box_interval
from pipelines.rendering.ray_casting import _STEPS, _clearance, _depth, _first_inside, _sample


def test_first_inside_finds_the_first_of_all_samples():
    noise = torch.randn(1, 1, 9, 9, 9, generator=torch.Generator().manual_seed(1)) - 1.2
    volume = F.interpolate(noise, size=(65, 65, 65), mode="trilinear", align_corners=True)[0, 0]
    axis = torch.linspace(-1.05, 1.05, 65)
    origins, directions = (rays[0] for rays in orbit_cameras(1).rays(24, 24))
    start, end = box_interval(origins, directions, -1.05, 1.05)
    kept = end > start
    origins, directions, start, end = (t[kept] for t in (origins, directions, start, end))
    hit, first = _first_inside(volume, _clearance(volume), axis, origins, directions, start, end)
    steps = torch.arange(_STEPS)
    depths = torch.stack([_depth(start, end, torch.full_like(start, k)) for k in steps], dim=1)
    points = origins[:, None] + depths[..., None] * directions[:, None]
    inside = (_sample(volume, points.flatten(0, 1) / axis[-1]) > 0).view(depths.shape)
    assert 0 < len(hit) < len(start)
    assert torch.equal(hit, inside.any(dim=1).nonzero()[:, 0])
    assert torch.equal(first, inside[hit].int().argmax(dim=1))
