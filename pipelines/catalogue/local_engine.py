"""Run a catalogue on this machine, with one or more worker processes per device."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Sequence

from ..errors import EnvironmentProblem
from ..workers.process import WorkerProcess
from ..workers.supervisor import Supervisor
from .manifest import Row
from .recipe import Task
from .work import State, make_row

_ATTEMPTS = 2  # per item, if its process crashes
_ERROR_KINDS = {"timed_out": "TimedOut", "broken": "Broken", "died": "WorkerDied"}


def run_item(
    process: WorkerProcess,
    state: State,
    timeout: float,
    cancelled: Callable[[], bool] = lambda: False,
) -> State | None:
    """Run one item in a worker process, with a second attempt if the process crashes.

    Returns:
        the new state, with a failed row if both attempts crashed or one timed out; None if
        cancelled.

    Raises:
        EnvironmentProblem: if the process cannot load its models.
    """
    for _ in range(_ATTEMPTS):
        outcome = process.run(state, timeout=timeout, cancelled=cancelled)
        if outcome.kind != "died":
            break
    if outcome.kind == "done":
        done: State = outcome.value
        return done
    if outcome.kind == "cancelled":
        return None
    if outcome.kind == "not_ready":
        raise EnvironmentProblem(outcome.message)
    kind = _ERROR_KINDS.get(outcome.kind, "Failed")
    row = make_row(state.task, error_kind=kind, error=outcome.message)
    return State(state.task, row=row)


def run_locally(
    tasks: Iterable[Task],
    makers: Sequence[Callable[[], Callable[..., State]]],
    timeout: float,
    *,
    threads: int | None = None,
) -> Generator[Row, None, None]:
    """Run tasks and yield their rows as they end. Each free worker takes the next task.

    Args:
        tasks: the tasks, which are started in this order.
        makers: one factory of work functions per worker, see `WorkerProcess`.
        timeout: seconds for one item.
        threads: threads of each worker; None divides the cores among the workers.

    Raises:
        EnvironmentProblem: if a worker cannot load its models.
    """
    waiting, lock = iter(tasks), threading.Lock()
    ended: queue.Queue[Row | BaseException | None] = queue.Queue()

    def step(process: WorkerProcess) -> bool:
        """Run one task and put its row into the queue; None or an exception ends the worker."""
        try:
            with lock:
                task = next(waiting, None)
            state = task and run_item(process, State(task), timeout, supervisor.stopping.is_set)
        except BaseException as error:
            ended.put(error)
            return False
        ended.put(state.row if state else None)
        return state is not None

    supervisor = Supervisor(makers, step, threads=threads)
    supervisor.start()
    try:
        working = len(supervisor)
        while working:
            row = ended.get()
            if isinstance(row, BaseException):
                raise row
            if row is None:
                working -= 1
            else:
                yield row
    finally:
        supervisor.stop()
