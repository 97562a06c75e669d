"""Triangles to pixels: a z-buffer in plain torch, for pictures of meshes and for their textures."""

from __future__ import annotations

import torch
from torch import Tensor

from ..cameras import Cameras

_CANDIDATES = 4_000_000  # pixels tested at once


def on_screen(vertices: Tensor, cameras: Cameras, size: int) -> Tensor:
    """(V, 3) x and y in pixels and inverse depth of points (V, 3), as one camera sees them.

    Pixel centres have whole coordinates. Behind the camera the inverse depth is below 0.

    Args:
        vertices: in the world.
        cameras: one.
        size: pixels of a side of the picture.
    """
    c2w, intrinsics = cameras.c2w[0], cameras.intrinsics_normalized[0]
    in_camera = (vertices - c2w[:3, 3]) @ c2w[:3, :3]  # x right, y up, z backward
    depth = -in_camera[:, 2]
    x = (in_camera[:, 0] / depth * intrinsics[0, 0] + intrinsics[0, 2]) * size - 0.5
    y = (-in_camera[:, 1] / depth * intrinsics[1, 1] + intrinsics[1, 2]) * size - 0.5
    return torch.stack([x, y, 1 / depth], dim=1)


def visible_triangles(screen: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The nearest triangle at each pixel (-1: none) and the pixel's barycentric coordinates in it.

    Args:
        screen: (F, 3, 3) corners as x, y in pixels and inverse depth.
        size: pixels of a side of the picture.
    """
    nearest = torch.zeros(size * size)
    triangle = torch.full((size * size,), -1)
    barycentric = torch.zeros(size * size, 3)
    low = screen[..., :2].amin(dim=1).ceil().clamp_min(0).long()
    high = screen[..., :2].amax(dim=1).floor().clamp_max(size - 1).long()
    span = (high - low + 1).amax(dim=1)
    on_screen = ((high >= low).all(dim=1) & (screen[..., 2] > 0).all(dim=1)).nonzero().squeeze(1)
    # Triangles of like size are tested together: each against a square of pixels that holds it.
    sizes = torch.pow(2, span[on_screen].double().log2().ceil()).long()
    for side in sizes.unique().tolist():
        offsets = torch.stack(
            torch.meshgrid(torch.arange(side), torch.arange(side), indexing="xy"), dim=-1
        ).view(-1, 2)
        for chunk in on_screen[sizes == side].split(max(1, _CANDIDATES // side**2)):
            pixels = low[chunk, None] + offsets  # (N, side ** 2, 2)
            inside, weights = _barycentric(screen[chunk, None, :, :2], pixels)
            inside &= (pixels < size).all(dim=-1)
            owner, candidate = inside.nonzero().unbind(dim=1)
            pixel = pixels[owner, candidate] @ torch.tensor([1, size])
            weight = weights[owner, candidate]
            closeness = (weight * screen[chunk[owner], :, 2]).sum(dim=1)
            nearest.scatter_reduce_(0, pixel, closeness, "amax")
            front = closeness >= nearest[pixel]
            triangle[pixel[front]] = chunk[owner[front]]
            # Where two are equally near, as on the edge between them, one of them is there now, and
            # its coordinates go with it.
            chosen = front & (triangle[pixel] == chunk[owner])
            barycentric[pixel[chosen]] = weight[chosen]
    return triangle, barycentric


def _barycentric(corners: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Whether points (N, P, 2) lie in triangles (N, 1, 3, 2), and their coordinates (N, P, 3)."""
    a, b, c = corners.unbind(dim=2)

    def area(p: Tensor, q: Tensor, r: Tensor) -> Tensor:
        return (q[..., 0] - p[..., 0]) * (r[..., 1] - p[..., 1]) - (q[..., 1] - p[..., 1]) * (
            r[..., 0] - p[..., 0]
        )

    whole = area(a, b, c)
    weights = (
        torch.stack([area(points, b, c), area(a, points, c), area(a, b, points)], dim=-1)
        / whole[..., None]
    )
    return (weights >= 0).all(dim=-1) & (whole != 0), weights
