"""Meshes that tell one side from another, for all tests."""

from __future__ import annotations

import numpy as np
import torch
import trimesh

from pipelines.meshes.mesh import Mesh
from pipelines.meshes.texture import bake_texture

#: An asymmetric object: an L in the front plane whose long arm points up and whose short arm points
#: to +y, which is the left of someone who
#: stands in it, and reaches further to the front; its tip is red. No axis is like its mirror image.
_L = (((-0.1, 0.1), (-0.1, 0.1), (-1.0, 1.0)), ((-0.1, 0.3), (0.1, 0.6), (-1.0, -0.8)))


def l_shape() -> Mesh:
    parts = [trimesh.creation.box(bounds=np.array(bounds).T) for bounds in _L]
    both = trimesh.util.concatenate(parts)
    vertices = torch.tensor(both.vertices, dtype=torch.float32)
    colors = torch.where(
        vertices[:, 1:2] > 0.5, torch.tensor([1.0, 0, 0]), torch.tensor([0.2, 0.4, 0.6])
    )
    return Mesh(vertices, torch.tensor(both.faces), colors)


def textured_l() -> Mesh:
    """The L whose tip is red, subdivided so that the border of the red is sharp."""
    mesh = l_shape()
    red, blue = torch.tensor([1.0, 0, 0]), torch.tensor([0.2, 0.4, 0.6])
    return bake_texture(mesh, lambda points: torch.where(points[:, 1:2] > 0.3, red, blue), 512)
