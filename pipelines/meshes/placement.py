"""Where a mesh stands, how large it is and which way it faces."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..errors import InvalidInput
from .mesh import Mesh, turned

PIVOTS = ("keep", "center", "bottom")


def placed(mesh: Mesh, *, size: float = 0.0, pivot: str = "keep", turn_deg: float = 0.0) -> Mesh:
    """The mesh at a size and place of one's own.

    Args:
        mesh: any.
        size: longest side of its box, in whatever unit the file is meant in (millimetres for STL
            and 3MF); 0 keeps it.
        pivot: "keep", "center" (the box's middle at the origin) or "bottom" (its middle at the
            origin, its lowest point at height 0).
        turn_deg: turn around the vertical axis, counter-clockwise from above: 90 turns the front to
            where the left was.

    Raises:
        InvalidInput: if a value is out of range.
    """
    if pivot not in PIVOTS:
        raise InvalidInput(f"The pivot must be keep, center or bottom, got '{pivot}'.")
    if size < 0:
        raise InvalidInput(f"The size must not be negative, got {size}.")
    if turn_deg:
        angle = torch.deg2rad(torch.tensor(float(turn_deg)))
        cos, sin = float(angle.cos()), float(angle.sin())
        mesh = turned(mesh, torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]))
    vertices = mesh.vertices
    low, high = vertices.amin(dim=0), vertices.amax(dim=0)
    if pivot != "keep":
        middle = (low + high) / 2
        if pivot == "bottom":
            middle = torch.stack([middle[0], middle[1], low[2]])
        vertices = vertices - middle
    if size:
        vertices = vertices * (size / float((high - low).amax().clamp_min(1e-12)))
    return replace(mesh, vertices=vertices)
