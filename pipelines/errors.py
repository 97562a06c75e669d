"""What a user may see.

    ImageTo3DError
    +-- InvalidInput (ValueError)         the caller's image, number or file is wrong
    |   +-- UnreadableImage             a file that is no image
    |   +-- NothingInImage              no object is left after the background is removed
    +-- EmptySurface (ValueError)         the field has no surface: the views held no object
    +-- CheckpointError (RuntimeError)    weights are missing, damaged or of another model
    +-- EnvironmentProblem (RuntimeError) a package, a disk or a device is not as needed
    +-- ModelsLabError (RuntimeError)     the job in the cloud did not end in a mesh
        +-- AuthenticationFailed          no API key, or a wrong one
        +-- OutOfCredits                  the account is empty
        +-- QuotaExceeded                 too many jobs at once, or too many requests
        +-- RequestRejected               the service does not take a value
        +-- GenerationFailed              the job ended without a result
        +-- JobTimedOut                   the job is still at work
        +-- ConnectionFailed              the service or a file cannot be reached
        +-- BadAnswer                     what came is not what was asked for, or not safe to take

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


class ModelsLabError(ImageTo3DError, RuntimeError):
    """A job in the cloud that did not end in a mesh.

    Attributes:
        job_id: of the job, if one was started.
        take_up: what the client is to be given as job's ids so that nothing is paid for again.
    """

    job_id: str | None = None
    take_up: str = ""

    def __str__(self) -> str:
        said = super().__str__()
        if not self.take_up:
            return said
        return f"{said} Put {self.take_up} into job_id to go on without paying again."


class AuthenticationFailed(ModelsLabError):
    """No API key, or one that the service does not know."""


class OutOfCredits(ModelsLabError):
    """An account without credits or without this product."""


class QuotaExceeded(ModelsLabError):
    """More jobs or requests than the plan allows.

    Attributes:
        retry_after: seconds after which the service takes another, if it said so.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RequestRejected(ModelsLabError):
    """A request that the service does not take."""


class GenerationFailed(ModelsLabError):
    """A job that ended without a result."""


class JobTimedOut(ModelsLabError):
    """A job that is still at work; its id takes it up again."""


class ConnectionFailed(ModelsLabError):
    """A service or file that cannot be reached."""


class BadAnswer(ModelsLabError):
    """An answer or file that is not what was asked for, or not safe to take."""
