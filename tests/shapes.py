"""Meshes for all tests. Most are asymmetric, so that mirroring or a wrong axis is noticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import trimesh
from torch import Tensor

from pipelines.meshes.mesh import Mesh
from pipelines.meshes.texture import TextureLayout, texture_from_images
from pipelines.meshes.topology import merge_vertices

#: An asymmetric L: its long arm points up. Its short arm points to +y, the object's left, and
#: reaches further to the front; its tip is red. Mirroring along any axis changes the L.
_L = (((-0.1, 0.1), (-0.1, 0.1), (-1.0, 1.0)), ((-0.1, 0.3), (0.1, 0.6), (-1.0, -0.8)))


def l_shape() -> Mesh:
    parts = [trimesh.creation.box(bounds=np.array(bounds).T) for bounds in _L]
    both = trimesh.util.concatenate(parts)
    vertices = torch.tensor(both.vertices, dtype=torch.float32)
    colors = torch.where(
        vertices[:, 1:2] > 0.5, torch.tensor([1.0, 0, 0]), torch.tensor([0.2, 0.4, 0.6])
    )
    return Mesh(vertices, torch.tensor(both.faces), colors)


def bake_texture(
    mesh: Mesh, color_at: Callable[[Tensor], Tensor], size: int, **options: Any
) -> Mesh:
    """Bake the colours (N, 3) of a function of points (N, 3) into a texture."""
    field: Any = SimpleNamespace(
        device=torch.device("cpu"), colors=lambda points, chunk_size: color_at(points)
    )
    return texture_from_images(mesh, [], TextureLayout(size, **options), field=field)


def textured_l() -> Mesh:
    """Return the L with a texture in which the border of the red tip is sharp."""
    mesh = l_shape()
    red, blue = torch.tensor([1.0, 0, 0]), torch.tensor([0.2, 0.4, 0.6])
    return bake_texture(mesh, lambda points: torch.where(points[:, 1:2] > 0.3, red, blue), 512)


def stairs() -> Mesh:
    """Return three boxes of different heights and depths, red at -y: all views of them differ.

    Edges are short, so that vertex colours show the border of the red.
    """
    bounds = (
        ((-0.5, 0.4), (-0.9, -0.3), (-0.6, 0.8)),
        ((-0.2, 0.6), (-0.3, 0.3), (-0.6, 0.1)),
        ((-0.5, 0.1), (0.3, 0.9), (-0.6, -0.3)),
    )
    parts = [trimesh.creation.box(bounds=np.array(one).T) for one in bounds]
    whole = trimesh.util.concatenate(parts).subdivide_to_size(0.15)
    mesh = to_mesh(whole, colors=False)
    red, blue = torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.2, 0.9])
    return replace(mesh, vertex_colors=torch.where(mesh.vertices[:, 1:2] < -0.3, red, blue))


def to_mesh(shape: trimesh.Trimesh, colors: bool = True) -> Mesh:
    vertices = torch.tensor(shape.vertices, dtype=torch.float32)
    return Mesh(
        vertices,
        torch.tensor(shape.faces),
        (vertices - vertices.amin(dim=0)) / 2 if colors else None,
    )


def ball() -> Mesh:
    return to_mesh(trimesh.creation.icosphere(subdivisions=4))


def soup(mesh: Mesh) -> Mesh:
    """Give each triangle its own vertices."""
    faces = torch.arange(3 * len(mesh.faces)).view(-1, 3)
    return Mesh(
        mesh.vertices[mesh.faces].reshape(-1, 3),
        faces,
        mesh.vertex_colors[mesh.faces].reshape(-1, 3),
    )


def flat_cube(merged: bool = True) -> Mesh:
    """Return a unit cube whose six sides have different colours and do not share vertices."""
    box = trimesh.creation.box()
    faces = torch.tensor(box.faces)
    vertices = torch.tensor(box.vertices, dtype=torch.float32)[faces].reshape(-1, 3)
    sides = (
        (torch.tensor(box.face_normals).float() + torch.tensor([0.1, 0.2, 0.3]))
        .clamp(0, 1)
        .repeat_interleave(3, dim=0)
    )
    mesh = Mesh(vertices, torch.arange(36).view(-1, 3), sides)
    return merge_vertices(mesh) if merged else mesh


def open_box() -> Mesh:
    box = to_mesh(trimesh.creation.box((1, 2, 3)))
    return replace(box, faces=box.faces[2:])


def ball_with_fin() -> Mesh:
    """Return a sphere with an extra triangle on one of its edges."""
    sphere = ball()
    faces = torch.cat(
        [
            sphere.faces,
            torch.tensor(
                [[int(sphere.faces[0, 0]), int(sphere.faces[0, 1]), len(sphere.vertices)]]
            ),
        ]
    )
    return Mesh(
        torch.cat([sphere.vertices, torch.tensor([[0.0, 0, 2]])]),
        faces,
        torch.cat([sphere.vertex_colors, torch.zeros(1, 3)]),
    )


def ring(around: int, across: int, bent: float = 0.0) -> Mesh:
    angle = torch.arange(around) / around * 2 * torch.pi
    rings = [
        torch.stack([r * angle.cos(), r * angle.sin(), bent * r * (3 * angle).sin()], dim=1)
        for r in torch.linspace(0.5, 1, across + 1)
    ]
    i = torch.arange(around)
    after = (i + 1) % around
    faces = []
    for k in range(across):
        a = k * around + i
        b = k * around + after
        c = (k + 1) * around + i
        d = (k + 1) * around + after
        faces += [torch.stack([a, c, b], dim=1), torch.stack([b, c, d], dim=1)]
    return Mesh(torch.cat(rings), torch.cat(faces))


def without_faces(shape: trimesh.Trimesh, gone: np.ndarray) -> Mesh:
    return replace(to_mesh(shape, colors=False), faces=torch.tensor(shape.faces[~gone]))


def colors_of_sides(mesh: Mesh) -> dict[tuple[int, ...], list[float]]:
    """Return the mean colour of the triangles that face each direction, by rounded normal."""
    a, b, c = mesh.vertices[mesh.faces].unbind(dim=1)
    normals = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1).round().int()
    colors = mesh.vertex_colors[mesh.faces].mean(dim=1)
    return {
        tuple(way.tolist()): colors[(normals == way).all(dim=1)].mean(dim=0).tolist()
        for way in normals.unique(dim=0)
    }
