"""Which triangle of many is nearest at every pixel of many images, all at once.

That is how a GPU is kept busy: `pipelines.meshes.rasterization` draws one image after another,
row by row, which takes less memory and took several times as long for the training set on an H200.
"""

from __future__ import annotations

import torch
from torch import Tensor

_PAIRS = 1 << 22  # of a triangle and a pixel that are looked at together: half a GiB
_ON_EDGE = 1e-6


def nearest(corners: Tensor, nearness: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The nearest triangle at the middle of each pixel.

    A pixel's middle (x, y) in [-1, 1], x to the right and y down, is in a triangle with corners
    (X, Y, W) where (x, y, 1) is a sum of them with no negative weight. Source: Olano and Greer,
    Triangle scan conversion using 2D homogeneous coordinates (1997).

    Args:
        corners: (V, T, 3, 3) homogeneous corners in each of V images: W is the distance before
            the camera in perspective, 1 in parallel projection.
        nearness: (V, T, 3) what is interpolated with those weights, without dividing by their sum,
            and greatest is nearest: 1 in perspective, which gives 1 / W; positive.
        size: pixels along a side of the square images.

    Returns:
        triangle (V, size, size), -1 where there is none, and nearness, 0 there, float32.
    """
    views, count = corners.shape[:2]
    low, high = _boxes(corners, size)
    wide = (high - low).clamp_min(0)
    pairs = wide[..., 0] * wide[..., 1]
    if views > 1 and int(pairs.sum()) > _PAIRS:
        halves = zip(corners.chunk(2), nearness.chunk(2), strict=True)
        parts = [nearest(some, near, size) for some, near in halves]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
    weights = _weights(corners)
    planes = torch.cat([weights, nearness[..., None, :] @ weights], dim=-2).float()
    pairs, low, wide, planes = (x.flatten(0, 1) for x in (pairs, low, wide, planes))
    triangle = torch.arange(len(pairs), device=pairs.device).repeat_interleave(pairs)
    place = torch.arange(len(triangle), device=pairs.device)
    place -= (pairs.cumsum(dim=0) - pairs)[triangle]
    column = low[triangle, 0] + place % wide[triangle, 0]
    row = low[triangle, 1] + place // wide[triangle, 0]
    x, y = (((line + 0.5) / size * 2 - 1)[:, None] for line in (column, row))
    at = planes[triangle]
    values = at[..., 0] * x + at[..., 1] * y + at[..., 2]
    hit = (values[:, :3].amin(dim=1) >= -_ON_EDGE) & (values[:, 3] > 0)
    # Positive floats are in the order of their bits: nearness above, the triangle below.
    key = values[:, 3][hit].view(torch.int32).long() << 32 | triangle[hit] % count
    pixel = ((triangle // count * size + row) * size + column)[hit]
    best = torch.full((views * size * size,), -1, dtype=torch.int64, device=pairs.device)
    best = best.scatter_reduce(0, pixel, key, "amax").view(views, size, size)
    found = (best >> 32).clamp_min(0).int().view(torch.float32)
    return torch.where(best >= 0, best & 0xFFFFFFFF, -1), found


def _boxes(corners: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """(V, T, 2) the first column and row of a triangle's box, and those after the last."""
    depth = corners[..., 2:]
    before = (depth > 1e-3).all(dim=2)
    places = (corners[..., :2] / depth.clamp_min(1e-3) + 1) / 2 * size - 0.5
    low = torch.where(before, places.amin(dim=2), 0.0).floor().clamp(0, size)
    high = torch.where(before, places.amax(dim=2) + 1, size).ceil().clamp(0, size)
    return low.long(), high.long()


def _weights(corners: Tensor) -> Tensor:
    """(V, T, 3, 3) rows that give a corner's weight of a pixel; 0 for triangles seen edge-on."""
    a, b, c = corners.unbind(dim=2)
    rows = torch.stack([torch.linalg.cross(*two) for two in ((b, c), (c, a), (a, b))], dim=2)
    volume = (a * rows[:, :, 0]).sum(dim=-1)[..., None, None]
    return torch.where(volume.abs() > 1e-12, rows / volume, 0.0)
