"""Errors that a user may see.

    ImageTo3DError
    +-- InvalidInput (ValueError)         an image, number or file from the caller is invalid
    |   +-- UnreadableImage             a file is not a readable image
    |   +-- NothingInImage              no object remains after removing the background
    +-- EmptySurface (ValueError)         the field has no surface: the views showed no object
    +-- CheckpointError (RuntimeError)    weights are missing, damaged or for another model
    +-- EnvironmentProblem (RuntimeError) a package, disk or device is missing or does not work
    +-- AddressRefused (RuntimeError)     a URL is not https or resolves to a private address

The errors of ModelsLab are in `modelslab.errors`.

Each message is one sentence that states what is wrong and what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class ImageTo3DError(Exception):
    """Base class of all errors that this library raises on purpose."""


class InvalidInput(ImageTo3DError, ValueError):
    """An image, number, array or file from the caller is invalid."""


class UnreadableImage(InvalidInput):
    """A file is not a readable image."""


class NothingInImage(InvalidInput):
    """An image or a mask contains no object."""


class EmptySurface(ImageTo3DError, ValueError):
    """A field has no surface."""


class CheckpointError(ImageTo3DError, RuntimeError):
    """Weights are missing, damaged, unsafe or for another model."""


class EnvironmentProblem(ImageTo3DError, RuntimeError):
    """A package, disk or device is missing or does not work as needed."""


class AddressRefused(ImageTo3DError, RuntimeError):
    """A URL is not https, or its host resolves to a private address."""


@contextmanager
def packages_of(requirements: str, feature: str) -> Iterator[None]:
    """Convert an ImportError to an error that names the command to install the packages.

    Args:
        requirements: name of the file that lists the packages.
        feature: the feature that needs them, as the subject of a sentence: "The server".

    Raises:
        EnvironmentProblem: in place of ImportError.
    """
    try:
        yield
    except ImportError as error:
        raise EnvironmentProblem(
            f"{feature} needs more packages: run 'pip install -r {requirements}' ({error})."
        ) from error
