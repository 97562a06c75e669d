"""Logic shared by the endpoints of both APIs: submit, await and describe jobs, and find files."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import prometheus_client
from fastapi import Request
from fastapi.responses import FileResponse, JSONResponse
from prometheus_client.core import GaugeMetricFamily

from ..errors import InvalidInput
from ..settings import ServerSettings
from ..weights.presets import licenses_of
from .auth import Keys
from .bodies import BodyReader
from .errors import ApiError, without_paths
from .fetching import check_image, decode_base64, fetch_image
from .job import ENDED, Job, JobState
from .jobs import Jobs, QueueFull
from .models import Models
from .protocol import Answer, JobRequest
from .results import MEDIA_TYPES, converted, file_of
from .work import REPORT, check
from .workers import Workers

log = logging.getLogger(__name__)

_RETRY_AFTER_S = 10
_FIRST_POLL_S, _LONGEST_POLL_S = 0.05, 0.5
_GAUGES: dict[JobState, str] = {
    "queued": "Jobs in the queue.",
    "running": "Jobs that are running.",
    "failed": "Jobs that failed.",
    "done": "Jobs that succeeded.",
}


class Service:
    """Logic shared by the endpoints of both APIs.

    Args:
        jobs: the store.
        workers: the workers that run the jobs.
        settings: the server's settings.
        keys: SHA-256 digests of the accepted keys. If there are none, everybody may use the server.
        models_dirs: folders to search for weights.
        body_timeout_s: seconds within which a request's body must arrive.
    """

    def __init__(
        self,
        jobs: Jobs,
        workers: Workers,
        settings: ServerSettings,
        *,
        keys: Iterable[str] = (),
        models_dirs: Sequence[Path] = (),
        body_timeout_s: float = 60.0,
    ) -> None:
        self.jobs, self.workers, self.settings, self.keys = jobs, workers, settings, Keys(keys)
        #: Path under which a proxy serves the application; "" for none.
        self.root_path = urlsplit(settings.public_url or "").path.rstrip("/")
        self.closing = threading.Event()
        self.models = Models(jobs, settings, models_dirs, self.closing)
        self.read = BodyReader(self.keys, timeout_s=body_timeout_s).read
        self.registry = prometheus_client.CollectorRegistry()
        self.submitted = prometheus_client.Counter(
            "image_to_3d_jobs_submitted", "Jobs that were queued.", registry=self.registry
        )
        self.registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics that are read from the store and the workers."""
        for state, description in _GAUGES.items():
            yield GaugeMetricFamily(
                f"image_to_3d_jobs_{state}", description, self.jobs.count(state)
            )
        yield GaugeMetricFamily("image_to_3d_workers", "Workers.", self.workers.alive())

    def base(self, request: Request) -> str:
        """Return the server's address as the client sees it, without a trailing slash."""
        return (self.settings.public_url or str(request.base_url)).rstrip("/")

    async def submit(
        self,
        request: Request,
        settings: JobRequest,
        sources: Sequence[str],
        owner: str,
        **more: Any,
    ) -> Job:
        """Fetch a job's images and queue the job.

        Args:
            request: the client's request.
            settings: the job's settings. If they name no model, the configured one is used.
            sources: the images as URLs, data URIs or base64.
            owner: see `Keys.owner`.
            more: see `Jobs.submit`.

        Raises:
            ApiError: 400 for unusable settings, images or models, 429 if the queue is full.
        """
        settings = settings.model_copy(
            update={"model_id": settings.model_id or self.settings.model}
        )
        await asyncio.to_thread(self.models.check, settings.model)
        try:
            check(settings, len(sources))
        except InvalidInput as error:
            raise ApiError(400, str(error)) from error
        await asyncio.to_thread(self.models.check_views, settings)
        base = self.base(request)
        images = [await self._image(source, base) for source in sources]
        await asyncio.to_thread(self.models.want, settings.model)
        try:
            job = await asyncio.to_thread(
                self.jobs.submit, settings, images, owner=owner, base=base, **more
            )
        except QueueFull:
            raise ApiError(429, "The queue is full: try again later.", _RETRY_AFTER_S) from None
        self.submitted.inc()
        return job

    async def _image(self, source: str, base: str) -> bytes:
        """Return an image file; read uploaded images from the store instead of the network."""
        if (upload := self._uploaded(source)) is not None:
            return await asyncio.to_thread(upload.read_bytes)
        if source.startswith(f"{base}/files/"):
            raise ApiError(400, "image: the uploaded image has expired, upload it again.")
        try:
            return await fetch_image(source, allow_private=self.settings.allow_private)
        except InvalidInput as error:
            raise ApiError(400, str(error)) from error

    def keep_upload(self, source: str) -> str:
        """Store an uploaded image, a data URI or base64, and return its token.

        Raises:
            ApiError: 400 if it is not a readable image.
        """
        try:
            content = decode_base64(source)
            check_image(content)
        except InvalidInput as error:
            raise ApiError(400, str(error)) from error
        return self.jobs.keep_files({"upload": content})

    def _uploaded(self, source: str) -> Path | None:
        if not source.startswith(("http://", "https://")):
            return None
        parts = urlsplit(source).path.removeprefix(self.root_path).split("/")
        if len(parts) != 4 or parts[:2] != ["", "files"]:
            return None
        return file_of(self.jobs, parts[2], parts[3])

    async def finished(self, job: Job, timeout_s: float) -> Job:
        """Wait until the job ends, the timeout passes or the server stops; return the job."""
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + timeout_s, _FIRST_POLL_S
        while job.state not in ENDED and loop.time() < until and not self.closing.is_set():
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_POLL_S)
            job = await asyncio.to_thread(self.jobs.get, job.id)
        return job

    async def job(self, id: int, owner: str) -> Job:
        """Return one of the owner's jobs.

        Raises:
            ApiError: 404 if the owner has no job with this id.
        """
        with suppress(KeyError, OverflowError):  # OverflowError: the id exceeds SQLite's integers
            job = await asyncio.to_thread(self.jobs.get, id)
            if job.owner == owner:
                return job
        raise ApiError(404, f"There is no job {id}.")

    async def say(self, job: Job, base: str) -> JSONResponse:
        """Return a response with a job's state; `base` is the prefix of links."""
        return answered(await asyncio.to_thread(self._answer, job, base))

    def webhook_body(self, job: Job) -> dict[str, Any]:
        """Return the content of a webhook for a job that has ended."""
        return self._answer(job, job.base).model_dump(exclude_none=True, by_alias=True)

    def _answer(self, job: Job, base: str) -> Answer:
        """Describe a job in any state; `base` is the prefix of links."""
        common: dict[str, Any] = {"id": job.id, "track_id": job.track_id}
        if job.state in ("failed", "cancelled"):
            return Answer(status="failed", message=without_paths(job.message), **common)

        def links(names: Sequence[str]) -> list[str]:
            return [f"{base}/files/{job.token}/{name}" for name in names]

        common["meta"] = _meta(job, links(["image"])[0])
        if job.state == "done":
            output = links(job.outputs)
            with suppress(FileNotFoundError):
                report = self.jobs.folder_of(job.token) / REPORT
                common["meta"]["report"] = json.loads(report.read_text())
            took = round(job.ended - job.started, 2) if job.ended and job.started else None
            return Answer(
                status="success", generation_time=took, output=output, proxy_links=output, **common
            )
        ahead = self.jobs.ahead_of(job) if job.state == "queued" else 0
        download = self.models.download_of(job.settings.model)
        message = f"The job is queued ({ahead} before it)."
        if stage := self.workers.stages.get(job.id):
            message = f"The job is running ({stage})."
        seconds = self.jobs.usual_seconds(job.settings.model_id)
        seconds *= 1 + ahead / max(len(self.workers), 1)
        fetch = f"{base}/api/v6/3d/fetch/{job.id}"
        return Answer(
            status="processing",
            tip=f"Post to {fetch} until the status is success or failed.",
            message=str(download) if download else message,
            eta=round(seconds + (download.remaining_s if download else 0), 1),
            queue_position=ahead,
            fetch_result=fetch,
            output=[],
            future_links=links(job.expected_outputs),
            **common,
        )

    def file_response(self, token: str, name: str) -> FileResponse:
        """Return a response with a file of a job or an upload; convert a mesh if necessary.

        Raises:
            ApiError: 404 if there is no such file.
        """
        path = file_of(self.jobs, token, name) or converted(self.jobs, token, name)
        if path is None:
            raise ApiError(404, "There is no such file, or it has expired.")
        kind = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
        return FileResponse(path, media_type=kind, filename=name)


def answered(answer: Answer) -> JSONResponse:
    """Return a response in ModelsLab's format."""
    return JSONResponse(answer.model_dump(exclude_none=True, by_alias=True))


def _meta(job: Job, image: str) -> dict[str, Any]:
    """Return the settings in use, with the value types of ModelsLab's documentation."""
    return job.settings.model_dump(exclude_none=True) | {
        "file_prefix": job.token,
        "foreground_ratio": f"{job.settings.foreground_ratio:g}".removeprefix("0"),
        "image": image,
        "seed": job.seed,
        "temp": "yes" if job.settings.temp else "no",
        "licenses": licenses_of(
            job.settings.model, job.settings.views_model, own_views=len(job.images) > 1
        ),
    }
