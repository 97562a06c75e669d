"""One process for each device, which works on one job after the other.

A process that crashes, runs out of memory or takes too long costs its job alone, and comes back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..worker_process import WorkerProcess
from .jobs import Job, Jobs
from .protocol import JobSettings

log = logging.getLogger(__name__)

_LOOK = 0.1  # seconds between looks at a worker that is busy
#: Settings, seed, images, folder and a report to names of files; see `work.Maker`.
Make = Callable[[JobSettings, int, list[Path], Path, Callable[[str, int, int], None]], list[str]]


@dataclass
class Stage:
    """How far a running job is."""

    name: str = "starting"
    done: int = 0
    total: int = 1


class Workers:
    """Workers that take jobs from a store until they are stopped.

    Args:
        jobs: the store.
        makers: for each worker a function that makes its `Make`, called in the worker's process;
            both must be picklable.
        limit: seconds for one job.
    """

    def __init__(
        self, jobs: Jobs, makers: Sequence[Callable[[], Make]], *, limit: float = 3600.0
    ) -> None:
        self.stages: dict[int, Stage] = {}
        self._jobs, self._limit = jobs, limit
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(maker,), name=f"worker-{i}", daemon=True)
            for i, maker in enumerate(makers)
        ]

    def __len__(self) -> int:
        return len(self._threads)

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the processes; what they worked on is queued again."""
        self._stopped.set()
        with self._jobs.changed:
            self._jobs.changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=10)

    def alive(self) -> int:
        """How many workers are there."""
        return sum(thread.is_alive() for thread in self._threads)

    def cancel(self, job: Job) -> bool:
        """End a job that waits or is at work; returns False where it had ended."""
        return self._jobs.end(job.id, "cancelled", message="The job was cancelled.")

    def _work(self, maker: Callable[[], Make]) -> None:
        process = WorkerProcess(maker)
        try:
            while not self._stopped.is_set():
                job = self._jobs.claim()
                if job is None:
                    with self._jobs.changed:
                        self._jobs.changed.wait(timeout=1.0)
                    continue
                self.stages[job.id] = Stage()
                try:
                    self._do(job, process)
                except Exception:
                    log.exception("job %d", job.id)
                    process.end()
                    self._jobs.end(job.id, "failed", message=_BROKEN)
                finally:
                    self.stages.pop(job.id, None)
        finally:
            process.end()

    def _do(self, job: Job, process: WorkerProcess) -> None:
        until = time.monotonic() + self._limit
        folder = self._jobs.folder_of(job.token)
        images = [folder / name for name in job.images]
        process.begin(job.settings, job.seed, images, folder)
        while True:
            if self._stopped.is_set():
                process.end()
                self._jobs.put_back(job.id)
                return
            if self._jobs.get(job.id).state == "cancelled":
                process.end()
                return
            if time.monotonic() > until:
                process.end()
                sentence = f"The job took longer than {self._limit:.0f} seconds and was ended."
                self._jobs.end(job.id, "failed", message=sentence)
                return
            message = process.listen(_LOOK)
            if message is None:
                continue
            kind, *content = message
            if kind == "began":
                until = time.monotonic() + self._limit
                continue
            if kind == "report":
                self.stages[job.id] = Stage(*content)
                continue
            if kind == "done":
                self._jobs.end(job.id, "done", outputs=content[0])
            else:
                sentence = {"died": _CRASHED, "broken": _BROKEN}.get(kind) or content[0]
                self._jobs.end(job.id, "failed", message=sentence)
            return


_BROKEN = "The server made a mistake of its own with this job: its log says which."
_CRASHED = (
    "The process that worked on this job died, which lack of memory does most often: try a smaller"
    " resolution."
)
