"""The same job in the cloud: ModelsLab's image_to_3d.

A job costs money when it starts, so the request that starts it is sent again only if it surely
started nothing: the connection was never made, or the service answered that it takes no more
requests now (429), or that it wants the picture in another field. Everything else, which can be
asked twice, is repeated after connection errors, 429 and 5xx.

Source: the vendor's public documentation of the v6 API.
"""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from ..errors import (
    BadAnswer,
    ConnectionFailed,
    GenerationFailed,
    InvalidInput,
    JobTimedOut,
    ModelsLabError,
    QuotaExceeded,
    RequestRejected,
)
from ..progress import Progress, silent
from .answers import Answer, parse
from .downloads import Download, download, kind_of
from .key import ApiKey
from .transport import (
    NOT_SENT,
    TIMEOUT,
    CheckedTransport,
    Resolve,
    Timing,
    backoff,
    make_client,
    resolve,
    stoppable,
)

log = logging.getLogger(__name__)

API = "https://modelslab.com/api/v6"
OUTPUT_FORMATS = ("obj", "glb")
MAX_RESOLUTION, MAX_CHUNK_SIZE = 512, 12000
_MAX_UPLOAD = 5_000_000  # characters of the picture as a data URI
_MAX_ANSWER = 4 * 2**20
_ATTEMPTS = 5


@dataclass(frozen=True)
class Request:
    """What the service is asked for; names, defaults and bounds are its own.

    Attributes:
        remove_bg: let the service remove the background; `foreground_ratio` counts only then.
        foreground_ratio: in (0, 1].
        resolution: 1 to 512.
        chunk_size: 1 to 12000.
        seed: 0 lets the service draw one.
        render: also make a video.
        temp: keep the results in a temporary place.
        output_format: one of `OUTPUT_FORMATS`.
        model_id: the service's name of the model.

    Raises:
        InvalidInput: if a value is out of bounds.
    """

    remove_bg: bool = False
    foreground_ratio: float = 0.85
    resolution: int = 256
    chunk_size: int = 8192
    seed: int = 0
    render: bool = False
    temp: bool = False
    output_format: str = "obj"
    model_id: str = "instantmesh"

    def __post_init__(self) -> None:
        if not 0 < self.foreground_ratio <= 1:
            raise InvalidInput(
                "The foreground ratio must lie above 0 and be at most 1, got"
                f" {self.foreground_ratio}."
            )
        if not 1 <= self.resolution <= MAX_RESOLUTION:
            raise InvalidInput(
                f"ModelsLab takes resolutions from 1 to {MAX_RESOLUTION}, got {self.resolution}."
            )
        if not 1 <= self.chunk_size <= MAX_CHUNK_SIZE:
            raise InvalidInput(
                f"ModelsLab takes chunk sizes from 1 to {MAX_CHUNK_SIZE}, got {self.chunk_size}."
            )
        if not 0 <= self.seed < 2**32:
            raise InvalidInput(f"ModelsLab takes seeds from 0 to {2**32 - 1}, got {self.seed}.")
        if self.output_format not in OUTPUT_FORMATS:
            raise InvalidInput(
                f"The output format must be one of {', '.join(OUTPUT_FORMATS)}, got"
                f" '{self.output_format}'."
            )
        if not self.model_id.strip():
            raise InvalidInput(
                "The model's name must not be empty: the usual one is 'instantmesh'."
            )

    def body(self, image_url: str) -> dict[str, Any]:
        """The JSON that is sent, without the key."""
        return {
            "model_id": self.model_id,
            "image": image_url,
            "render": self.render,
            "foreground_ratio": self.foreground_ratio,
            "remove_bg": self.remove_bg,
            "resolution": self.resolution,
            "chunk_size": self.chunk_size,
            "seed": self.seed,
            "temp": "yes" if self.temp else "no",
            "output_format": self.output_format,
        }


@dataclass(frozen=True)
class CloudResult:
    """What a job gave.

    Attributes:
        job_id: takes the job up again.
        mesh: the file on this machine.
        video: the file, or None.
        links, proxy_links: where the files are on the service.
        generation_seconds: what the service took, if it said so.
        meta: the request as the service understood it, without the key.
        seed: what was used, if it said so.
    """

    job_id: str
    mesh: Path
    video: Path | None
    links: tuple[str, ...]
    proxy_links: tuple[str, ...]
    generation_seconds: float | None
    meta: Mapping[str, Any]
    seed: int | None


class ModelsLab:
    """A client of the service, for many jobs. Use it as an asynchronous context manager.

    Args:
        key: goes into the bodies of requests to `api`, and nowhere else.
        api: the address of the service.
        allow_loopback: take http and loopback addresses; for tests.
        resolver: host and port to addresses.
    """

    def __init__(
        self,
        key: ApiKey,
        *,
        api: str = API,
        allow_loopback: bool = False,
        resolver: Resolve = resolve,
        timing: Timing | None = None,
    ) -> None:
        self._key, self._api, self._timing = key, api.rstrip("/"), timing or Timing()
        self._http = make_client(CheckedTransport(allow_loopback=allow_loopback, resolver=resolver))

    async def __aenter__(self) -> ModelsLab:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def image_to_3d(
        self,
        image: Image.Image | str,
        request: Request,
        mesh_path: Path,
        *,
        job_id: str = "",
        progress: Progress = silent,
        notice: Callable[[str], None] = log.info,
    ) -> CloudResult:
        """The mesh of one picture.

        Args:
            image: a picture, which is uploaded, or its http(s) address.
            request: everything else.
            mesh_path: without its ending: the mesh goes to `<mesh_path>.obj` or `.glb`, a video
                beside it. Files are whole or not there.
            job_id: take up this job, which was paid for, instead of starting another.
            progress: called several times a second with the seconds that have passed and that are
                expected; what it raises stops the waiting.
            notice: called with sentences that the user should see: the job's id, and that a picture
                was made smaller.

        Raises:
            ModelsLabError: of one kind or another, see `errors`.
        """
        clock = _Clock(self._timing, progress)
        if job_id:
            answer = Answer("processing", job_id.strip(), (), (), None, None, {}, "")
        else:
            answer = await self._start(await self._address_of(image, clock, notice), request, clock)
            notice(f"ModelsLab job {answer.id} has started: this id takes it up again.")
        answer = await self._finished(answer, clock)
        return await self._result(answer, job_id, mesh_path, clock)

    async def _address_of(
        self, image: Image.Image | str, clock: _Clock, notice: Callable[[str], None]
    ) -> str:
        if isinstance(image, str):
            if not image.startswith(("http://", "https://")):
                raise InvalidInput(
                    f"A picture's address must begin with https:// or http://, got '{image[:60]}'."
                )
            return image
        answer = await self._ask("base64_to_url", {"base64_string": data_uri(image, notice)}, clock)
        if not answer.links:
            raise BadAnswer(
                "ModelsLab took the picture but gave no address for it: try again later."
            )
        return answer.links[0]

    async def _start(self, image_url: str, request: Request, clock: _Clock) -> Answer:
        body = request.body(image_url)
        try:
            answer = await self._ask("3d/image_to_3d", body, clock, paid=True)
        except RequestRejected as error:
            if "init_image" not in str(error):
                raise
            answer = await self._ask(
                "3d/image_to_3d", body | {"init_image": image_url}, clock, paid=True
            )
        except ModelsLabError:
            raise
        except BaseException:
            log.warning(
                "Stopped while a job was on its way to ModelsLab: it may have been started and paid"
                " for; look on modelslab.com."
            )
            raise
        if answer.id is None and answer.status == "processing":
            raise BadAnswer(
                "ModelsLab queued the job without an id, so that its result cannot be fetched: look"
                " for it on modelslab.com."
            )
        return answer

    async def _finished(self, answer: Answer, clock: _Clock) -> Answer:
        """Ask until the job has ended."""
        attempt = 0
        job = answer.id
        while answer.status == "processing":
            assert job is not None
            attempt += 1
            await clock.wait(self._poll_seconds(attempt, answer.eta), answer.eta, job)
            # The address is made from the id: one that the server names could lead elsewhere, and
            # would receive the key.
            answer = await self._ask(f"3d/fetch/{_safe_id(job)}", {}, clock, job=job)
        return answer if answer.id is not None else replace(answer, id=job)

    def _poll_seconds(self, attempt: int, eta: float | None) -> float:
        timing = self._timing
        if attempt == 1 and eta is not None and eta > 0:
            return min(max(eta, timing.first_poll), timing.longest_poll)
        return min(timing.first_poll * 1.5 ** (attempt - 1), timing.longest_poll)

    async def _result(
        self, answer: Answer, job_id: str, mesh_path: Path, clock: _Clock
    ) -> CloudResult:
        job = answer.id or job_id or "unknown"
        if not answer.links and not answer.proxy_links:
            raise GenerationFailed(
                f"ModelsLab ended job {job} without a file: try another picture or seed."
            )
        files: dict[str, Path] = {}
        for i in range(max(len(answer.links), len(answer.proxy_links))):
            addresses = [links[i] for links in (answer.links, answer.proxy_links) if i < len(links)]
            kind = kind_of(addresses)
            if kind is not None and kind not in files:
                files[kind] = await download(
                    Download(self._http, addresses, mesh_path, self._timing, clock.check)
                )
        if "mesh" not in files:
            raise BadAnswer(f"ModelsLab's job {job} gave no OBJ or GLB file: nothing was saved.")
        seed = str(answer.meta.get("seed", ""))
        return CloudResult(
            job_id=job,
            mesh=files["mesh"],
            video=files.get("video"),
            links=answer.links,
            proxy_links=answer.proxy_links,
            generation_seconds=answer.generation_seconds,
            meta=answer.meta,
            seed=int(seed) if seed.isdigit() else None,
        )

    async def _ask(
        self,
        path: str,
        body: Mapping[str, Any],
        clock: _Clock,
        *,
        paid: bool = False,
        job: str = "",
    ) -> Answer:
        """POST to the service, again if need be and allowed, and read the answer."""
        attempt = 0
        reason: ModelsLabError
        while True:
            attempt += 1
            pause = backoff(attempt, self._timing.first_retry, self._timing.longest_retry)
            try:
                return await self._ask_once(path, body, clock, paid)
            except QuotaExceeded as error:
                pause, reason = error.retry_after or pause, error
            except NOT_SENT as error:
                reason = _unreachable(error)
            except (httpx.TransportError, _ServerError) as error:
                if paid:
                    raise _perhaps_started(error) from None
                reason = error.reason if isinstance(error, _ServerError) else _unreachable(error)
            if attempt >= _ATTEMPTS:
                raise reason from None
            await clock.wait(pause, None, job)

    async def _ask_once(
        self, path: str, body: Mapping[str, Any], clock: _Clock, paid: bool
    ) -> Answer:
        # The job is paid for once the request is sent. Its id comes with the answer: wait for it.
        timeout = httpx.Timeout(self._timing.overall, connect=TIMEOUT.connect) if paid else TIMEOUT
        request = self._http.build_request(
            "POST", f"{self._api}/{path}", json={"key": self._key.reveal(), **body}, timeout=timeout
        )
        status, retry_after, content = await self._exchange(request, clock)
        if 300 <= status < 400:
            raise BadAnswer(
                "ModelsLab's API answered with a redirect, which is not followed, since it would"
                " receive the API key."
            )
        try:
            return parse(content, status, retry_after=retry_after, redact=self._key.redact)
        except ModelsLabError as error:
            if status >= 500:
                raise _ServerError(error) from None
            raise

    async def _exchange(
        self, request: httpx.Request, clock: _Clock
    ) -> tuple[int, str | None, bytes]:
        async def read() -> tuple[int, str | None, bytes]:
            response = await self._http.send(request, stream=True)
            try:
                content = bytearray()
                async for part in response.aiter_bytes():
                    content += part
                    if len(content) > _MAX_ANSWER:
                        raise BadAnswer(
                            "ModelsLab's answer is far larger than any answer should be: it was not"
                            " read to the end."
                        )
                return response.status_code, response.headers.get("retry-after"), bytes(content)
            finally:
                await response.aclose()

        return await stoppable(read(), clock.check, self._timing.check)


class _ServerError(Exception):
    """An answer of 5xx, which may or may not mean that nothing happened."""

    def __init__(self, reason: ModelsLabError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class _Clock:
    """The time of one job: it is reported, and the work ends when it is up or the user says so."""

    def __init__(self, timing: Timing, progress: Progress) -> None:
        self._timing, self._progress = timing, progress
        self._began = time.monotonic()
        self._expected = timing.longest_poll

    def check(self) -> None:
        passed = time.monotonic() - self._began
        self._progress(int(passed), max(int(passed) + 1, int(self._expected)))

    async def wait(self, seconds: float, eta: float | None, job: str) -> None:
        """Sleep, looking up several times a second."""
        if eta is not None:
            self._expected = time.monotonic() - self._began + eta
        until = time.monotonic() + seconds
        if until - self._began > self._timing.overall:
            known = (
                f"Job {job} is still at work: give its id to the node's job_id to take it up again."
                if job
                else "Nothing was started."
            )
            raise JobTimedOut(
                f"ModelsLab did not answer within {self._timing.overall:.0f} seconds. {known}"
            )
        while (left := until - time.monotonic()) > 0:
            self.check()
            await asyncio.sleep(min(left, self._timing.check))
        self.check()


def data_uri(image: Image.Image, notice: Callable[[str], None] = log.info) -> str:
    """A picture as a data URI that the service takes.

    It is a PNG, or a smaller JPEG where that would be too large, which `notice` is told.
    """
    rgb = image.convert("RGB")
    encoded = _encoded(rgb, "PNG")
    quality_and_side = [
        (95, 1.0),
        (90, 1.0),
        (90, 0.75),
        (85, 0.5),
        (85, 0.35),
        (80, 0.25),
        (80, 0.1),
    ]
    for quality, share in quality_and_side:
        if len(encoded) <= _MAX_UPLOAD:
            return encoded
        size = (max(1, round(rgb.width * share)), max(1, round(rgb.height * share)))
        notice(
            f"The picture is too large to upload: it is sent as a JPEG of {size[0]} x {size[1]}"
            " pixels."
        )
        encoded = _encoded(rgb.resize(size, Image.Resampling.LANCZOS), "JPEG", quality=quality)
    return encoded


def _encoded(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _safe_id(job: str) -> str:
    if not job.replace("-", "").replace("_", "").isalnum():
        raise InvalidInput(f"A ModelsLab job id is a number such as 109655545, got '{job[:40]}'.")
    return job


def _unreachable(error: Exception) -> ConnectionFailed:
    return ConnectionFailed(
        f"ModelsLab cannot be reached ({type(error).__name__}): check the network connection and"
        " try again."
    )


def _perhaps_started(error: Exception) -> ModelsLabError:
    kind = type(error).__name__ if isinstance(error, httpx.TransportError) else str(error)
    return ConnectionFailed(
        f"The connection to ModelsLab failed after the job was sent ({kind}), so it may have been"
        " started and paid for: look on modelslab.com before you send it again."
    )
