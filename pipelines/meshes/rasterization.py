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


def visible_triangles(screen: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Find the nearest triangle at each pixel.

    Triangles are filled row by row, so time and memory are proportional to the pixels covered.

    Args:
        screen: (F, 3, 3) corners: x and y in pixels, and inverse depth. In parallel projection, the
            third may be any positive value that decreases linearly with depth. Triangles with a
            corner at 0 or below are skipped.
        size: side length of the image in pixels.

    Returns:
        pixel: (N,) indices of the pixels that triangles cover, row by row, ascending.
        triangle: (N,) index of the nearest triangle.
        barycentric: (N, 3) barycentric coordinates of the pixel in that triangle.
    """
    x, y, closeness = screen.permute(2, 1, 0).contiguous()  # (3 corners, F) each
    nearest = screen.new_zeros(size * size)
    triangle = torch.full((size * size,), -1, device=screen.device)
    top, heights = _pixels_between(y.amin(dim=0), y.amax(dim=0), size)
    _, widths = _pixels_between(x.amin(dim=0), x.amax(dim=0), size)
    shown = (widths > 0) & (heights > 0) & (closeness > 0).all(dim=0)
    shown = shown.nonzero().squeeze(1)
    for chunk in _chunks(shown, heights[shown]):
        edges = _edges(x.index_select(1, chunk), y.index_select(1, chunk))
        face, row = _counted(torch.arange(len(chunk), device=chunk.device), heights[chunk])
        row += top.index_select(0, chunk).index_select(0, face)
        first, last = _span(edges, face, row)
        first, widths = _pixels_between(first - _SLACK, last + _SLACK, size)
        for rows in _chunks(torch.arange(len(face), device=face.device), widths):
            of_row, column = _counted(rows, widths[rows])
            column += first.index_select(0, of_row)
            line = row.index_select(0, of_row)
            owner = chunk.index_select(0, face.index_select(0, of_row))
            weights = _barycentric(x, y, owner, column, line)
            inside = (weights.amin(dim=0) >= 0).nonzero().squeeze(1)
            owner = owner.index_select(0, inside)
            pixel = (line * size + column).index_select(0, inside)
            found = weights.index_select(1, inside) * closeness.index_select(1, owner)
            found = found.sum(dim=0)
            nearest.scatter_reduce_(0, pixel, found, "amax")
            front = (found >= nearest[pixel]).nonzero().squeeze(1)
            triangle[pixel[front]] = owner[front]
    pixel = (triangle >= 0).nonzero().squeeze(1)
    triangle = triangle[pixel]
    return pixel, triangle, _barycentric(x, y, triangle, pixel % size, pixel // size).T


def _chunks(items: Tensor, counts: Tensor) -> tuple[Tensor, ...]:
    """Group items so that their counts add up to about `_CANDIDATES`."""
    groups = torch.div(counts.cumsum(0), _CANDIDATES, rounding_mode="floor")
    return items.split(groups.unique_consecutive(return_counts=True)[1].tolist())


def _counted(items: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Repeat each item `count` times; also number its copies 0, 1, ..."""
    before = counts.cumsum(0) - counts
    of = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    number = torch.arange(len(of), device=counts.device)
    return items.index_select(0, of), number - before.index_select(0, of)


def _edges(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Return what `_span` needs of triangles with corners at x and y (3, F).

    Returns:
        three tables (3, F) of lines from the top corner to the bottom one, from the top one to the
        middle one, and from that to the bottom one: x and y of the start, and the slope dx / dy, 0
        for level lines. Then y (F,) of the middle corner.
    """
    xs, ys = list(x), list(y)
    for i, j in ((0, 1), (1, 2), (0, 1)):  # sort the corners by y
        swap = ys[i] > ys[j]
        xs[i], xs[j] = torch.where(swap, xs[j], xs[i]), torch.where(swap, xs[i], xs[j])
        ys[i], ys[j] = torch.minimum(ys[i], ys[j]), torch.maximum(ys[i], ys[j])
    x, y = torch.stack(xs).double(), torch.stack(ys).double()
    start, end = [0, 0, 1], [2, 1, 2]
    slope = (x[end] - x[start]) / (y[end] - y[start])
    return x[start], y[start], torch.where(slope.isfinite(), slope, 0.0), y[1]


def _span(edges: tuple[Tensor, ...], face: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest and largest x (N,) of triangles in one row (N,) each.

    Args:
        edges: of F triangles, see `_edges`.
        face: (N,) indices of triangles.
        row: (N,) rows that the triangles reach.
    """
    x, y, slope, middle = edges
    upper = face + x.shape[1]  # index into the flat tables
    shorter = torch.where(row < middle.index_select(0, face), upper, upper + x.shape[1])
    long, short = (
        (row - y.view(-1).index_select(0, line)) * slope.view(-1).index_select(0, line)
        + x.view(-1).index_select(0, line)
        for line in (face, shorter)
    )
    return torch.minimum(long, short), torch.maximum(long, short)


def _pixels_between(low: Tensor, high: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the first integer of ranges (N,) within [0, size), and the number of them."""
    first = low.ceil().clamp_min(0).long()
    return first, (high.floor().clamp_max(size - 1).long() - first + 1).clamp_min(0)


def _barycentric(x: Tensor, y: Tensor, owner: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """Return barycentric coordinates (3, N); NaN or infinite in triangles without area.

    Args:
        x: (3, F) x of the corners in pixels.
        y: (3, F) y of the corners in pixels.
        owner: (N,) triangle of each pixel.
        column: (N,) columns of the pixels.
        row: (N,) rows of the pixels.
    """
    x = x.index_select(1, owner) - column
    y = y.index_select(1, owner) - row
    weights = torch.stack([x[i] * y[j] - y[i] * x[j] for i, j in ((1, 2), (2, 0), (0, 1))])
    return weights / weights.sum(dim=0)


class Silhouette:
    """Finds the pixels that triangles (F, 3) cover, without depth.

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
