"""Worker processes that run the jobs of the store, one job at a time each."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from ..workers.process import WorkerProcess, WorkResult
from ..workers.supervisor import Supervisor
from .job import Job
from .jobs import Jobs
from .protocol import JobRequest

log = logging.getLogger(__name__)

_CLAIM_INTERVAL_S = 1.0
_RETRY_INTERVAL_S = 5.0
_BROKEN = "This job failed because of an error in the server: see the server's log."
#: Takes settings, seed, images, folder and progress callback; returns file names. See `work.Maker`.
Make = Callable[[JobRequest, int, list[Path], Path, Callable[[str, int, int], None]], list[str]]


class Workers(Supervisor):
    """Workers that run the jobs of a store until they are stopped.

    Args:
        jobs: the store.
        makers: one factory per worker, called in the worker's process. It returns the worker's
            `Make`. Both must be picklable.
        limit: timeout of a job in seconds.
    """

    def __init__(
        self, jobs: Jobs, makers: Sequence[Callable[[], Make]], *, limit: float = 3600.0
    ) -> None:
        super().__init__(makers, self._run_next)
        #: Progress of the running jobs by id, such as "views 3 of 75".
        self.stages: dict[int, str] = {}
        self._jobs, self._limit = jobs, limit
        self._cancelled: set[int] = set()

    def stop(self) -> None:
        """Kill the processes, and move their jobs back to the queue."""
        self.stopping.set()
        with self._jobs.changed:
            self._jobs.changed.notify_all()
        super().stop()

    def cancel(self, job: Job) -> bool:
        """Cancel a queued or running job; return False if it had already ended."""
        cancelled = self._jobs.end(job.id, "cancelled", message="The job was cancelled.")
        if cancelled and job.id in self.stages:
            self._cancelled.add(job.id)
        return cancelled

    def _run_next(self, process: WorkerProcess) -> bool:
        job = self._jobs.claim()
        if job is None:
            with self._jobs.changed:
                self._jobs.changed.wait(timeout=_CLAIM_INTERVAL_S)
            return True
        self.stages[job.id] = "starting"
        try:
            self._settle(job, self._outcome(job, process))
        finally:
            self.stages.pop(job.id, None)
            self._cancelled.discard(job.id)
        return True

    def _outcome(self, job: Job, process: WorkerProcess) -> WorkResult:
        folder = self._jobs.folder_of(job.token)

        def on_report(name: str, done: int, total: int) -> None:
            self.stages[job.id] = f"{name} {done} of {total}"

        try:
            # The job may have been cancelled before it was added to `stages`.
            if self._jobs.get(job.id).state == "cancelled":
                self._cancelled.add(job.id)
            return process.run(
                job.settings,
                job.seed,
                [folder / name for name in job.images],
                folder,
                timeout=self._limit,
                on_report=on_report,
                cancelled=lambda: self.stopping.is_set() or job.id in self._cancelled,
            )
        except Exception:
            log.exception("job %d", job.id)
            process.stop()
            return WorkResult("broken")

    def _settle(self, job: Job, outcome: WorkResult) -> None:
        """Record how a job ended; if the database fails, retry until the server stops."""
        while True:
            try:
                self._record(job, outcome)
                return
            except sqlite3.Error:
                log.exception("could not record the end of job %d", job.id)
                if self.stopping.wait(_RETRY_INTERVAL_S):
                    return

    def _record(self, job: Job, outcome: WorkResult) -> None:
        if outcome.kind == "done":
            self._jobs.end(job.id, "done", outputs=outcome.value)
        elif outcome.kind != "cancelled":
            message = _BROKEN if outcome.kind == "broken" else outcome.message
            self._jobs.end(job.id, "failed", message=message)
        elif job.id not in self._cancelled:
            self._jobs.put_back(job.id)
