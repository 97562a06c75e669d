"""The same job in the cloud: ModelsLab's image_to_3d, or another server that speaks like it.

A job costs money when it starts, so the request that starts it is sent again only if it surely
started nothing: the connection was never made, or the service answered that it takes no more
requests now (429). Once a job has started, nothing but the service's own word on it, or the end of
the time, ends the waiting: errors of the network and of servers in between are weather.

Source: the vendor's public documentation of the v6 API.
"""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import httpx
from PIL import Image

from ..errors import (
    BadAnswer,
    ConnectionFailed,
    GenerationFailed,
    ImageTo3DError,
    InvalidInput,
    JobTimedOut,
    ModelsLabError,
    QuotaExceeded,
)
from ..meshes.io import load_mesh
from ..meshes.mesh import Mesh
from ..progress import Progress, silent
from .answers import Answer, Unclear, id_in, parse
from .downloads import download, is_video, suffix_of
from .jobs import PaidJobs, fingerprint
from .request import OUTPUT_FORMATS, Request
from .servers import Server
from .transport import HTTP_ERRORS, NOT_SENT, Result, Timing, make_client, supervised

log = logging.getLogger(__name__)

_MAX_UPLOAD = 5_000_000  # characters of the image as a data URI
_MAX_ANSWER = 4 * 2**20
_ATTEMPTS = 5
_STARTING: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by fingerprint
_NEVER = httpx.Timeout(None, connect=15.0)  # until the job's whole time is up


@dataclass(frozen=True)
class CloudResult:
    """What a job gave.

    Attributes:
        job_id: takes the job up again.
        path: the mesh's file on this machine.
        mesh: what is in it.
        video: the file, or None.
        links: where the files are on the service.
        generation_seconds: what the service took, if it said so.
        meta: the request as the service understood it, without the key.
        seed: what was used, if it said so.
    """

    job_id: str
    path: Path
    mesh: Mesh
    video: Path | None
    links: tuple[str, ...]
    generation_seconds: float | None
    meta: Mapping[str, Any]
    seed: int | None


@dataclass
class _Job:
    """How far a job has come: `sent` while it may have started without a known id."""

    id: str | None = None
    sent: bool = False
    expected: float | None = None

    def too_late(self) -> ModelsLabError:
        if self.id is None and self.sent:
            return _perhaps_started("no answer in time")
        state = f"Job {self.id} is still at work." if self.id else "Nothing was started."
        return JobTimedOut(f"ModelsLab did not come to an end in time. {state}")


class ModelsLab:
    """A client of the service, for many jobs. Use it as an asynchronous context manager.

    Args:
        server: its key goes into the bodies of requests to its address, and nowhere else.
        jobs: where jobs that were paid for are remembered, or None.
        timing: how long to wait.
    """

    def __init__(
        self, server: Server, *, jobs: PaidJobs | None = None, timing: Timing | None = None
    ) -> None:
        self._server, self._jobs, self._timing = server, jobs, timing or Timing()
        self._http = make_client(frozenset({server.host}) if server.named else frozenset())

    async def __aenter__(self) -> ModelsLab:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def image_to_3d(
        self,
        image: Image.Image | str,
        request: Request,
        prefix: Path,
        *,
        job_id: str = "",
        pay_again: bool = False,
        progress: Progress = silent,
        notice: Callable[[str], None] = log.info,
    ) -> CloudResult:
        """The mesh of one image.

        Args:
            image: an image, which is uploaded, or its http(s) address.
            request: everything else.
            prefix: the mesh goes to `<prefix>-<job's id>.obj` or as its format is called, a video
                beside it. Files are whole or not there.
            job_id: take up this job, which was paid for, instead of starting another.
            pay_again: start a new job although the same request was paid for before.
            progress: called several times a second with the seconds that have passed and that are
                expected; what it raises stops the waiting.
            notice: called with sentences that the user should see: the job's id, and what was done
                differently from what was asked for.

        Raises:
            ModelsLabError: of one kind or another, see `errors`; `job_id` says of which job.
            InvalidInput: if the address or the job's id is none.
            EnvironmentProblem: if the files cannot be written, or the list of jobs not be read.
        """
        job, began = _Job(), time.monotonic()

        def check() -> None:
            passed = time.monotonic() - began
            progress(int(passed), max(int(passed) + 1, int(job.expected or 0)))

        work = self._work(job, image, request, prefix, job_id.strip(), pay_again, notice)
        try:
            return await supervised(work, check, job.too_late, self._timing)
        except ModelsLabError as error:
            error.job_id = job.id
            if job.id and not isinstance(error, GenerationFailed):
                error.take_up = job.id
            raise

    async def _work(
        self,
        job: _Job,
        image: Image.Image | str,
        request: Request,
        prefix: Path,
        job_id: str,
        pay_again: bool,
        notice: Callable[[str], None],
    ) -> CloudResult:
        jobs = self._jobs
        own = await asyncio.to_thread(fingerprint, self._server.api, image, vars(request))
        # Equal requests of two nodes at once wait for each other: the second finds the first's job.
        lock = _STARTING.setdefault(own, asyncio.Lock())
        async with lock:
            known = job_id or (jobs.find(own) if jobs and not pay_again else None)
            if job_id and jobs and jobs.is_of_another(job_id, own):
                notice(f"ModelsLab job {job_id} was made of another image or with other settings.")
            if known:
                job.id = _safe_id(known)
                if not job_id:
                    notice(
                        f"ModelsLab job {known} of the same request is taken up: nothing is paid."
                    )
                answer = Answer("processing", known)
            else:
                address = await self._address_of(image, notice)
                answer = await self._insist(lambda: self._start(address, request, job))
                job.id = answer.id
                if jobs and answer.id:
                    jobs.keep(own, answer.id)
                notice(f"ModelsLab job {answer.id} has started.")
        try:
            answer = await self._finished(answer, job)
            if not answer.links and not answer.proxy_links:
                raise GenerationFailed(
                    f"ModelsLab ended job {job.id} without a file: try another image or seed."
                )
        except GenerationFailed:
            if jobs and job.id:
                jobs.forget(job.id)
            raise
        return await self._result(answer, job.id or "unknown", prefix, notice)

    async def _address_of(self, image: Image.Image | str, notice: Callable[[str], None]) -> str:
        if isinstance(image, str):
            if not image.startswith(("http://", "https://")):
                raise InvalidInput(
                    f"An image's address must begin with https:// or http://, got '{image[:60]}'."
                )
            return image
        body = {"base64_string": await asyncio.to_thread(data_uri, image, notice)}

        async def upload() -> str:
            answer = self._parse(*await self._post("base64_to_url", body))
            if not answer.links:
                raise Unclear(
                    BadAnswer("ModelsLab took the image but gave no address for it: try later.")
                )
            return answer.links[0]

        return await self._insist(upload)

    async def _start(self, image_url: str, request: Request, job: _Job) -> Answer:
        """Send the request that is paid for, once, and read what became of it."""
        job.sent = True
        try:
            status, retry_after, content = await self._post(
                "3d/image_to_3d", request.body(image_url), _NEVER
            )
        except NOT_SENT:
            job.sent = False
            raise
        except HTTP_ERRORS as error:
            raise _perhaps_started(type(error).__name__) from None
        except asyncio.CancelledError:
            log.warning(
                "Stopped while a job was on its way to ModelsLab: it may have been started and paid"
                " for; look on modelslab.com."
            )
            raise
        try:
            answer = self._parse(status, retry_after, content)
        except ModelsLabError:
            job.sent = False
            raise
        except Unclear as error:
            if 300 <= status < 500:
                job.sent = False
                raise error.reason from None
            answer = Answer("processing", id_in(content))
            if answer.id is None:
                raise _perhaps_started(str(error)) from None
        if answer.status == "processing" and answer.id is None:
            raise _perhaps_started("it was queued without an id")
        return answer

    async def _insist(self, ask: Callable[[], Awaitable[Result]]) -> Result:
        """Ask again where an answer, or none, means that nothing was done."""
        attempt = 0
        while True:
            attempt += 1
            pause = self._timing.pause(attempt)
            reason: ModelsLabError
            try:
                return await ask()
            except QuotaExceeded as error:
                pause, reason = error.retry_after or pause, error
            except Unclear as error:
                reason = error.reason
            except HTTP_ERRORS as error:
                reason = ConnectionFailed(
                    f"ModelsLab cannot be reached ({type(error).__name__}): check the network"
                    " connection and try again."
                )
            if attempt >= _ATTEMPTS:
                raise reason
            await asyncio.sleep(pause)

    async def _finished(self, answer: Answer, job: _Job) -> Answer:
        """Ask until the job has ended, in any weather."""
        attempt, missing_since, began = 0, None, time.monotonic()
        while answer.status == "processing":
            attempt += 1
            if answer.eta is not None:
                job.expected = time.monotonic() - began + answer.eta
            await asyncio.sleep(self._poll_seconds(attempt, answer.eta))
            try:
                # The address is made from the id: one that the server names could lead elsewhere,
                # and would receive the key.
                answer = self._parse(*await self._post(f"3d/fetch/{job.id}", {}))
                missing_since = None
            except Unclear as error:
                log.info("ModelsLab's answer says nothing of job %s: %s", job.id, error)
                missing_since = (missing_since or time.monotonic()) if error.missing else None
                if missing_since and time.monotonic() - missing_since > self._timing.appearing:
                    raise error.reason from None
            except QuotaExceeded as error:
                await asyncio.sleep(min(error.retry_after or 0, self._timing.longest_retry))
            except HTTP_ERRORS as error:
                log.info("ModelsLab cannot be asked for job %s: %r", job.id, error)
        return answer

    def _poll_seconds(self, attempt: int, eta: float | None) -> float:
        timing = self._timing
        if attempt == 1 and eta is not None and eta > 0:
            return min(max(eta, timing.first_poll), timing.longest_poll)
        return min(timing.first_poll * 1.5 ** min(attempt - 1, 30), timing.longest_poll)

    async def _result(
        self, answer: Answer, job: str, prefix: Path, notice: Callable[[str], None]
    ) -> CloudResult:
        path = mesh = video = None
        links, more = answer.links, answer.proxy_links
        for i in range(max(len(links), len(more))):
            addresses = [several[i] for several in (links, more) if i < len(several)]
            suffix = suffix_of(addresses)
            if suffix is None or (video if is_video(suffix) else mesh) is not None:
                continue
            place = prefix.with_name(f"{prefix.name}-{job}{suffix}")
            try:
                await download(self._http, addresses, place, self._timing)
            except ModelsLabError as error:
                if not is_video(suffix):
                    raise
                notice(f"The video is missing: {error}")
                continue
            if is_video(suffix):
                video = place
            else:
                path, mesh = place, await asyncio.to_thread(_loaded, place)
        if path is None or mesh is None:
            raise BadAnswer(
                f"ModelsLab's job {job} gave no {', '.join(OUTPUT_FORMATS).upper()}: nothing was"
                " saved."
            )
        meta = answer.meta or {}
        seed = str(meta.get("seed", ""))
        return CloudResult(
            job_id=job,
            path=path,
            mesh=mesh,
            video=video,
            links=(*links, *more),
            generation_seconds=answer.generation_seconds,
            meta=meta,
            seed=int(seed) if seed.isdecimal() and len(seed) < 20 else None,
        )

    def _parse(self, status: int, retry_after: str | None, content: bytes) -> Answer:
        return parse(content, status, retry_after=retry_after, redact=self._server.key.redact)

    async def _post(
        self, path: str, body: Mapping[str, Any], timeout: httpx.Timeout | None = None
    ) -> tuple[int, str | None, bytes]:
        """HTTP status, Retry-After and content of the answer to a POST."""
        async with self._http.stream(
            "POST",
            f"{self._server.api}/{path}",
            json={"key": self._server.key.reveal(), **body},
            timeout=timeout or self._http.timeout,
        ) as response:
            content = bytearray()
            async for part in response.aiter_bytes():
                content += part
                if len(content) > _MAX_ANSWER:
                    break  # far more than any answer: it cannot be read, as if it were cut off
            return response.status_code, response.headers.get("retry-after"), bytes(content)


async def images_to_3d(
    client: ModelsLab,
    images: Sequence[Image.Image],
    values: Mapping[str, Any],
    prefixes: Sequence[Path],
    *,
    job_ids: Sequence[str] = (),
    pay_again: bool = False,
    progress_of: Callable[[int], Progress],
    notice: Callable[[str], None],
) -> list[CloudResult]:
    """The meshes of images, one job after the other, in order.

    Args:
        client: is closed at the end.
        images: N.
        values: of `Request`, for all; the i-th image has the seed plus i, unless it is 0.
        prefixes: N, see `ModelsLab.image_to_3d`.
        job_ids: jobs to take up, for the first images; empty texts start new ones.
        pay_again: see `ModelsLab.image_to_3d`.
        progress_of: the progress of the i-th image.
        notice: see `ModelsLab.image_to_3d`.

    Raises:
        InvalidInput: if a value is out of bounds, before anything is sent.
        ModelsLabError: as in `ModelsLab.image_to_3d`; the sentence names all jobs so far, so that
            nothing is paid for twice.
    """
    request = Request(**values)
    results: list[CloudResult] = []
    async with client:
        for i, (image, prefix) in enumerate(zip(images, prefixes, strict=True)):
            try:
                results.append(
                    await client.image_to_3d(
                        image,
                        replace(request, seed=(request.seed + i) % 2**32 if request.seed else 0),
                        prefix,
                        job_id=job_ids[i] if i < len(job_ids) else "",
                        pay_again=pay_again,
                        progress=progress_of(i),
                        notice=notice,
                    )
                )
            except ModelsLabError as error:
                done = [result.job_id for result in results]
                error.take_up = ", ".join(done + [error.take_up] * bool(error.take_up))
                raise
    return results


def data_uri(image: Image.Image, notice: Callable[[str], None] = log.info) -> str:
    """An image as a data URI that the service takes.

    It is a PNG, or a smaller JPEG where that would be too large, which `notice` is told.
    """
    rgb = image.convert("RGB")
    if rgb.width * rgb.height <= _MAX_UPLOAD:  # no larger one can be small enough as a PNG
        encoded = _encoded(rgb, "PNG")
        if len(encoded) <= _MAX_UPLOAD:
            return encoded
    for side in (2048, 1024):
        rgb.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
        encoded = _encoded(rgb, "JPEG", quality=90)
        if len(encoded) <= _MAX_UPLOAD:
            break
    notice(
        f"The image is too large to upload: it is sent as a JPEG of {rgb.width} x {rgb.height}"
        " pixels."
    )
    return encoded


def _encoded(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _loaded(path: Path) -> Mesh:
    try:
        return load_mesh(path)
    except ImageTo3DError as error:
        raise BadAnswer(
            f"The mesh that ModelsLab gave is kept as {path}, but cannot be read: {error}"
        ) from error


def _safe_id(job: str) -> str:
    if not (job.isascii() and job.replace("-", "").replace("_", "").isalnum() and len(job) <= 64):
        raise InvalidInput(f"A ModelsLab job id is a number such as 109655545, got '{job[:40]}'.")
    return job


def _perhaps_started(why: str) -> ConnectionFailed:
    return ConnectionFailed(
        f"ModelsLab's answer to the job is not known ({why.rstrip('.')}), so it may have been"
        " started and paid for: look on modelslab.com before you send it again."
    )
