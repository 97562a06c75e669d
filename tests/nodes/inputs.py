"""What several tests of nodes work on."""

from __future__ import annotations

import torch
import trimesh

from pipelines.meshes.mesh import Mesh

STEPS = 2  # of the tiny views model


def red_box(height: int = 96, width: int = 128) -> torch.Tensor:
    """IMAGE of a red box on white."""
    image = torch.ones(1, height, width, 3)
    image[:, 20:70, 30:90] = torch.tensor([0.8, 0.1, 0.1])
    return image


def small_ball(colors: bool = True) -> Mesh:
    """A ball of 320 triangles, its colours those of its positions."""
    ball = trimesh.creation.icosphere(subdivisions=2)
    vertices = torch.tensor(ball.vertices, dtype=torch.float32)
    return Mesh(vertices, torch.tensor(ball.faces), (vertices + 1) / 2 if colors else None)
