"""What a user may see.

    ImageTo3DError
    +-- InvalidInput (ValueError)         the caller's image, number or file is wrong
    |   +-- UnreadableImage             a file that is no image
    |   +-- NothingInImage              no object is left after the background is removed
    +-- EmptySurface (ValueError)         the field has no surface: the views held no object
    +-- CheckpointError (RuntimeError)    weights are missing, damaged or of another model
    +-- EnvironmentProblem (RuntimeError) a package, a disk or a device is not as needed
    +-- AddressRefused (RuntimeError)     a URL leads to a private address, or is not https

ModelsLab's own are in `modelslab.errors`.

Each message is one sentence that says what is wrong and what to do about it.
"""

from __future__ import annotations


class ImageTo3DError(Exception):
    """Base of every error that this library raises on purpose."""


class InvalidInput(ImageTo3DError, ValueError):
    """An image, a number or an array that the caller gave is wrong."""


class UnreadableImage(InvalidInput):
    """A file that cannot be read as an image."""


class NothingInImage(InvalidInput):
    """An image or mask without an object."""


class EmptySurface(ImageTo3DError, ValueError):
    """A field that has no surface anywhere."""


class CheckpointError(ImageTo3DError, RuntimeError):
    """Weights that are missing, damaged, unsafe or of another model."""


class EnvironmentProblem(ImageTo3DError, RuntimeError):
    """A package, a disk or a device that is not as the work needs it."""


class AddressRefused(ImageTo3DError, RuntimeError):
    """A URL that leads to a private address, or is not https."""
