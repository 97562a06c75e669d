"""A job of the server, and its conversion from a database row."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Json

from .protocol import JobRequest

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED = ("done", "failed", "cancelled")
_UNREADABLE = "This job was stored by an incompatible version of the server: submit it again."


class Job(BaseModel):
    """A job of the server; one row of the database.

    Attributes:
        id: number by which clients refer to the job.
        token: unguessable name of the job's folder; part of the links to its files.
        owner: digest of the API key that submitted the job.
        images: names of the input images in the job's folder.
        seed: the seed in use; never 0.
        created, started, ended: seconds since 1970, in ascending order; None if not yet reached.
        tries: number of times that a worker has started the job.
        message: reason of the failure, in one sentence.
        outputs: names of the result files in the job's folder, the mesh first.
        webhook, track_id: values from the client's request.
        base: the server's address, as the client used it.
    """

    model_config = ConfigDict(frozen=True)

    id: int
    token: str
    owner: str
    state: JobState
    settings: Json[JobRequest]
    images: Json[list[str]] = Field(alias="pictures")
    seed: int
    created: float
    started: float | None
    ended: float | None
    tries: int
    message: str
    outputs: Json[list[str]]
    webhook: str
    track_id: Json[str | int | None]
    base: str

    @property
    def expected_outputs(self) -> list[str]:
        """Names that the job's result files will have."""
        suffixes = [self.settings.output_format] + ["mp4"] * self.settings.render
        return [f"{self.token}.{suffix}" for suffix in suffixes]


def job_of(row: dict[str, Any]) -> Job:
    """Convert a database row to a job; an unreadable row becomes a failed job."""
    try:
        return Job.model_validate(row)
    except ValueError:
        state = row["state"] if row["state"] in ENDED else "failed"
        message = row["message"] or _UNREADABLE
        nothing = {"settings": JobRequest(), "images": [], "outputs": [], "track_id": None}
        return Job.model_construct(**row | nothing | {"state": state, "message": message})
