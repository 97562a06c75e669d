"""Render densities by deterministic volume rendering."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..cameras import Cameras
from ..fields.field import DensityField
from ..progress import Progress
from .frames import Rendering, box_interval

_OUTSIDE = -torch.finfo(torch.float32).max / 3  # raw density outside the box; sums stay finite
_EPSILON = 1e-5
# TripoSR shrinks the box slightly, and ignores rays that cross less of it than this length.
_EVEN_BOX, _SHORTEST = 0.999, 0.01


class _Rays(NamedTuple):
    """R rays: origins and directions (R, 3), and the distances (R,) to a box and out of it."""

    origins: Tensor
    directions: Tensor
    start: Tensor
    end: Tensor


def render_density(
    field: DensityField,
    cameras: Cameras,
    size: int,
    chunk_size: int,
    progress: Progress,
    check: Callable[[], None],
) -> Rendering:
    """Render a density; see `render_field`.

    Source: Mildenhall et al., NeRF (ECCV 2020), sections 4 and 5.2; Chan et al., EG3D (CVPR 2022);
    midpoint rule and white background as in InstantMesh (arXiv 2404.07191). Nothing is random: the
    jitter is always 0.5, and importance samples are at evenly spaced quantiles.
    """
    march, samples = _march_evenly, field.samples_per_ray
    if not field.even_steps:
        march, samples = _march, samples // 2
    missed = _for_missed_rays(cameras, size, field)
    images = []
    nearest, farthest = float("inf"), float("-inf")
    for camera in range(len(cameras)):
        rays = _rays_in_box(cameras[[camera]], size, field, missed)
        chunks = []
        rays_at_once = max(1, chunk_size // samples)
        for some in zip(*(each.split(rays_at_once) for each in rays), strict=True):
            check()
            chunks.append(march(field, _Rays(*some), samples, chunk_size))
        image = torch.cat(chunks).T.unflatten(1, (size, size)).cpu()  # (7, H, W)
        nearest = min(nearest, float(image[5].amin()))
        farthest = max(farthest, float(image[6].amax()))
        images.append(image[:5])
        progress(camera + 1, len(cameras), image[None, :3].clamp(0, 1))
    stacked = torch.stack(images)
    depth = stacked[:, 4:5].nan_to_num(float("inf")).clamp(nearest, farthest)
    return Rendering(rgb=stacked[:, :3], depth=depth, weight=stacked[:, 3:4])


def _for_missed_rays(cameras: Cameras, size: int, field: DensityField) -> tuple[float, float]:
    """Return the interval to use for rays that miss the box.

    It runs from the smallest to the largest entry distance of all rays that hit the box.
    """
    low, high = float("inf"), float("-inf")
    for camera in range(len(cameras)):
        origins, directions = (r[0].to(field.device) for r in cameras[[camera]].rays(size, size))
        start, end = box_interval(origins, directions, -field.half_side, field.half_side)
        entries = start[(end >= start) & (end > 0)]
        if len(entries):
            low, high = min(low, float(entries.amin())), max(high, float(entries.amax()))
    return low, high


def _rays_in_box(
    camera: Cameras, size: int, field: DensityField, missed: tuple[float, float]
) -> _Rays:
    """Return one camera's rays."""
    origins, directions = (r[0].to(field.device) for r in camera.rays(size, size))
    half = field.half_side * (_EVEN_BOX if field.even_steps else 1)
    start, end = box_interval(origins, directions, -half, half)
    hit = (end >= start) & (end > 0)
    if missed[0] <= missed[1]:
        start, end = torch.where(hit, start, missed[0]), torch.where(hit, end, missed[1])
    return _Rays(origins, directions, start, end)


def _march(field: DensityField, rays: _Rays, samples: int, chunk_size: int) -> Tensor:
    """March along R rays.

    Returns:
        (R, 7): colour, weight, depth, and the smallest and largest sample depth.
    """
    start, length = rays.start[:, None], (rays.end - rays.start)[:, None]
    steps = torch.linspace(0, 1, samples, device=start.device)
    coarse = start + length * (steps + 0.5 / (samples - 1))  # (R, n)
    coarse_values = _evaluate(field, rays, coarse, chunk_size)
    fine = _importance_samples(coarse, _weights(field.density, coarse_values[..., 3], coarse))
    fine_values = _evaluate(field, rays, fine, chunk_size)
    depths, order = torch.cat([coarse, fine], dim=1).sort(dim=1)
    values = torch.cat([coarse_values, fine_values], dim=1)
    values = values.gather(1, order[..., None].expand(-1, -1, 4))
    weights = _weights(field.density, values[..., 3], depths)  # (R, 2 n - 1)
    colors = (values[:, :-1, :3] + values[:, 1:, :3]) / 2
    return _composited(weights, colors, (depths[:, :-1] + depths[:, 1:]) / 2, depths)


def _march_evenly(field: DensityField, rays: _Rays, samples: int, chunk_size: int) -> Tensor:
    """March along rays like `_march`, but with evenly spaced samples of equal step length.

    Rays that miss the box, or cross less than `_SHORTEST` of it, get weight 0.

    Source: Tochilkin et al., TripoSR (arXiv 2403.02151).
    """
    start, length = rays.start[:, None], (rays.end - rays.start)[:, None]
    middles = (torch.arange(samples, device=start.device) + 0.5) / samples
    depths = start + length * middles  # (R, n)
    values = _evaluate(field, rays, depths, chunk_size)
    alpha = 1 - torch.exp(-field.density(values[..., 3]) / samples)
    weights = _visible(alpha * (length > _SHORTEST))
    return _composited(weights, values[..., :3], depths, depths)


def _composited(weights: Tensor, colors: Tensor, depths: Tensor, ends: Tensor) -> Tensor:
    """Add up n intervals of R rays in front of white; returns (R, 7) as `_march` does.

    Args:
        weights: (R, n) contributions to the pixel.
        colors: (R, n, 3).
        depths: (R, n).
        ends: (R, m) depths of all samples, ascending.
    """
    total = weights.sum(dim=1, keepdim=True)
    rgb = (weights[..., None] * colors).sum(dim=1) + 1 - total
    depth = (weights * depths).sum(dim=1, keepdim=True)
    return torch.cat([rgb, total, depth, ends[:, :1], ends[:, -1:]], dim=1)


def _evaluate(field: DensityField, rays: _Rays, depths: Tensor, chunk_size: int) -> Tensor:
    """Return (R, n, 4) colour and raw density at depths (R, n); space outside the box is empty."""
    points = rays.origins[:, None] + depths[..., None] * rays.directions[:, None]
    raw_density, colors = field.values_and_colors(points.flatten(0, 1), chunk_size)
    values = torch.cat([colors, raw_density[:, None]], dim=1).view(*depths.shape, 4)
    outside = (points.abs() > field.half_side).any(dim=-1, keepdim=True)
    return torch.where(outside, values.new_tensor([0.0, 0.0, 0.0, _OUTSIDE]), values)


def _weights(density_of: Callable[[Tensor], Tensor], raw_density: Tensor, depths: Tensor) -> Tensor:
    """Return (R, n - 1): the contribution of each interval to the pixel."""
    density = density_of((raw_density[:, :-1] + raw_density[:, 1:]) / 2)
    return _visible(1 - torch.exp(-density * depths.diff(dim=1)))


def _visible(alpha: Tensor) -> Tensor:
    """Multiply opacities (R, n) by the transmittance of all intervals before them."""
    passed = torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha + 1e-10], dim=1).cumprod(dim=1)
    return alpha * passed[:, :-1]


def _importance_samples(depths: Tensor, weights: Tensor) -> Tensor:
    """Sample depths (R, n) by the inverse cumulative distribution of weights (R, n - 1)."""
    smooth = F.avg_pool1d(F.max_pool1d(weights[:, None], 2, stride=1, padding=1), 2, stride=1)
    kept = smooth[:, 0, 1:-1] + 0.01 + _EPSILON
    cdf = F.pad((kept / kept.sum(dim=1, keepdim=True)).cumsum(dim=1), (1, 0))  # (R, n - 2)
    middles = (depths[:, :-1] + depths[:, 1:]) / 2
    wanted = torch.linspace(0, 1, depths.shape[1], device=depths.device).repeat(len(depths), 1)
    place = torch.searchsorted(cdf, wanted, right=True)
    above, below = place.clamp_max(cdf.shape[1] - 1), (place - 1).clamp_min(0)
    low, high = cdf.gather(1, below), cdf.gather(1, above)
    span = torch.where(high - low < _EPSILON, 1.0, high - low)
    left, right = middles.gather(1, below), middles.gather(1, above)
    return left + (wanted - low) / span * (right - left)
