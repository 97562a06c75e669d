"""Render fields from any cameras: the entry point for rendering fields."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..cameras import Cameras
from ..errors import InvalidInput
from ..fields.field import Field, point_memory
from ..progress import Progress, silent
from .frames import Rendering
from .ray_casting import render_signed_distance
from .volume_rendering import render_density

DEFAULT_CHUNK_SIZE = 262144
_BYTES_PER_PIXEL = 4 * 80  # four rays per pixel, and their results


def render_memory(size: int, chunk_size: int = DEFAULT_CHUNK_SIZE) -> int:
    """Return the bytes that `render_field` needs on the device, for any number of cameras.

    This covers one frame, and a chunk of points with their samples.
    """
    points = 2 * point_memory(chunk_size)  # pragma: no mutate (an estimate)
    return _BYTES_PER_PIXEL * size**2 + points  # pragma: no mutate (an estimate)


@torch.no_grad()
def render_field(
    field: Field,
    cameras: Cameras,
    size: int,
    *,
    chunk_size: int = DEFAULT_CHUNK_SIZE,
    progress: Progress = silent,
    check: Callable[[], None] = lambda: None,
) -> Rendering:
    """Render a field from N cameras.

    Densities are rendered as volumes, signed distances by ray casting. The result is
    deterministic.

    Args:
        field: a density or a signed distance.
        cameras: N cameras.
        size: side length of the images in pixels, at least 1.
        chunk_size: points evaluated at once; limits memory and does not change the result.
        progress: called with the image after each camera.
        check: called after each chunk; raise in it to stop within a frame.

    Returns:
        unshaded colour, depth and weight, in host memory. The device never holds more than one
        frame, its rays and a chunk of points.

    Raises:
        InvalidInput: if a number is out of range.
    """
    if size < 1 or chunk_size < 1:
        raise InvalidInput(
            f"An image's size and the chunk size must be at least 1, got {size} and {chunk_size}."
        )
    if field.kind == "signed_distance":
        return render_signed_distance(field, cameras, size, chunk_size, progress, check)
    return render_density(field, cameras, size, chunk_size, progress, check)
