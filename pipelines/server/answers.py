"""Describe a job's state in ModelsLab's response format."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

from ..weights.presets import licenses_of
from .job import Job
from .jobs import Jobs
from .models import Download
from .protocol import Answer
from .work import REPORT
from .workers import Workers

_PATH = re.compile(r"(?<![\w:/.])(?:/|[A-Za-z]:[\\/])(?:[^\s'\"/\\:]+[/\\])+")


def without_paths(message: str) -> str:
    """Replace each path in a message by its file name, to hide the server's folders from clients.

    >>> without_paths("put it at /srv/models/TripoSR/model.ckpt.")
    'put it at model.ckpt.'
    """
    return _PATH.sub("", message)


def answer_of(
    job: Job, base: str, jobs: Jobs, workers: Workers, download: Download | None
) -> Answer:
    """Build the response that describes a job.

    Args:
        job: in any state.
        base: the server's address, used as the prefix of links.
        jobs: the store.
        workers: the workers, one of which may be running the job.
        download: the download of the job's model weights; None if they are already here.
    """
    common: dict[str, Any] = {"id": job.id, "track_id": job.track_id}
    if job.state in ("failed", "cancelled"):
        return Answer(status="failed", message=without_paths(job.message), **common)

    def links(names: list[str]) -> list[str]:
        return [f"{base}/files/{job.token}/{name}" for name in names]

    common["meta"] = _meta(job, links(["image"])[0])
    if job.state == "done":
        output = links(list(job.outputs))
        with suppress(FileNotFoundError):
            common["meta"]["report"] = json.loads((jobs.folder_of(job.token) / REPORT).read_text())
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
    """Describe the progress of a queued or running job in one sentence."""
    stage = workers.stages.get(job.id)
    if stage:
        return f"The job is running ({stage})."
    return f"The job is queued ({ahead} before it)."


def _meta(job: Job, image: str) -> dict[str, Any]:
    """Return the settings in use, with the value types of ModelsLab's documentation."""
    return job.settings.model_dump(exclude_none=True) | {
        "file_prefix": job.token,
        "foreground_ratio": f"{job.settings.foreground_ratio:g}".removeprefix("0"),
        "image": image,
        "seed": job.seed,
        "temp": "yes" if job.settings.temp else "no",
        "licenses": licenses_of(job.settings.model, own_views=len(job.images) > 1),
    }
