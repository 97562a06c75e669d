"""Run one task after another in a process that can be killed safely."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Literal

from ..errors import ImageTo3DError
from .threads import configure_threads

log = logging.getLogger(__name__)

_POLL_INTERVAL_S = 0.1
_DIED = (
    "The worker process died, most likely because memory ran out: try a smaller resolution or fewer"
    " workers."
)

WorkFunction = Callable[..., Any]
Kind = Literal["done", "failed", "not_ready", "broken", "died", "timed_out", "cancelled"]


@dataclass(frozen=True)
class WorkResult:
    """The outcome of a task.

    Attributes:
        kind: "done"; "failed" for an `ImageTo3DError` of the task; "not_ready" for an
            `ImageTo3DError` while the worker was loading; "broken" for any other exception, which
            the worker logs; "died" if the process crashed; "timed_out" or "cancelled" if it was
            killed.
        value: the return value if the kind is "done".
        message: one sentence for the user if the kind is not "done".
    """

    kind: Kind
    value: Any = None
    message: str = ""


class WorkerProcess:
    """A worker process, which starts on first use and restarts after a crash.

    Args:
        make_work: factory of the work function, called once in each process. Must be picklable.
            The work function takes the arguments of `run`, followed by a callback for reports.
        threads: number of threads of the process; None keeps the libraries' default.
    """

    def __init__(
        self, make_work: Callable[[], WorkFunction], *, threads: int | None = None
    ) -> None:
        self._make_work, self._threads = make_work, threads
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None

    def run(
        self,
        *arguments: Any,
        timeout: float,
        on_report: Callable[..., None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> WorkResult:
        """Run one task. Its errors are returned, never raised.

        Args:
            arguments: arguments of the work function; must be picklable.
            timeout: seconds, excluding the time that the process needs to start and load.
            on_report: called with the arguments of each report of the work function.
            cancelled: polled while the task runs; if it returns True, the process is killed.
        """
        if not self._send(arguments):
            return WorkResult("died", message=_DIED)
        deadline = float("inf")
        while True:
            if cancelled():
                self.stop()
                return WorkResult("cancelled", message="The work was cancelled.")
            if time.monotonic() > deadline:
                self.stop()
                message = f"The work took longer than {timeout:g} seconds."
                return WorkResult("timed_out", message=message)
            kind, *content = self._receive()
            if kind == "loaded":
                deadline = time.monotonic() + timeout
            elif kind == "report" and on_report is not None:
                on_report(*content)
            elif kind == "done":
                return WorkResult("done", content[0])
            elif kind in ("failed", "not_ready", "broken", "died"):
                return WorkResult(kind, message=content[0])

    def stop(self) -> None:
        """Kill the process immediately; the next `run` starts a new one."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _send(self, arguments: tuple[Any, ...]) -> bool:
        try:
            if self._process is None or not self._process.is_alive():
                self._start()
            assert self._connection is not None
            self._connection.send(arguments)
        except OSError:
            self.stop()
            return False
        return True

    def _start(self) -> None:
        self.stop()
        configure_threads()  # the child process inherits the environment
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        # Pickled to bytes, so that the child imports PyTorch only after configuring its threads.
        arguments = (pickle.dumps(self._make_work), theirs, self._threads)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()

    def _receive(self) -> tuple[Any, ...]:
        """Return the next message: ("nothing",) after a short wait, "died" after a crash."""
        assert self._connection is not None
        try:
            return (
                self._connection.recv() if self._connection.poll(_POLL_INTERVAL_S) else ("nothing",)
            )
        except (EOFError, OSError):
            self.stop()
            return "died", _DIED


def _serve(make_work: bytes, connection: Connection, threads: int | None) -> None:
    """Run tasks in the child process until the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles a terminal's Ctrl-C
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    configure_threads(threads)
    work: WorkFunction | None = None
    while True:
        try:
            arguments = connection.recv()
        except EOFError:  # the parent has ended
            return
        try:
            if work is None:
                work = pickle.loads(make_work)()
            connection.send(("loaded",))
            result = work(*arguments, lambda *report: connection.send(("report", *report)))
            connection.send(("done", result))
        except ImageTo3DError as error:
            connection.send(("not_ready" if work is None else "failed", str(error)))
        except Exception as error:
            logging.basicConfig()
            log.exception("a worker's task failed")
            connection.send(("broken", f"{type(error).__name__}: {error}"))


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
