"""Mesh to pictures: a z-buffer in plain torch, for previews."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..cameras import Cameras, cameras_around
from ..mesh import Mesh

_GREY = 0.7
_AMBIENT = 0.55
_SUPERSAMPLING = 2
_CANDIDATES = 4_000_000  # pixels tested at once


def render_mesh(mesh: Mesh, cameras: Cameras, size: int) -> Tensor:
    """Pictures of a mesh under a light at the camera, on white.

    Args:
        mesh: with vertex colours, else it is grey. The side of a triangle that faces inward is drawn dark.
        cameras: N, outside the mesh.
        size: pixels of a side.

    Returns:
        (N, 3, size, size) float32 in [0, 1].
    """
    fine = size * _SUPERSAMPLING
    pictures = torch.stack([_render(mesh, cameras.c2w[i], cameras.intrinsics_normalized[i], fine) for i in range(len(cameras))])
    return F.avg_pool2d(pictures, _SUPERSAMPLING)


def preview_sheet(mesh: Mesh, size: int = 384) -> Tensor:
    """(3, size, 3 * size): the mesh from the front, the side and the back, a little from above."""
    views = render_mesh(mesh, cameras_around([20.0, 110.0, 200.0], [15.0] * 3, 4.0, 30.0), size)
    return torch.cat(list(views), dim=-1)


def _render(mesh: Mesh, c2w: Tensor, intrinsics: Tensor, size: int) -> Tensor:
    vertices, faces = mesh.vertices.cpu(), mesh.faces.cpu()
    in_camera = (vertices - c2w[:3, 3]) @ c2w[:3, :3]  # x right, y up, z backward
    depth = -in_camera[:, 2]
    x = (in_camera[:, 0] / depth * intrinsics[0, 0] + intrinsics[0, 2]) * size - 0.5
    y = (-in_camera[:, 1] / depth * intrinsics[1, 1] + intrinsics[1, 2]) * size - 0.5
    screen = torch.stack([x, y, 1 / depth], dim=1)[faces]  # (F, 3 corners, 3)
    triangle, barycentric = _visible(screen, size)
    seen = triangle >= 0
    corners = faces[triangle[seen]]
    weights = barycentric[seen]
    weights = weights * screen[triangle[seen], :, 2]  # perspective-correct
    weights = weights / weights.sum(dim=1, keepdim=True)
    colors = torch.full_like(vertices, _GREY) if mesh.vertex_colors is None else mesh.vertex_colors.cpu()
    albedo = (colors[corners] * weights[..., None]).sum(dim=1)
    a, b, c = vertices[corners].unbind(dim=1)
    normal = F.normalize(torch.linalg.cross(b - a, c - a), dim=1)
    toward = F.normalize(c2w[:3, 3] - (a + b + c) / 3, dim=1)
    facing = (normal * toward).sum(dim=1, keepdim=True)
    picture = torch.ones(size * size, 3)
    picture[seen] = albedo * torch.where(facing > 0, _AMBIENT + (1 - _AMBIENT) * facing, 0.2)
    return picture.T.unflatten(1, (size, size)).clamp(0, 1)


def _visible(screen: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The nearest triangle at each pixel (-1: none) and the pixel's barycentric coordinates in it.

    Args:
        screen: (F, 3, 3) corners as x, y in pixels and inverse depth.
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
        offsets = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="xy"), dim=-1).view(-1, 2)
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
            barycentric[pixel[front]] = weight[front]
    return triangle, barycentric


def _barycentric(corners: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Whether points (N, P, 2) lie in triangles (N, 1, 3, 2), and their coordinates (N, P, 3)."""
    a, b, c = corners.unbind(dim=2)

    def area(p: Tensor, q: Tensor, r: Tensor) -> Tensor:
        return (q[..., 0] - p[..., 0]) * (r[..., 1] - p[..., 1]) - (q[..., 1] - p[..., 1]) * (r[..., 0] - p[..., 0])

    whole = area(a, b, c)
    weights = torch.stack([area(points, b, c), area(a, points, c), area(a, b, points)], dim=-1) / whole[..., None]
    return (weights >= 0).all(dim=-1) & (whole != 0), weights
