"""Run an agent's jobs one after another in a worker process, and remember how they ended."""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from .. import job
from ..errors import InvalidInput
from ..result import JobResult
from ..settings import JobSettings, LoadSettings
from ..workers.process import WorkerProcess, WorkFunction, WorkResult
from ..workers.supervisor import Supervisor

log = logging.getLogger(__name__)

State = Literal["queued", "running", "done", "failed", "cancelled"]
_MEMORY_ADVICE = "use a smaller resolution or chunk_size."
_WAIT_INTERVAL_S = 0.5


@dataclass
class AgentJob:
    """A job and its progress.

    Attributes:
        folder: folder of the result files; removed if the job fails or is cancelled.
        stage, done, total: progress of the current stage.
        message: reason of the failure, in one sentence.
        result: files and report, once the state is "done".
        started, ended: `time.monotonic()`; None if not yet reached.
    """

    id: str
    image: Path
    settings: JobSettings
    folder: Path
    state: State = "queued"
    stage: str = ""
    done: int = 0
    total: int = 1
    message: str = ""
    result: JobResult | None = None
    started: float | None = None
    ended: float | None = None

    @property
    def has_ended(self) -> bool:
        return self.state not in ("queued", "running")

    @property
    def seconds(self) -> float:
        """Seconds that the job has run."""
        if self.started is None:
            return 0.0
        return (time.monotonic() if self.ended is None else self.ended) - self.started


class AgentRunner:
    """Run jobs in a worker's process; keep the last models loaded.

    Args:
        loading: settings of model loading.
    """

    def __init__(self, loading: LoadSettings) -> None:
        self._run = job.Runner(loading, _MEMORY_ADVICE)

    def __call__(
        self,
        image: Path,
        settings: JobSettings,
        folder: Path,
        report: Callable[[str, int, int], None],
    ) -> JobResult:
        """Run one job, and raise its error."""

        def progress(
            done: int, total: int, preview: Tensor | None = None, *, stage: str = ""
        ) -> None:
            report(stage, done, total)

        return self._run(
            [image],
            settings,
            folder,
            image.stem,
            title=image.stem,
            own_folder=False,
            progress=progress,
        )


class AgentJobs:
    """The jobs of one agent, which run in order in one worker process.

    Args:
        make_work: factory of the work function, such as `AgentRunner`; must be picklable.
        limit: timeout of a job in seconds.
    """

    def __init__(self, make_work: Callable[[], WorkFunction], *, limit: float = 3600.0) -> None:
        self._jobs: dict[str, AgentJob] = {}
        self._changed = threading.Condition()
        self._limit = limit
        self._supervisor = Supervisor([make_work], self._step)
        self._supervisor.start()

    def close(self) -> None:
        """Kill the worker process."""
        self._supervisor.stopping.set()
        with self._changed:
            self._changed.notify_all()
        self._supervisor.stop()

    def start(self, image: Path, settings: JobSettings, folder: Path) -> AgentJob:
        """Queue a job."""
        new = AgentJob(secrets.token_hex(4), image, settings, folder)
        with self._changed:
            self._jobs[new.id] = new
            self._changed.notify_all()
        return new

    def get(self, id: str) -> AgentJob:
        """Return a job.

        Raises:
            InvalidInput: if there is none with this id.
        """
        with self._changed:
            if id not in self._jobs:
                known = ", ".join(self._jobs) or "none"
                raise InvalidInput(f"There is no job {id!r}: the jobs of this session are {known}.")
            return self._jobs[id]

    def wait(self, job: AgentJob, seconds: float) -> None:
        """Wait until a job has ended, for at most some seconds."""
        with self._changed:
            self._changed.wait_for(lambda: job.has_ended, timeout=seconds)

    def cancel(self, job: AgentJob) -> None:
        """Cancel a job; has no effect if it has already ended."""
        self._end(job, "cancelled", message="The job was cancelled.")
        if job.started is None:
            shutil.rmtree(job.folder, ignore_errors=True)

    def last_seconds(self, model: str) -> float | None:
        """Return how long the last job of a model took; None if none has succeeded."""
        with self._changed:
            results = [j.result for j in self._jobs.values() if j.settings.model == model]
        took = [sum(result.seconds.values()) for result in results if result is not None]
        return took[-1] if took else None

    def _end(
        self, job: AgentJob, state: State, *, message: str = "", result: JobResult | None = None
    ) -> None:
        with self._changed:
            if job.has_ended:
                return
            job.state, job.message, job.result = state, message, result
            job.ended = time.monotonic()
            self._changed.notify_all()

    def _step(self, process: WorkerProcess) -> bool:
        with self._changed:
            queued = next((j for j in self._jobs.values() if j.state == "queued"), None)
            if queued is None:
                self._changed.wait(timeout=_WAIT_INTERVAL_S)
                return True
            queued.state, queued.started = "running", time.monotonic()
        self._run(queued, process)
        return True

    def _run(self, job: AgentJob, process: WorkerProcess) -> None:
        def on_report(stage: str, done: int, total: int) -> None:
            job.stage, job.done, job.total = stage, done, total

        try:
            outcome = process.run(
                job.image,
                job.settings,
                job.folder,
                timeout=self._limit,
                on_report=on_report,
                cancelled=lambda: job.has_ended or self._supervisor.stopping.is_set(),
            )
        except Exception as error:
            log.exception("job %s", job.id)
            process.stop()
            outcome = WorkResult("broken", message=f"{type(error).__name__}: {error}")
        if outcome.kind == "done":
            self._end(job, "done", result=outcome.value)
        else:
            self._end(job, "failed", message=outcome.message)
        if job.state != "done":
            shutil.rmtree(job.folder, ignore_errors=True)
