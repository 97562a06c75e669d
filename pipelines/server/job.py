"""One of the server's jobs, and how it is read from the database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .protocol import JobRequest

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED = ("done", "failed", "cancelled")
_UNREADABLE = (
    "Another version of the server stored this job, and this one cannot read it: send it again."
)


@dataclass(frozen=True)
class Job:
    """One row.

    Attributes:
        id: what clients use to ask for the job.
        token: unguessable; part of its files' addresses and the name of their folder.
        owner: digest of the key that started it.
        images: file names in its folder.
        seed: the seed in use; never 0.
        created, started, ended: seconds since 1970, or None; never before one another.
        tries: how many times a worker has started it.
        message: why it failed, in one sentence.
        outputs: file names in its folder, the mesh first.
        webhook, track_id: as the client gave them.
        base: the server's address, as the client used it.
    """

    id: int
    token: str
    owner: str
    state: JobState
    settings: JobRequest
    images: Sequence[str]
    seed: int
    created: float
    started: float | None
    ended: float | None
    tries: int
    message: str
    outputs: Sequence[str]
    webhook: str
    track_id: str | int | None
    base: str

    @property
    def expected_outputs(self) -> list[str]:
        """Names that the files will have."""
        suffixes = [self.settings.output_format] + ["mp4"] * self.settings.render
        return [f"{self.token}.{suffix}" for suffix in suffixes]


def job_of(row: dict[str, Any]) -> Job:
    """Convert a database row to a job; an unreadable row becomes a failed job."""
    images = row.pop("pictures")
    try:
        return Job(
            **row
            | {
                "settings": JobRequest.model_validate_json(row["settings"]),
                "images": json.loads(images),
                "outputs": json.loads(row["outputs"]),
                "track_id": json.loads(row["track_id"]),
            }
        )
    except (ValueError, TypeError):
        return Job(
            **row
            | {
                "settings": JobRequest(),
                "state": row["state"] if row["state"] in ENDED else "failed",
                "message": row["message"] or _UNREADABLE,
                "images": (),
                "outputs": (),
                "track_id": None,
            }
        )
