"""Images: read, freed of their background, framed."""

from .reading import read_image

__all__ = ["read_image"]
