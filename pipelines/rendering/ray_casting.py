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
    volume = sample_near_surface(grid, 0.0, stride, chunk_size, progress=checked)
    box = _box_around(volume, axis)
    if volume.device.type == "mps":
        volume = volume.cpu()  # MPS cannot sample volumes before PyTorch 2.9
    images = []
    for camera in range(len(cameras)):
        origins, directions = (
            r[0].to(axis.device)
            for r in cameras[[camera]].rays(size * _SUPERSAMPLING, size * _SUPERSAMPLING)
        )
        # A ray has many samples, but sampling the grid needs less memory per point than the field.
        rays_at_once = max(1, chunk_size // 16)
        chunks = []
        for o, d in zip(origins.split(rays_at_once), directions.split(rays_at_once), strict=True):
            check()
            chunks.append(_cast(field, volume, axis, box, o, d, chunk_size))
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
    return (
        axis[(inside.amin(dim=0) - 1).clamp_min(0)],
        axis[(inside.amax(dim=0) + 1).clamp_max(len(axis) - 1)],
    )


def _cast(
    field: SignedDistanceField,
    volume: Tensor,
    axis: Tensor,
    box: tuple[Tensor, Tensor],
    origins: Tensor,
    directions: Tensor,
    chunk_size: int,
) -> Tensor:
    """Cast R rays; returns (R, 5): colour, weight and depth.

    A ray that hits nothing is white, and its depth is the distance to the world's origin.
    """
    result = torch.cat(
        [
            torch.ones_like(origins),
            torch.zeros_like(origins[:, :1]),
            origins.norm(dim=1, keepdim=True),
        ],
        dim=1,
    )
    start, end = box_interval(origins, directions, *box)
    crossing = (end > start.clamp_min(0)).nonzero()[:, 0]
    origins = origins[crossing]
    directions = directions[crossing]
    start = start[crossing].clamp_min(0)
    end = end[crossing]
    steps = torch.linspace(0, 1, _STEPS, device=start.device)
    depths = start[:, None] + (end - start)[:, None] * steps  # (R, n)
    points = origins[:, None] + depths[..., None] * directions[:, None]
    # grid_sample expects the coordinate of the volume's last axis first.
    place = (points / axis[-1]).flip(-1)[None, None].to(volume.device)
    found = F.grid_sample(volume[None, None], place, align_corners=True, padding_mode="border")[
        0, 0, 0
    ].to(points.device)  # (R, n)
    inside = found > 0
    hit = inside.any(dim=1)
    origins, directions, depths, found = origins[hit], directions[hit], depths[hit], found[hit]
    first = inside[hit].int().argmax(dim=1, keepdim=True)
    before = (first - 1).clamp_min(0)
    near, far = depths.gather(1, before)[:, 0], depths.gather(1, first)[:, 0]
    outer, inner = found.gather(1, before)[:, 0], found.gather(1, first)[:, 0]
    for _ in range(_REFINEMENTS):
        share = (outer / (outer - inner)).nan_to_num(0.5).clamp(0.05, 0.95)
        middle = near + share * (far - near)
        value = field.values(origins + middle[:, None] * directions, chunk_size)
        entered = value > 0
        near, outer = torch.where(entered, near, middle), torch.where(entered, outer, value)
        far, inner = torch.where(entered, middle, far), torch.where(entered, value, inner)
    depth = (near + far) / 2
    colors = field.colors(origins + depth[:, None] * directions, chunk_size)
    if colors is None:
        colors = torch.full_like(directions, GREY)
    result[crossing[hit]] = torch.cat(
        [colors, torch.ones_like(depth)[:, None], depth[:, None]], dim=1
    )
    return result
