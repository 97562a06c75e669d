"""Meshes and images of them with exact colours, for the tests of projection and cameras."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import trimesh
from torch.nn import functional as F

from pipelines.cameras import Cameras
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.projection import PosedImages
from pipelines.meshes.rasterization import on_screen, visible_triangles


def ball(radius: float = 0.9, center=(0.0, 0.0, 0.0), subdivisions: int = 4) -> Mesh:
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    vertices = torch.tensor(sphere.vertices, dtype=torch.float32) + torch.tensor(center)
    return Mesh(vertices, torch.tensor(sphere.faces))


def joined(*meshes: Mesh) -> Mesh:
    faces, start = [], 0
    for mesh in meshes:
        faces.append(mesh.faces + start)
        start += len(mesh.vertices)
    return Mesh(torch.cat([m.vertices for m in meshes]), torch.cat(faces))


def flat_images(
    mesh: Mesh, cameras: Cameras, color, size: int = 384, ground: float = 1.0
) -> PosedImages:
    """Render unlit images with masks, so that colours are exact: four samples per pixel.

    Args:
        mesh: the mesh to render.
        cameras: one camera for each image.
        color: function from points (N, 3) on the mesh to colours (N, 3).
        size: side length of the images in pixels.
        ground: grey level of the background.
    """
    images, masks = [], []
    for i in range(len(cameras)):
        screen = on_screen(mesh.vertices, cameras[[i]], 2 * size)[mesh.faces]
        pixel, triangle, weights = visible_triangles(screen, 2 * size)
        w = weights * screen[triangle, :, 2]
        w = w / w.sum(dim=1, keepdim=True)
        points = (mesh.vertices[mesh.faces[triangle]] * w[..., None]).sum(dim=1)
        image = torch.full((4 * size * size, 3), ground)
        image[pixel] = color(points)
        seen = torch.zeros(len(image)).index_fill_(0, pixel, 1.0)
        images.append(F.avg_pool2d(image.T.view(3, 2 * size, 2 * size), 2))
        masks.append(F.avg_pool2d(seen.view(1, 2 * size, 2 * size), 2))
    return PosedImages(torch.stack(images), cameras, torch.stack(masks))


def figure() -> tuple[Mesh, Callable[[torch.Tensor], torch.Tensor]]:
    """Return three balls, one of them red, and their colour function: all views differ."""
    mesh = joined(
        ball(0.5, (0.0, 0.0, -0.4), 3),
        ball(0.35, (0.0, 0.0, 0.4), 3),
        ball(0.2, (0.45, 0.5, 0.1), 3),
    )

    def color(points: torch.Tensor) -> torch.Tensor:
        return torch.where(
            points[:, 1:2] > 0.35, torch.tensor([1.0, 0, 0]), torch.tensor([0.2, 0.4, 0.6])
        )

    return replace(mesh, vertex_colors=color(mesh.vertices)), color
