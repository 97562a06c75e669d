"""Render signed distances by ray casting: find where each ray enters the surface."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..cameras import Cameras
from ..fields.field import GREY, SignedDistanceField
from ..fields.near_surface import costly_stride, sample_near_surface
from ..progress import Progress
from .frames import Rendering, box_interval

_GRID = 129  # points along an edge of the grid in which rays search for the surface
_STEPS = 160  # samples along a ray through the box
_REFINEMENTS = 4
_SUPERSAMPLING = 2


def render_signed_distance(
    field: SignedDistanceField,
    cameras: Cameras,
    size: int,
    chunk_size: int,
    progress: Progress,
    check: Callable[[], None],
) -> Rendering:
    """Render a signed distance; see `render_field`.

    Each ray finds its first sample inside the object on a coarse grid, then refines the crossing
    with the field itself. Parts thinner than a cell of that grid (1/128 of the field's side) may be
    missed.
    """
    axis = torch.linspace(-field.half_side, field.half_side, _GRID, device=field.device)

    def checked(*_: object, **__: object) -> None:
        check()

    grid = field.values_on_grid(axis, axis, axis)
    stride = costly_stride(_GRID - 1) if field.costly else 1
    volume = sample_near_surface(
        grid, 0.0, stride, chunk_size, costly=field.costly, progress=checked
    )
    box = _box_around(volume, axis)
    clearance = _clearance(volume)
    if volume.device.type == "mps":
        volume = volume.cpu()  # MPS cannot sample volumes before PyTorch 2.9
    images = []
    for camera in range(len(cameras)):
        origins, directions = (
            r[0].to(axis.device)
            for r in cameras[[camera]].rays(size * _SUPERSAMPLING, size * _SUPERSAMPLING)
        )
        rays_at_once = max(1, chunk_size // 2)
        chunks = []
        for o, d in zip(origins.split(rays_at_once), directions.split(rays_at_once), strict=True):
            check()
            chunks.append(_cast(field, volume, clearance, axis, box, o, d, chunk_size))
        image = torch.cat(chunks).T.unflatten(1, (size * _SUPERSAMPLING,) * 2)
        images.append(F.avg_pool2d(image, _SUPERSAMPLING).cpu())
        progress(camera + 1, len(cameras), images[-1][None, :3].clamp(0, 1))
    stacked = torch.stack(images)
    return Rendering(rgb=stacked[:, :3], depth=stacked[:, 4:5], weight=stacked[:, 3:4])


def _box_around(volume: Tensor, axis: Tensor) -> tuple[Tensor, Tensor]:
    """Return two corners of the bounding box of all inside points and their neighbours.

    If no point is inside, return an empty box at the origin.
    """
    inside = (volume > 0).nonzero()
    if not len(inside):
        return torch.zeros_like(axis[:3]), torch.zeros_like(axis[:3])
    low, high = inside.amin(dim=0) - 1, inside.amax(dim=0) + 1
    return axis[low.clamp_min(0)], axis[high.clamp_max(len(axis) - 1)]


def _cast(
    field: SignedDistanceField,
    volume: Tensor,
    clearance: Tensor,
    axis: Tensor,
    box: tuple[Tensor, Tensor],
    origins: Tensor,
    directions: Tensor,
    chunk_size: int,
) -> Tensor:
    """Cast R rays; returns (R, 5): colour, weight and depth.

    A ray that hits nothing is white, and its depth is the distance to the world's origin.
    """
    result = F.pad(torch.ones_like(origins), (0, 2))
    result[:, 4] = origins.norm(dim=1)
    start, end = box_interval(origins, directions, *box)
    start = start.clamp_min(0)
    crossing = (end > start).nonzero()[:, 0]
    origins, directions, start, end = (t[crossing] for t in (origins, directions, start, end))
    hit, first = _first_inside(volume, clearance, axis, origins, directions, start, end)
    origins, directions = origins[hit], directions[hit]
    # The steps around the surface, and the values there.
    near, far = (_depth(start[hit], end[hit], step) for step in ((first - 1).clamp_min(0), first))
    outer, inner = (
        _sample(volume, (origins + depth[:, None] * directions) / axis[-1]) for depth in (near, far)
    )
    for _ in range(_REFINEMENTS):
        middle = near + _share(outer, inner) * (far - near)
        value = field.values(origins + middle[:, None] * directions, chunk_size)
        entered = value > 0
        near, outer = torch.where(entered, near, middle), torch.where(entered, outer, value)
        far, inner = torch.where(entered, middle, far), torch.where(entered, value, inner)
    depth = near + _share(outer, inner) * (far - near)
    colors = field.colors(origins + depth[:, None] * directions, chunk_size)
    if colors is None:
        colors = torch.full_like(directions, GREY)
    seen = torch.stack([torch.ones_like(depth), depth], dim=1)
    result[crossing[hit]] = torch.cat([colors, seen], dim=1)
    return result


def _share(outer: Tensor, inner: Tensor) -> Tensor:
    """Return where a linear function between an outer and an inner value is 0, in [0.05, 0.95]."""
    return (outer / (outer - inner)).nan_to_num(0.5).clamp(0.05, 0.95)


def _depth(start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    return start + (end - start) * (step / (_STEPS - 1))


def _sample(volume: Tensor, points: Tensor) -> Tensor:
    """Sample a volume trilinearly at points (N, 3) in [-1, 1]."""
    # grid_sample expects the coordinate of the volume's last axis first.
    place = points.flip(-1)[None, None, None].to(volume.device)
    found = F.grid_sample(volume[None, None], place, align_corners=True, padding_mode="border")
    return found[0, 0, 0, 0].to(points.device)


def _clearance(volume: Tensor) -> Tensor:
    """Return the distance in cells of each point of a volume from the nearest inside point.

    The distance between two points is their largest difference along any axis.
    """
    from scipy.ndimage import distance_transform_cdt  # slow to import

    distance = distance_transform_cdt((volume <= 0).cpu().numpy(), metric="chessboard")
    return torch.from_numpy(distance).to(volume.device)


def _first_inside(
    volume: Tensor,
    clearance: Tensor,
    axis: Tensor,
    origins: Tensor,
    directions: Tensor,
    start: Tensor,
    end: Tensor,
) -> tuple[Tensor, Tensor]:
    """Find the first of `_STEPS` samples that is inside along each of R rays.

    Samples that are farther than a cell from inside points are outside, so they are skipped.

    Returns:
        hit: (N,) rays that have such a sample.
        first: (N,) index of that sample.
    """
    scale = (len(axis) - 1) / (2 * float(axis[-1]))  # cells in a unit of length
    # Cells between neighbouring samples.
    stride = (end - start) / (_STEPS - 1) * directions.abs().amax(dim=1) * scale
    first = torch.full_like(start, _STEPS, dtype=torch.long)
    step = torch.zeros_like(first)
    ray = torch.arange(len(start), device=start.device)
    while len(ray):
        depth = _depth(start[ray], end[ray], step)
        points = origins[ray] + depth[:, None] * directions[ray]
        x, y, z = ((points + axis[-1]) * scale).round().long().clamp(0, len(axis) - 1).unbind(1)
        clear = clearance[x, y, z]
        # The eight points around a sample are within 1.5 cells of the nearest point of the grid.
        close = (clear < 2).nonzero()[:, 0]
        entered = close[_sample(volume, points[close] / axis[-1]) > 0]
        first[ray[entered]] = step[entered]
        step = step + ((clear - 1.5) / stride[ray]).long().clamp(1, _STEPS)
        step[entered] = _STEPS
        kept = step < _STEPS
        ray, step = ray[kept], step[kept]
    hit = (first < _STEPS).nonzero()[:, 0]
    return hit, first[hit]
