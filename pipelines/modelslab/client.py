"""A client of ModelsLab's image_to_3d, or of another server that speaks its protocol.

A job costs money when it starts. The request that starts it is sent again only if it surely started
nothing: the connection was never made, or the service accepts no more requests now (429). Once a
job has started, only the service's own answer or the timeout ends the waiting.

Source: the vendor's public documentation of the v6 API.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from ..net import FAKE_IP_NETWORK, Access, make_client
from ..progress import Progress, silent
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
        server: its key goes into the bodies of requests to its address, and nowhere else.
        jobs: where paid jobs are recorded, or None.
        timing: how long to wait.
    """

    def __init__(
        self, server: Server, *, jobs: PaidJobs | None = None, timing: Timing | None = None
    ) -> None:
        self._server, self._jobs, self._timing = server, jobs, timing or Timing()
        named = frozenset({server.host}) if server.named else frozenset[str]()
        self._http = make_client(Access(named_hosts=named, networks=(FAKE_IP_NETWORK,)))

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
        """Make the mesh of one image.

        Args:
            image: to be uploaded, or its http(s) URL.
            request: everything else.
            prefix: the mesh goes to `<prefix>-<job's id>.obj`, or the suffix of its format, and a
                video beside it. Files are complete or missing.
            job_id: resume this job, which was paid for, instead of starting another.
            pay_again: start a new job although the same request was paid for before.
            progress: called several times a second with the seconds that have passed and that are
                expected. Whatever it raises stops the waiting.
            notice: called with sentences that the user should see: the job's id, and what was done
                differently from the request.

        Raises:
            ModelsLabError: see `errors`; `job_id` names the job. PossiblyStarted if an earlier run
                of the same request was never answered: the next run pays for a new job.
            InvalidInput: if the URL or the job's id is malformed.
            EnvironmentProblem: if the files cannot be written, or the list of jobs cannot be used.
        """
        run = JobRun(
            self._http, self._server, self._jobs, self._timing, image, request, prefix, notice
        )
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
    """Make the meshes of images, one job after the other, in order.

    Args:
        client: closed at the end.
        images: N.
        values: of `Request`, for all; image i has the seed plus i, unless it is 0.
        prefixes: N, see `ModelsLab.image_to_3d`.
        job_ids: jobs to resume, for the first images; empty texts start new ones.
        pay_again: see `ModelsLab.image_to_3d`.
        progress_of: the progress of image i.
        notice: see `ModelsLab.image_to_3d`.

    Raises:
        InvalidInput: if a value is out of bounds, before anything is sent.
        ModelsLabError: see `ModelsLab.image_to_3d`; the message names all jobs so far, so that
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
                ids = [*(result.job_id for result in results), error.resume_ids]
                error.resume_ids = ", ".join(ids).removesuffix(", ")
                raise
    return results
