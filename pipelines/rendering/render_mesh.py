"""Render meshes with a z-buffer in plain torch, for previews."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..cameras import ZERO123PLUS_FOV_Y_DEG, Cameras, cameras_around, orbit_cameras
from ..meshes.color_transfer import surface_colors
from ..meshes.mesh import Mesh
from ..meshes.rasterization import on_screen, visible_triangles
from ..progress import Progress, silent

_GREY = 0.7
_AMBIENT = 0.55
_SUPERSAMPLING = 2


def render_mesh(mesh: Mesh, cameras: Cameras, size: int, *, shaded: bool = True) -> Tensor:
    """Render a mesh on white, lit from the camera.

    Args:
        mesh: any; without colours it is grey. Back faces of triangles are dark.
        cameras: N cameras outside the mesh.
        size: side length of the images in pixels.
        shaded: whether to apply the light; otherwise pixels have the surface's own colour.

    Returns:
        (N, 3, size, size) float32 in [0, 1].
    """
    return torch.cat([_render(mesh, cameras[[i]], size, shaded) for i in range(len(cameras))])


def preview_sheet(mesh: Mesh, size: int = 384) -> Tensor:
    """Render the mesh from the front, the side and the back; returns (1, 3, size, 3 * size)."""
    centered, distance = mesh.center_for_camera(30.0)
    cameras = cameras_around([20.0, 110.0, 200.0], [15.0] * 3, distance, 30.0)
    views = render_mesh(centered, cameras, size)
    return torch.cat(list(views.split(1)), dim=-1)


def render_turntable(
    mesh: Mesh, frames: int, elevation_deg: float, size: int, progress: Progress = silent
) -> Tensor:
    """Render one turn around a mesh, centred and scaled to fill the image.

    Args:
        mesh: as in `render_mesh`.
        frames: number of images, at equal angles.
        elevation_deg: elevation of the camera above the horizon.
        size: side length of the images in pixels.
        progress: called with the image after each frame.

    Returns:
        (frames, 3, size, size) float32 in [0, 1].
    """
    centered, radius = mesh.center_for_camera(ZERO123PLUS_FOV_Y_DEG)
    cameras = orbit_cameras(frames, elevation_deg, radius)
    images = []
    for i in range(frames):
        images.append(render_mesh(centered, cameras[[i]], size))
        progress(i + 1, frames, images[-1])
    return torch.cat(images)


def _render(mesh: Mesh, camera: Cameras, size: int, shaded: bool) -> Tensor:
    """Render one view; returns (1, 3, size, size)."""
    size *= _SUPERSAMPLING
    vertices, faces = mesh.vertices.cpu(), mesh.faces.cpu()
    screen = on_screen(vertices, camera, size)[faces]  # (F, 3 corners, 3)
    pixel, triangle, barycentric = visible_triangles(screen, size)
    corners = faces.index_select(0, triangle)
    weights = barycentric.T * screen[triangle, :, 2].T  # perspective-correct
    weights = (weights / weights.sum(dim=0)).T
    color = torch.full((len(corners), 3), _GREY)
    if mesh.colored:
        color = surface_colors(mesh, corners, weights)
    if shaded:
        color = color * _light(vertices[faces], camera).index_select(0, triangle)
    image = torch.ones(3, size * size)
    image[:, pixel] = color.clamp(0, 1).T
    return F.avg_pool2d(image.view(1, 3, size, size), _SUPERSAMPLING)


def _light(corners: Tensor, camera: Cameras) -> Tensor:
    """Return the brightness (F, 1) of triangles with corners (F, 3, 3), lit from the camera."""
    a, b, c = corners.unbind(dim=1)
    normal = F.normalize(torch.linalg.cross(b - a, c - a), dim=1)
    toward = F.normalize(camera.c2w[0, :3, 3] - (a + b + c) / 3, dim=1)
    facing = (normal * toward).sum(dim=1, keepdim=True)
    return torch.where(facing > 0, _AMBIENT + (1 - _AMBIENT) * facing, 0.2)
