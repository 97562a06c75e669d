"""Inputs that several node tests share."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
import trimesh

from pipelines.meshes.mesh import Mesh

#: Size of the tiny multiview model's views.
SAMPLING = {"steps": 2, "guidance": 2.0, "scheduler": "euler_ancestral"}


def extracted(nodes: ModuleType, triplane: Any, resolution: int = 32, **values: Any) -> Any:
    """Extract fields with Extract Mesh; returns MESH."""
    values = {"keep_largest_part": True, "colors": True} | values
    return nodes.ExtractMesh.execute(
        triplane, threshold=10.0, resolution=resolution, chunk_size=131072, **values
    )[0]


def red_box(height: int = 96, width: int = 128) -> torch.Tensor:
    """Return an IMAGE of a red box on white."""
    image = torch.ones(1, height, width, 3)
    image[:, 20:70, 30:90] = torch.tensor([0.8, 0.1, 0.1])
    return image


def small_ball(colors: bool = True) -> Mesh:
    """Return a ball of 320 triangles, coloured by position."""
    ball = trimesh.creation.icosphere(subdivisions=2)
    vertices = torch.tensor(ball.vertices, dtype=torch.float32)
    return Mesh(vertices, torch.tensor(ball.faces), (vertices + 1) / 2 if colors else None)
