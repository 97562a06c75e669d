"""Errors of a job on ModelsLab.

ModelsLabError (RuntimeError)
+-- AuthenticationFailed      no API key, or a wrong one
+-- OutOfCredits              the account is empty
+-- QuotaExceeded             too many jobs or requests at once
+-- RequestRejected           the service refuses a value
+-- GenerationFailed          the job ended without a result
+-- JobTimedOut               the job is still running
+-- ConnectionFailed          the service or a file could not be reached
|   +-- PossiblyStarted       a paid request was sent, and its answer never arrived
+-- BadAnswer                 an answer or a file is invalid, or not safe to use
"""

from __future__ import annotations

from ..errors import ImageTo3DError


class ModelsLabError(ImageTo3DError, RuntimeError):
    """A job on ModelsLab did not end in a mesh.

    Attributes:
        job_id: the job's id, if one was started.
        resume_ids: what to put into job_id to resume the jobs that were paid for.
    """

    job_id: str | None = None
    resume_ids: str = ""

    def __str__(self) -> str:
        message = super().__str__()
        if self.resume_ids:
            return f"{message} Put {self.resume_ids} into job_id to resume without paying again."
        return f"{message} (ModelsLab job {self.job_id})" if self.job_id else message


class AuthenticationFailed(ModelsLabError):
    """The API key is missing or wrong."""


class OutOfCredits(ModelsLabError):
    """The account has no credits, or not this product."""


class QuotaExceeded(ModelsLabError):
    """The plan allows no more jobs or requests now.

    Attributes:
        retry_after: seconds until the service accepts another, if it named them.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RequestRejected(ModelsLabError):
    """The service refuses the request."""


class GenerationFailed(ModelsLabError):
    """The job ended without a result."""


class JobTimedOut(ModelsLabError):
    """The job is still running; its id resumes it."""


class ConnectionFailed(ModelsLabError):
    """The service or a file could not be reached."""


class PossiblyStarted(ConnectionFailed):
    """A paid request was sent, and whether it started a job is unknown."""


class BadAnswer(ModelsLabError):
    """An answer or a file is invalid, or not safe to use."""
