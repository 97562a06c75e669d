"""Read images, remove their background and frame the object."""

from .reading import read_image

__all__ = ["read_image"]
