"""Pictures: read, freed of their background, framed."""

from .reading import read_picture

__all__ = ["read_picture"]
