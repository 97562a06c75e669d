"""Errors of a job on ModelsLab.

ModelsLabError (RuntimeError)
+-- AuthenticationFailed      the API key is missing or wrong
+-- OutOfCredits              the account has no credits
+-- QuotaExceeded             too many jobs or requests at once
+-- RequestRejected           the service rejected the request
+-- GenerationFailed          the job ended without a result
+-- JobTimedOut               the job is still running
+-- ConnectionFailed          the service or a file could not be reached
|   +-- PossiblyStarted       a paid request was sent, but no answer arrived
+-- BadAnswer                 an answer or a file is invalid or unsafe
"""

from __future__ import annotations

from ..errors import ImageTo3DError


class ModelsLabError(ImageTo3DError, RuntimeError):
    """A job on ModelsLab did not produce a mesh.

    Attributes:
        job_id: id of the job, or None if none was started.
        resume_ids: value for the job_id setting that resumes all paid jobs, or "".
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
    """The account has no credits, or its plan does not include this product."""


class QuotaExceeded(ModelsLabError):
    """The plan does not allow more jobs or requests at present.

    Attributes:
        retry_after: seconds until the next request is allowed, or None if unknown.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RequestRejected(ModelsLabError):
    """The service rejected the request."""


class GenerationFailed(ModelsLabError):
    """The job ended without a result."""


class JobTimedOut(ModelsLabError):
    """The job is still running. It can be resumed by its id."""


class ConnectionFailed(ModelsLabError):
    """The service or a file could not be reached."""


class PossiblyStarted(ConnectionFailed):
    """A paid request was sent, but it is unknown whether it started a job."""


class BadAnswer(ModelsLabError):
    """An answer or a file is invalid or unsafe."""
