"""Set the size, position and orientation of a mesh."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..errors import InvalidInput
from .mesh import Mesh, rotate

PIVOTS = ("keep", "center", "bottom")


def place(mesh: Mesh, *, size: float = 0.0, pivot: str = "keep", turn_deg: float = 0.0) -> Mesh:
    """Rotate, move and scale a mesh.

    Args:
        mesh: any.
        size: longest side of the bounding box, in the unit of the file (millimetres for STL and
            3MF); 0 keeps the size.
        pivot: point that moves to the origin. "keep": none; "center": the centre of the bounding
            box; "bottom": the centre of the box's bottom face.
        turn_deg: rotation around the vertical axis, counter-clockwise seen from above: 90 moves the
            front from +x to +y.

    Raises:
        InvalidInput: if a value is out of range.
    """
    if pivot not in PIVOTS:
        raise InvalidInput(f"pivot must be keep, center or bottom, got '{pivot}'.")
    if size < 0:
        raise InvalidInput(f"size must not be negative, got {size}.")
    if turn_deg:
        angle = torch.deg2rad(torch.tensor(float(turn_deg)))
        cos, sin = float(angle.cos()), float(angle.sin())
        mesh = rotate(mesh, torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]))
    vertices = mesh.vertices
    low, high = vertices.amin(dim=0), vertices.amax(dim=0)
    if pivot != "keep":
        origin = (low + high) / 2
        if pivot == "bottom":
            origin = torch.stack([origin[0], origin[1], low[2]])
        vertices = vertices - origin
    if size:
        vertices = vertices * (size / float((high - low).amax().clamp_min(1e-12)))
    return replace(mesh, vertices=vertices)
