"""Rasterization: a z-buffer in plain torch, for rendering meshes and baking textures."""

from __future__ import annotations

import torch
from torch import Tensor

from ..cameras import Cameras

_CANDIDATES = 1_000_000  # pixels tested at once
_SLACK = 0.01  # extra width in pixels that is tested on both sides of a triangle's row


def on_screen(vertices: Tensor, cameras: Cameras, size: int) -> Tensor:
    """Project points with one camera.

    Args:
        vertices: (V, 3) in world coordinates.
        cameras: one camera.
        size: side length of the image in pixels.

    Returns:
        (V, 3): x and y in pixels, and inverse depth. Pixel centres have integer coordinates. The
        inverse depth is negative behind the camera.
    """
    c2w, intrinsics = cameras.c2w[0], cameras.intrinsics_normalized[0]
    in_camera = (vertices - c2w[:3, 3]) @ c2w[:3, :3]  # x right, y up, z backward
    depth = -in_camera[:, 2]
    x = (in_camera[:, 0] / depth * intrinsics[0, 0] + intrinsics[0, 2]) * size - 0.5
    y = (-in_camera[:, 1] / depth * intrinsics[1, 1] + intrinsics[1, 2]) * size - 0.5
    return torch.stack([x, y, 1 / depth], dim=1)


def visible_triangles(screen: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Find the nearest triangle at each pixel.

    Triangles are filled row by row, so time and memory are proportional to the pixels covered.

    Args:
        screen: (F, 3, 3) corners: x and y in pixels, and inverse depth. In parallel projection, the
            third may be any positive value that decreases linearly with depth. Triangles with a
            corner at 0 or below are skipped.
        size: side length of the image in pixels.

    Returns:
        triangle: (size * size,) index of the nearest triangle, or -1.
        barycentric: (size * size, 3) barycentric coordinates of the pixel in that triangle.
    """
    nearest = screen.new_zeros(size * size)
    triangle = torch.full((size * size,), -1, device=screen.device)
    barycentric = screen.new_zeros(size * size, 3)
    low = screen[..., :2].amin(dim=1).ceil().clamp_min(0).long()
    high = screen[..., :2].amax(dim=1).floor().clamp_max(size - 1).long()
    shown = ((high >= low).all(dim=1) & (screen[..., 2] > 0).all(dim=1)).nonzero().squeeze(1)
    for chunk in _chunks(shown, (high - low + 1)[shown, 1]):
        face, row = _counted(chunk, (high - low + 1)[chunk, 1])
        row = row + low[face, 1]
        first, last = _span(screen[face, :, :2].double(), row.double())
        first = (first - _SLACK).ceil().clamp_min(0).long()
        last = (last + _SLACK).floor().clamp_max(size - 1).long()
        widths = (last - first + 1).clamp_min(0)
        for rows in _chunks(torch.arange(len(face), device=face.device), widths):
            of_row, x = _counted(rows, widths[rows])
            x = x + first[of_row]
            owner, y = face[of_row], row[of_row]
            inside, weight = _barycentric(screen[owner, :, :2], torch.stack([x, y], dim=1))
            owner, weight = owner[inside], weight[inside]
            pixel = (y * size + x)[inside]
            closeness = (weight * screen[owner, :, 2]).sum(dim=1)
            nearest.scatter_reduce_(0, pixel, closeness, "amax")
            front = closeness >= nearest[pixel]
            triangle[pixel[front]] = owner[front]
            # On a shared edge two triangles are equally near and either may have been written. Keep
            # the coordinates that belong to that one.
            chosen = front & (triangle[pixel] == owner)
            barycentric[pixel[chosen]] = weight[chosen]
    return triangle, barycentric


def _chunks(items: Tensor, counts: Tensor) -> tuple[Tensor, ...]:
    """Group items so that their counts add up to about `_CANDIDATES`."""
    groups = torch.div(counts.cumsum(0), _CANDIDATES, rounding_mode="floor")
    return items.split(groups.unique_consecutive(return_counts=True)[1].tolist())


def _counted(items: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Repeat each item `count` times; also number its copies 0, 1, ..."""
    before = counts.cumsum(0) - counts
    return (
        items.repeat_interleave(counts),
        torch.arange(int(counts.sum()), device=counts.device) - before.repeat_interleave(counts),
    )


def _span(corners: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest and largest x (N,) of triangles (N, 3, 2), each in one row (N,)."""
    ends = corners.roll(-1, dims=1)
    rise = ends[..., 1] - corners[..., 1]
    share = (row[:, None] - corners[..., 1]) / rise
    # A level edge never crosses: its share is infinite or NaN.
    crosses = (share >= 0) & (share <= 1)
    x = corners[..., 0] + share * (ends[..., 0] - corners[..., 0])
    first = torch.where(crosses, x, torch.inf).amin(dim=1)
    last = torch.where(crosses, x, -torch.inf).amax(dim=1)
    level = ((rise == 0) & (row[:, None] == corners[..., 1])).any(dim=1)
    first = torch.where(level, corners[..., 0].amin(dim=1), first)
    last = torch.where(level, corners[..., 0].amax(dim=1), last)
    return first.nan_to_num(posinf=1e9), last.nan_to_num(neginf=-1e9)


def _barycentric(corners: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Return whether points (N, 2) lie in triangles (N, 3, 2), and their weights (N, 3) there."""
    a, b, c = corners.unbind(dim=1)

    def area(p: Tensor, q: Tensor, r: Tensor) -> Tensor:
        return (q[:, 0] - p[:, 0]) * (r[:, 1] - p[:, 1]) - (q[:, 1] - p[:, 1]) * (r[:, 0] - p[:, 0])

    whole = area(a, b, c)
    weights = (
        torch.stack([area(points, b, c), area(a, points, c), area(a, b, points)], dim=1)
        / whole[:, None]
    )
    return (weights >= 0).all(dim=1) & (whole != 0), weights


class Silhouette:
    """Rendering of the pixels that triangles (F, 3) cover, without depth.

    Triangles are turned to face the camera. Edges between two of them then cancel out, so only
    those at the outline are filled, row by row.
    """

    def __init__(self, faces: Tensor) -> None:
        ends = torch.stack([faces, faces.roll(-1, dims=1)], dim=-1).view(-1, 2)
        self.faces = faces
        self.edges, self.owner = ends.sort(dim=1).values.unique(dim=0, return_inverse=True)
        self.along = (ends[:, 0] < ends[:, 1]).float().view(-1, 3) * 2 - 1

    def covered(self, screen: Tensor, size: int) -> Tensor:
        """Return which pixels are covered (size, size), for vertices as `on_screen` returns them.

        Triangles with a corner behind the camera are skipped.
        """
        a, b, c = screen[self.faces].unbind(dim=1)
        in_front = torch.minimum(a[:, 2], torch.minimum(b[:, 2], c[:, 2])) > 0
        b, c = b - a, c - a
        turned = (b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0]).sign() * in_front
        turned = turned[:, None] * self.along
        count = screen.new_zeros(len(self.edges)).index_add_(0, self.owner, turned.flatten())
        outline = count.nonzero()[:, 0]
        x, y = screen[self.edges[outline], :2].unbind(dim=-1)
        first, past = y.ceil().clamp(0, size).long().aminmax(dim=1)
        edge, row = _counted(torch.arange(len(outline), device=x.device), past - first)
        row = row + first[edge]
        (x0, x1), (y0, y1) = x[edge].T, y[edge].T
        column = (x0 + (row - y0) / (y1 - y0) * (x1 - x0)).ceil().clamp(0, size).long()
        layers = screen.new_zeros(size, size + 1)
        layers.index_put_((row, column), count[outline][edge] * (y1 - y0).sign(), accumulate=True)
        return layers.cumsum(dim=1)[:, :size].abs() > 0.5
