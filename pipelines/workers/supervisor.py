"""Drive several worker processes, each from its own thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from .process import WorkerProcess, WorkFunction
from .threads import share_of_cores

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_STOP_TIMEOUT_S = 10.0


class Supervisor:
    """Call a step repeatedly for each worker, until there is no more work or `stop` is called.

    If a step raises, the exception is logged and the worker's process is killed. The worker
    continues after a pause.

    Args:
        makers: one factory of work functions per worker, see `WorkerProcess`.
        step: runs one task in a worker's process. Returns False if there will be no more work.
            Must return soon after `stopping` is set.
        threads: threads of each process; None divides the cores among the workers.
    """

    def __init__(
        self,
        makers: Sequence[Callable[[], WorkFunction]],
        step: Callable[[WorkerProcess], bool],
        *,
        threads: int | None = None,
    ) -> None:
        self.stopping = threading.Event()
        self._step = step
        count = threads or share_of_cores(len(makers))
        self._threads = [
            threading.Thread(
                target=self._work,
                args=(WorkerProcess(maker, threads=count),),
                name=f"worker-{i}",
                daemon=True,
            )
            for i, maker in enumerate(makers)
        ]

    def __len__(self) -> int:
        return len(self._threads)

    def start(self) -> None:
        """Start all workers."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Kill the processes and wait for the workers to end."""
        self.stopping.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout=_STOP_TIMEOUT_S)

    def alive(self) -> int:
        """Return the number of workers that are running."""
        return sum(thread.is_alive() for thread in self._threads)

    def _work(self, process: WorkerProcess) -> None:
        pause = _FIRST_PAUSE_S
        try:
            while not self.stopping.is_set():
                try:
                    if not self._step(process):
                        return
                    pause = _FIRST_PAUSE_S
                except Exception:
                    log.exception("a worker failed; it will continue in %.0f s", pause)
                    process.stop()
                    self.stopping.wait(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE_S)
        finally:
            process.stop()
