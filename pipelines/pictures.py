"""Deprecated name of `images`, kept for one release."""

from warnings import warn

from .images import read_image

__all__ = ["read_picture"]

read_picture = read_image

warn(
    "image_to_3d.pictures.read_picture is now image_to_3d.images.read_image",
    DeprecationWarning,
    stacklevel=2,
)
