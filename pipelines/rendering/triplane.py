"""Triplane to pictures: the one entry of this package for triplanes."""

from __future__ import annotations

import torch

from ..cameras import Cameras
from ..errors import InvalidInput
from ..progress import Progress, silent
from ..reconstruction.triplane import Triplane, point_memory
from .rendering import Rendering
from .signed_distance import render_signed_distance
from .volume import render_density

DEFAULT_CHUNK_SIZE = 262144
_BYTES_PER_PIXEL = 4 * 80  # four rays, and what comes of them


def render_memory(size: int, chunk_size: int = DEFAULT_CHUNK_SIZE) -> int:
    """Bytes that `render` needs at most on the device, for any number of cameras: one frame and a chunk of points with their samples."""
    return _BYTES_PER_PIXEL * size**2 + 2 * point_memory(chunk_size)  # pragma: no mutate (an estimate)


@torch.no_grad()
def render(
    triplane: Triplane, cameras: Cameras, size: int, *, chunk_size: int = DEFAULT_CHUNK_SIZE, progress: Progress = silent
) -> Rendering:
    """Pictures of a triplane from cameras: volume rendering of a density, ray casting of a signed distance. Nothing is random.

    Args:
        triplane: of either kind.
        cameras: N.
        size: pixels of a side, at least 1.
        chunk_size: points evaluated at once; bounds memory and changes no pixel.
        progress: called after each camera with its picture.

    Returns:
        colour, without light and shade, depth and weight. On the device there is never more than one frame, its rays and a chunk of points.

    Raises:
        InvalidInput: if a number is out of range.
    """
    if size < 1 or chunk_size < 1:
        raise InvalidInput(f"A picture's size and the chunk size must be at least 1, got {size} and {chunk_size}.")
    if triplane.config.surface == "mesh":
        return render_signed_distance(triplane, cameras, size, chunk_size, progress)
    return render_density(triplane, cameras, size, chunk_size, progress)
