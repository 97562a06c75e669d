"""One process for each device, which works on one job after the other.

A process that crashes, runs out of memory or takes too long costs its job alone, and comes back.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..errors import ImageTo3DError
from .jobs import Job, Jobs
from .protocol import JobSettings

log = logging.getLogger(__name__)

_LOOK = 0.1  # seconds between looks at a worker that is busy
#: Settings, seed, pictures, folder and a report to names of files; see `work.Maker`.
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
        process = _Process(maker)
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

    def _do(self, job: Job, process: _Process) -> None:
        until = time.monotonic() + self._limit
        process.begin(job, self._jobs.folder_of(job.token))
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
            if kind == "stage":
                self.stages[job.id] = Stage(*content)
            elif kind == "done":
                self._jobs.end(job.id, "done", outputs=content[0])
                return
            else:
                self._jobs.end(job.id, "failed", message=content[0])
                return


_BROKEN = "The server made a mistake of its own with this job: its log says which."
_CRASHED = (
    "The process that worked on this job died, which lack of memory does most often: try a smaller"
    " resolution."
)


class _Process:
    """A worker's process, started when it is needed."""

    def __init__(self, maker: Callable[[], Make]) -> None:
        self._maker = maker
        self._process: Any = None
        self._here: Connection | None = None

    def begin(self, job: Job, folder: Path) -> None:
        if self._process is None or not self._process.is_alive():
            context = multiprocessing.get_context("spawn")
            self._here, there = context.Pipe()
            self._process = context.Process(target=_serve, args=(self._maker, there), daemon=True)
            self._process.start()
            there.close()
        assert self._here is not None
        pictures = [folder / name for name in job.pictures]
        self._here.send((job.settings, job.seed, pictures, folder))

    def listen(self, seconds: float) -> tuple[Any, ...] | None:
        """What the process says within so many seconds; that it has died counts as a failure."""
        assert self._here is not None
        try:
            if self._here.poll(seconds):
                said: tuple[Any, ...] = self._here.recv()
                return said
        except (EOFError, OSError):
            self.end()
            return ("failed", _CRASHED)
        return None

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
        if self._here is not None:
            self._here.close()
            self._here = None


def _serve(maker: Callable[[], Make], pipe: Connection) -> None:
    """The loop of a worker's process, which ends with the server's."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    make = maker()

    def report(stage: str, done: int, total: int) -> None:
        pipe.send(("stage", stage, done, total))

    while True:
        settings, seed, pictures, folder = pipe.recv()
        try:
            pipe.send(("done", make(settings, seed, pictures, folder, report)))
        except ImageTo3DError as error:
            pipe.send(("failed", str(error)))
        except Exception:
            logging.basicConfig()
            log.exception("a job failed")
            pipe.send(("failed", _BROKEN))
