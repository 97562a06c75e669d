"""A catalogue's work on this machine: a process for each device, and each dies alone."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

from ..errors import EnvironmentProblem
from ..worker_process import WorkerProcess
from .manifest import Row
from .recipe import Recipe, Task
from .work import State, empty_row, failed_row

_LOOK = 0.2  # seconds between looks at whether all is to stop
_TRIES = 2  # how often an item may take its process along


class Guard:
    """Does one item after the other in a process, and outlives what the process does not.

    Args:
        maker: makes the function that does the work, in the process; must be picklable.
        recipe: of the rows of items that took their process along.
        limit: seconds for one item.
    """

    def __init__(
        self, maker: Callable[[], Callable[..., State]], recipe: Recipe, limit: float
    ) -> None:
        self._process, self._recipe, self._limit = WorkerProcess(maker), recipe, limit

    def do(self, state: State, stopped: Callable[[], bool] = lambda: False) -> State | None:
        """The state after the work; None if it was stopped.

        Raises:
            EnvironmentProblem: if the process cannot begin to work.
        """
        for tried in range(1, _TRIES + 1):
            self._process.begin(state)
            said = self._heard(stopped)
            if said is None:
                self._process.end()
                return None
            kind, *content = said
            if kind == "done":
                done: State = content[0]
                return done
            if kind == "unready":
                raise EnvironmentProblem(content[0])
            if kind == "broken":
                return self._failed(state, "Broken", content[0])
            if kind == "late":
                self._process.end()
                sentence = f"It took longer than {self._limit:.0f} seconds and was ended."
                return self._failed(state, "TimedOut", sentence)
            if tried == _TRIES:
                break
        return self._failed(state, "WorkerDied", _DIED)

    def end(self) -> None:
        """End the process."""
        self._process.end()

    def _heard(self, stopped: Callable[[], bool]) -> tuple[Any, ...] | None:
        until = float("inf")  # loading the models is not the item's time
        while time.monotonic() < until:
            if stopped():
                return None
            said = self._process.listen(_LOOK)
            if said == ("began",):
                until = time.monotonic() + self._limit
            elif said is not None:
                return said
        return ("late",)

    def _failed(self, state: State, kind: str, sentence: str) -> State:
        row = failed_row(empty_row(state.task, self._recipe), kind, sentence)
        return State(state.task, row=row)


_DIED = (
    "The process that worked on it died twice, which lack of memory does most often: try fewer"
    " --workers or a smaller --resolution."
)


def done_here(
    tasks: Iterable[Task],
    makers: Sequence[Callable[[], Callable[..., State]]],
    recipe: Recipe,
    limit: float,
) -> Generator[Row, None, None]:
    """Rows of tasks, as they end; a task is taken when a worker is free.

    Args:
        tasks: in order.
        makers: one for each worker, see `Guard`.
        recipe: what is made.
        limit: seconds for one item.

    Raises:
        EnvironmentProblem: if a worker cannot begin.
    """
    waiting, turn = iter(tasks), threading.Lock()
    ended: queue.Queue[Row | BaseException | None] = queue.Queue()
    stop = threading.Event()

    def work(maker: Callable[[], Callable[..., State]]) -> None:
        guard = Guard(maker, recipe, limit)
        try:
            while not stop.is_set():
                with turn:
                    task = next(waiting, None)
                state = guard.do(State(task), stop.is_set) if task else None
                if state is None:
                    break
                assert state.row is not None
                ended.put(state.row)
        except BaseException as error:  # it is the caller's: see below
            ended.put(error)
        finally:
            guard.end()
            ended.put(None)

    threads = [threading.Thread(target=work, args=(maker,), daemon=True) for maker in makers]
    for thread in threads:
        thread.start()
    try:
        working = len(threads)
        while working:
            said = ended.get()
            if isinstance(said, BaseException):
                raise said
            if said is None:
                working -= 1
            else:
                yield said
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=10)
