"""A client for ModelsLab's image_to_3d API, or for another server that implements it.

A job is charged when it starts. The request that starts a job is only retried if it certainly did
not start one: the connection failed, or the service was busy (HTTP 429). After a job has started,
the client waits until the service reports a result or an error, or until the timeout.

Source: the vendor's public documentation of the v6 API.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..net import FAKE_IP_NETWORK, Access, make_client
from ..progress import Progress, silent
from .api import Api
from .errors import GenerationFailed, ModelsLabError
from .jobs import PaidJobs
from .request import Request
from .run import CloudResult, JobRun
from .servers import Server
from .timing import Timing, run_interruptibly

__all__ = ["CloudResult", "ModelsLab", "images_to_3d"]

log = logging.getLogger(__name__)


class ModelsLab:
    """A client of the service, for many jobs. Use it as an asynchronous context manager.

    Args:
        server: URL and key. The key is sent only in request bodies to this URL.
        jobs: record of paid jobs; None keeps no record.
        timing: timeouts and pauses.
    """

    def __init__(
        self, server: Server, *, jobs: PaidJobs | None = None, timing: Timing | None = None
    ) -> None:
        named = frozenset({server.host}) if server.named else frozenset[str]()
        http = make_client(Access(named_hosts=named, networks=(FAKE_IP_NETWORK,)))
        self._api, self._timing = Api(http, server), timing or Timing()
        self._jobs = jobs or PaidJobs()

    async def __aenter__(self) -> ModelsLab:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._api.http.aclose()

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
        """Make the mesh of one image.

        Args:
            image: the image to upload, or its http(s) URL.
            request: all other parameters.
            prefix: path prefix of the results. The mesh goes to `<prefix>-<job id>.obj`, or with
                the suffix of its format; a video goes to the same folder. Files are written
                atomically.
            job_id: resume this paid job instead of starting a new one.
            pay_again: start a new job even if the same request was paid for before.
            progress: called several times a second with the elapsed and the expected seconds. Any
                error it raises cancels the wait.
            notice: called with messages for the user, such as the job id and deviations from the
                request.

        Raises:
            ModelsLabError: see `errors`; its `job_id` is the job's id. PossiblyStarted is also
                raised if an earlier run of the same request got no answer. Running once more then
                pays for a new job.
            InvalidInput: if the URL or the job id is malformed.
            EnvironmentProblem: if a file cannot be written, or the record of paid jobs fails.
        """
        run = JobRun(self._api, self._jobs, self._timing, image, request, prefix, notice)
        began = time.monotonic()

        def check() -> None:
            passed = int(time.monotonic() - began)
            progress(passed, max(passed + 1, int(run.expected_s)))

        try:
            work = run.run(job_id.strip(), pay_again=pay_again)
            return await run_interruptibly(work, check, run.timed_out, self._timing)
        except ModelsLabError as error:
            error.job_id = run.id
            if run.id and not isinstance(error, GenerationFailed):
                error.resume_ids = run.id
            raise


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
    """Make one mesh per image, running the jobs one after the other.

    Args:
        client: the service. It is closed at the end.
        images: N images.
        values: arguments of `Request` for all images. Image i uses the seed plus i, unless the
            seed is 0.
        prefixes: N path prefixes, see `ModelsLab.image_to_3d`.
        job_ids: jobs to resume for the first images. An empty text starts a new job.
        pay_again: see `ModelsLab.image_to_3d`.
        progress_of: returns the progress callback for image i.
        notice: see `ModelsLab.image_to_3d`.

    Raises:
        InvalidInput: if a value is out of bounds. Nothing has been sent then.
        ModelsLabError: see `ModelsLab.image_to_3d`. The message lists all jobs so far, so that
            they can be resumed without paying twice.
    """
    request = Request(**values)
    results: list[CloudResult] = []
    async with client:
        for i, (image, prefix) in enumerate(zip(images, prefixes, strict=True)):
            seed = (request.seed + i) % 2**32 if request.seed else 0
            try:
                results.append(
                    await client.image_to_3d(
                        image,
                        request.model_copy(update={"seed": seed}),
                        prefix,
                        job_id=job_ids[i] if i < len(job_ids) else "",
                        pay_again=pay_again,
                        progress=progress_of(i),
                        notice=notice,
                    )
                )
            except ModelsLabError as error:
                ids = [*(result.job_id for result in results), error.resume_ids]
                error.resume_ids = ", ".join(ids).removesuffix(", ")
                raise
    return results
