"""A job's state in ModelsLab's words."""

from __future__ import annotations

import re
from typing import Any

from .job import Job
from .jobs import Jobs
from .models import Download
from .protocol import Answer
from .workers import Workers

_PATH = re.compile(r"(?<![\w:/.])(?:/|[A-Za-z]:[\\/])(?:[^\s'\"/\\:]+[/\\])+")


def without_paths(message: str) -> str:
    """Shorten the paths in a message to their last part: clients need not know the server's disk.

    >>> without_paths("put it at /srv/models/TripoSR/model.ckpt.")
    'put it at model.ckpt.'
    """
    return _PATH.sub("", message)


def answer_of(
    job: Job, base: str, jobs: Jobs, workers: Workers, download: Download | None
) -> Answer:
    """Describe a job.

    Args:
        job: in any state.
        base: what links begin with.
        jobs: the store.
        workers: that may be at work on the job.
        download: of the job's model, that it waits for; None if its weights are here.
    """
    common: dict[str, Any] = {"id": job.id, "track_id": job.track_id}
    if job.state in ("failed", "cancelled"):
        return Answer(status="failed", message=without_paths(job.message), **common)

    def links(names: list[str]) -> list[str]:
        return [f"{base}/files/{job.token}/{name}" for name in names]

    common["meta"] = _meta(job, links(["image"])[0])
    if job.state == "done":
        output = links(list(job.outputs))
        took = round(job.ended - job.started, 2) if job.ended and job.started else None
        return Answer(
            status="success", generation_time=took, output=output, proxy_links=output, **common
        )
    ahead = jobs.ahead_of(job) if job.state == "queued" else 0
    seconds = jobs.usual_seconds(job.settings.model_id) * (1 + ahead / max(len(workers), 1))
    seconds += download.remaining_s if download else 0
    fetch = f"{base}/api/v6/3d/fetch/{job.id}"
    return Answer(
        status="processing",
        tip=f"Post to {fetch} until the status is success or failed.",
        message=str(download or progress_of(job, ahead, workers)),
        eta=round(seconds, 1),
        queue_position=ahead,
        fetch_result=fetch,
        output=[],
        future_links=links(job.expected_outputs),
        **common,
    )


def progress_of(job: Job, ahead: int, workers: Workers) -> str:
    """Say how far a job is that has not ended."""
    stage = workers.stages.get(job.id)
    if stage:
        return f"The job is running ({stage.name} {stage.done} of {stage.total})."
    return f"The job is queued ({ahead} before it)."


def _meta(job: Job, image: str) -> dict[str, Any]:
    """Describe the request as the server understood it, in the types of ModelsLab's document."""
    return job.settings.model_dump(exclude_none=True) | {
        "file_prefix": job.token,
        "foreground_ratio": f"{job.settings.foreground_ratio:g}".removeprefix("0"),
        "image": image,
        "seed": job.seed,
        "temp": "yes" if job.settings.temp else "no",
    }
