"""Triplane to pictures: the one entry of this package for triplanes."""

from __future__ import annotations

import torch

from ..cameras import Cameras
from ..errors import InvalidInput
from ..progress import Progress, silent
from ..reconstruction.triplane import Triplane
from .rendering import Rendering
from .signed_distance import render_signed_distance
from .volume import render_density


@torch.no_grad()
def render(
    triplane: Triplane, cameras: Cameras, size: int, *, chunk_size: int = 262144, progress: Progress = silent
) -> Rendering:
    """Pictures of a triplane from cameras: volume rendering of a density, ray casting of a signed distance. Nothing is random.

    Args:
        triplane: of either kind.
        cameras: N.
        size: pixels of a side, at least 1.
        chunk_size: points evaluated at once; bounds memory and changes no pixel.
        progress: called after each camera with its picture.

    Returns:
        colour, without light and shade, depth and weight.

    Raises:
        InvalidInput: if a number is out of range.
    """
    if size < 1 or chunk_size < 1:
        raise InvalidInput(f"A picture's size and the chunk size must be at least 1, got {size} and {chunk_size}.")
    if triplane.config.surface == "mesh":
        return render_signed_distance(triplane, cameras, size, chunk_size, progress)
    return render_density(triplane, cameras, size, chunk_size, progress)
