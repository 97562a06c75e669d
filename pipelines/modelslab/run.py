"""Run one job: start or resume it, poll until it is finished, and save the result."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import AddressRefused, ImageTo3DError, InvalidInput
from ..meshes.io import load_mesh
from ..meshes.mesh import Mesh
from ..net import HTTP_ERRORS, parse_url
from .answers import ApiAnswer, UnclearAnswer, is_job_id
from .api import Api, possibly_started
from .downloads import download_first, is_video, suffix_of
from .errors import (
    BadAnswer,
    GenerationFailed,
    JobTimedOut,
    ModelsLabError,
    PossiblyStarted,
    QuotaExceeded,
)
from .jobs import PaidJobs, fingerprint, starting_lock
from .request import OUTPUT_FORMATS, Request
from .timing import Timing, retry
from .upload import data_uri

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CloudResult:
    """The result of a job.

    Attributes:
        job_id: id for resuming the job, or "" if the service gave no valid id.
        path: the downloaded mesh file.
        mesh: the mesh loaded from `path`.
        video: the downloaded video file, or None.
        answer: the service's answer: links, duration, meta and seed.
    """

    job_id: str
    path: Path
    mesh: Mesh
    video: Path | None
    answer: ApiAnswer

    @property
    def record(self) -> dict[str, Any]:
        """The parameters, the seed, the duration and the links of the job, for JSON."""
        answer = self.answer
        return {
            **answer.meta,
            "job_id": self.job_id,
            "seed": answer.seed,
            "seconds": answer.generation_seconds,
            "links": (*answer.links, *answer.proxy_links),
        }


@dataclass
class JobRun:
    """A job for one image.

    Args:
        api: the service.
        jobs: record of paid jobs.
        timing: timeouts and pauses.
        image: the image to upload, or its http(s) URL.
        request: all other parameters.
        prefix: path prefix of the result files.
        notice: called with messages for the user.

    Attributes:
        id: job id, or None until it is known.
        sent: whether a paid request was sent and has not been answered yet.
        expected_s: expected total duration of the job in seconds.
    """

    api: Api
    jobs: PaidJobs
    timing: Timing
    image: Image.Image | str
    request: Request
    prefix: Path
    notice: Callable[[str], None]
    id: str | None = None
    sent: bool = False
    expected_s: float = 0.0
    _fingerprint: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self._until = time.monotonic() + self.timing.overall

    async def run(self, job_id: str, *, pay_again: bool) -> CloudResult:
        """Run the job. See `ModelsLab.image_to_3d`."""
        self._fingerprint = await asyncio.to_thread(
            fingerprint, self.api.server.api, self.image, self.request
        )
        async with starting_lock(self._fingerprint):
            known = self._known_job(job_id, pay_again)
            if known is not None:
                self.id, answer = known, ApiAnswer("processing", known)
            else:
                answer = await self._start(pay_again)
        try:
            answer = await self._wait_until_finished(answer)
            if not answer.files:
                raise GenerationFailed(
                    "ModelsLab finished the job without a file: try another image or seed."
                )
        except GenerationFailed:
            if self.id:
                self.jobs.forget(self.id)
            raise
        result = await self._save(answer)
        if self.id is None:
            self.jobs.settle(self._fingerprint)
        return result

    def timed_out(self) -> ModelsLabError:
        """Make the error for a job that exceeded `timing.overall`."""
        if self.sent:
            return possibly_started("it timed out")
        state = f"Job {self.id} is still running." if self.id else "Nothing was started."
        return JobTimedOut(f"ModelsLab timed out after {self.timing.overall:.0f} seconds. {state}")

    def _known_job(self, job_id: str, pay_again: bool) -> str | None:
        """Return the id of the job to resume, or None to start a new one.

        A job is resumed if the user gives its id, or if the same request was paid for before.
        """
        if job_id:
            if not is_job_id(job_id):
                raise InvalidInput(
                    f"A ModelsLab job id is a number such as 109655545, got '{job_id[:40]}'."
                )
            if self.jobs.belongs_to_another(job_id, self._fingerprint):
                self.notice(
                    f"ModelsLab job {job_id} was made from another image or with other settings."
                )
            return job_id
        known = None if pay_again else self.jobs.find(self._fingerprint)
        if known:
            self.notice(f"Resuming ModelsLab job {known} of the same request, at no cost.")
        return known

    async def _start(self, pay_again: bool) -> ApiAnswer:
        """Start the job.

        Raises:
            PossiblyStarted: if an earlier request got no answer. It is raised only once: the next
                run starts a new job.
        """
        sent_at = self.jobs.pop_unanswered(self._fingerprint)
        if sent_at is not None and not pay_again:
            raise PossiblyStarted(
                "A job for this image and these settings was sent to ModelsLab at"
                f" {time.strftime('%Y-%m-%d %H:%M', time.localtime(sent_at))}, but its answer never"
                " arrived: it may have been started and paid for. Look for it on modelslab.com and"
                " put its id into job_id, or run again to send and pay for a new job."
            )
        url = await self._image_url()
        answer = await retry(lambda: self._send_paid(url), self.timing, self._until)
        self.id = answer.id
        self.notice(f"ModelsLab job {answer.id} has started.")
        return answer

    async def _send_paid(self, image_url: str) -> ApiAnswer:
        """Send the paid request once; record it before sending and after the answer."""
        self.jobs.begin(self._fingerprint)
        self.sent = True
        try:
            answer = await self.api.start(self.request, image_url)
        except (PossiblyStarted, asyncio.CancelledError):
            raise
        except Exception:
            self.sent = False
            self.jobs.settle(self._fingerprint)
            raise
        self.sent = False
        if answer.id:
            self.jobs.settle(self._fingerprint, answer.id)
        return answer

    async def _image_url(self) -> str:
        if isinstance(self.image, str):
            parse_url(self.image)
            return self.image
        encoded = await asyncio.to_thread(data_uri, self.image, self.notice)
        return await retry(lambda: self.api.upload(encoded), self.timing, self._until)

    async def _wait_until_finished(self, answer: ApiAnswer) -> ApiAnswer:
        """Poll until the service reports that the job has finished or failed.

        Network and proxy errors are transient and do not end the polling.
        """
        polls, missing_since, began = 0, None, time.monotonic()
        while answer.status == "processing":
            assert self.id is not None
            polls += 1
            if answer.eta is not None:
                self.expected_s = time.monotonic() - began + answer.eta
            await asyncio.sleep(self.timing.poll_pause(polls, answer.eta))
            try:
                answer = await self.api.poll(self.id)
                missing_since = None
            except UnclearAnswer as error:
                log.info(
                    "ModelsLab's answer does not reveal the state of job %s: %s", self.id, error
                )
                missing_since = (missing_since or time.monotonic()) if error.missing else None
                if missing_since and time.monotonic() - missing_since > self.timing.appearing:
                    raise error.reason from None
                await asyncio.sleep(error.retry_after or 0)
            except QuotaExceeded as error:
                if time.monotonic() + (error.retry_after or 0) > self._until:
                    raise
                await asyncio.sleep(error.retry_after or 0)
            except (*HTTP_ERRORS, AddressRefused) as error:
                log.info("Could not poll ModelsLab job %s: %r", self.id, error)
        return answer

    async def _save(self, answer: ApiAnswer) -> CloudResult:
        path = mesh = video = None
        name = self.id or self._fingerprint[:12]
        for addresses in answer.files:
            suffix = suffix_of(addresses)
            if suffix is None or (video if is_video(suffix) else mesh) is not None:
                continue
            place = self.prefix.with_name(f"{self.prefix.name}-{name}{suffix}")
            try:
                await download_first(self.api.http, addresses, place, self.timing)
            except ModelsLabError as error:
                if not is_video(suffix):
                    raise
                self.notice(f"The video is missing: {error}")
                continue
            if is_video(suffix):
                video = place
            else:
                path, mesh = place, await asyncio.to_thread(_load, place)
        if path is None or mesh is None:
            raise BadAnswer(
                f"ModelsLab's result has no {', '.join(OUTPUT_FORMATS).upper()} file: nothing was"
                " saved."
            )
        return CloudResult(self.id or "", path, mesh, video, answer)


def _load(path: Path) -> Mesh:
    try:
        return load_mesh(path)
    except ImageTo3DError as error:
        raise BadAnswer(
            f"ModelsLab's mesh is kept as {path}, but cannot be read: {error}"
        ) from error
