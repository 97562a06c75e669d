"""Run an agent's jobs one after another in a worker process, and remember how they ended."""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..errors import InvalidInput
from ..multiview.photographs import Viewpoints
from ..result import JobResult
from ..settings import JobSettings
from ..workers.process import WorkerProcess, WorkFunction, WorkResult
from ..workers.threads import share_of_cores

log = logging.getLogger(__name__)


@dataclass
class AgentJob:
    """A job and its progress.

    Attributes:
        images, cameras: see `job.prepare`.
        folder: folder of the result files; removed if the job fails or is cancelled.
        stage, done, total: progress of the current stage.
        cancelled: whether the agent has cancelled the job.
        outcome: how the work ended; None while it has not.
        started, ended: `time.monotonic()`; None if not yet reached.
        work: future that is done when the job has ended.
    """

    id: str
    images: Sequence[Path]
    cameras: Viewpoints | None
    settings: JobSettings
    folder: Path
    stage: str = ""
    done: int = 0
    total: int = 1
    cancelled: bool = False
    outcome: WorkResult | None = None
    started: float | None = None
    ended: float | None = None
    work: Future[None] = field(default_factory=Future)

    @property
    def state(self) -> Literal["queued", "running", "done", "failed", "cancelled"]:
        if self.outcome is not None and self.outcome.kind != "cancelled":
            return "done" if self.outcome.kind == "done" else "failed"
        if self.cancelled:
            return "cancelled"
        return "queued" if self.started is None else "running"

    @property
    def message(self) -> str:
        """One sentence on why the job failed or was cancelled; empty in all other states."""
        if self.state == "cancelled":
            return "The job was cancelled."
        return self.outcome.message if self.outcome else ""

    @property
    def result(self) -> JobResult | None:
        """Files and report, once the state is "done"."""
        return self.outcome.value if self.outcome else None

    @property
    def seconds(self) -> float:
        """Seconds that the job has run."""
        if self.started is None:
            return 0.0
        return (time.monotonic() if self.ended is None else self.ended) - self.started


class AgentJobs:
    """The jobs of one agent, which run in order in one worker process.

    Args:
        make_work: factory of the work function, such as `Runner`; must be picklable.
        limit: timeout of a job in seconds.
    """

    def __init__(self, make_work: Callable[[], WorkFunction], *, limit: float = 3600.0) -> None:
        self._jobs: dict[str, AgentJob] = {}
        self._limit = limit
        self._closing = threading.Event()
        self._process = WorkerProcess(make_work, threads=share_of_cores(1))
        self._thread = ThreadPoolExecutor(max_workers=1)

    def close(self) -> None:
        """Kill the worker process."""
        self._closing.set()
        self._thread.shutdown(cancel_futures=True)
        self._process.stop()

    def start(
        self,
        images: Sequence[Path],
        cameras: Viewpoints | None,
        settings: JobSettings,
        folder: Path,
    ) -> AgentJob:
        """Queue a job; its files are named after the first image."""
        new = AgentJob(secrets.token_hex(4), images, cameras, settings, folder)
        self._jobs[new.id] = new
        new.work = self._thread.submit(self._run, new)
        return new

    def get(self, id: str) -> AgentJob:
        """Return a job.

        Raises:
            InvalidInput: if there is no job with this id.
        """
        if id not in self._jobs:
            known = ", ".join(self._jobs) or "none"
            raise InvalidInput(f"There is no job {id!r}: the jobs of this session are {known}.")
        return self._jobs[id]

    def wait(self, job: AgentJob, seconds: float) -> None:
        """Wait until a job has ended, but at most the given number of seconds."""
        if not job.cancelled:
            wait([job.work], seconds)

    def cancel(self, job: AgentJob) -> None:
        """Cancel a job; has no effect if it has already ended."""
        job.cancelled = True

    def last_seconds(self, model: str) -> float | None:
        """Return how long the last job of a model took; None if none has succeeded."""
        results = [job.result for job in [*self._jobs.values()] if job.settings.model == model]
        took = [sum(result.seconds.values()) for result in results if result is not None]
        return took[-1] if took else None

    def _run(self, job: AgentJob) -> None:
        """Run a job in the worker process, unless it has been cancelled."""
        if not job.cancelled:
            job.started = time.monotonic()
            job.outcome = self._outcome(job)
            job.ended = time.monotonic()
        if job.state != "done":
            shutil.rmtree(job.folder, ignore_errors=True)

    def _outcome(self, job: AgentJob) -> WorkResult:
        def on_report(stage: str, done: int, total: int) -> None:
            job.stage, job.done, job.total = stage, done, total

        name = job.images[0].stem
        try:
            return self._process.run(
                job.images,
                job.cameras,
                job.settings,
                job.folder,
                name,
                name,
                timeout=self._limit,
                on_report=on_report,
                cancelled=lambda: job.cancelled or self._closing.is_set(),
            )
        except Exception as error:
            log.exception("job %s", job.id)
            self._process.stop()
            return WorkResult("broken", message=f"{type(error).__name__}: {error}")
