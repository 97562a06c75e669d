"""A process that works on one thing after the other, and may die without taking its caller along.

What stands behind the server's workers and the catalogue's.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from .errors import ImageTo3DError

log = logging.getLogger(__name__)


class WorkerProcess:
    """A process, started when it is first needed and again after it has died.

    Args:
        maker: called once in each process, makes the function that does the work; must be
            picklable. The function takes what `begin` is given, and last a `report` whose arguments
            `listen` hears.
    """

    def __init__(self, maker: Callable[[], Callable[..., Any]]) -> None:
        self._maker = maker
        self._process: Any = None
        self._here: Connection | None = None

    def begin(self, *arguments: Any) -> None:
        """Give the process its next work; all arguments must be picklable."""
        if self._process is None or not self._process.is_alive():
            self.end()
            context = multiprocessing.get_context("spawn")
            self._here, there = context.Pipe()
            self._process = context.Process(target=_serve, args=(self._maker, there), daemon=True)
            self._process.start()
            there.close()
        assert self._here is not None
        self._here.send(arguments)

    def listen(self, seconds: float) -> tuple[Any, ...] | None:
        """What the process says within so many seconds.

        Returns:
            None for nothing; ("began",) when the maker has done its part, which can take long;
            ("report", ...); and in the end one of ("done", result),
            ("failed", sentence) for an `ImageTo3DError`, ("unready", sentence) for one of the
            maker's, ("broken", sentence) for any other error, which the process has logged, and
            ("died",).
        """
        assert self._here is not None
        try:
            if self._here.poll(seconds):
                said: tuple[Any, ...] = self._here.recv()
                return said
        except (EOFError, OSError):
            self.end()
            return ("died",)
        return None

    def end(self) -> None:
        """Kill the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
        if self._here is not None:
            self._here.close()
            self._here = None


def _serve(maker: Callable[[], Callable[..., Any]], pipe: Connection) -> None:
    """The loop of the process, which ends with its parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the parent to handle
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    work: Callable[..., Any] | None = None

    def report(*said: Any) -> None:
        pipe.send(("report", *said))

    while True:
        arguments = pipe.recv()
        try:
            work = work or maker()
            pipe.send(("began",))
            pipe.send(("done", work(*arguments, report)))
        except ImageTo3DError as error:
            pipe.send(("unready" if work is None else "failed", str(error)))
        except Exception as error:
            logging.basicConfig()
            log.exception("work failed")
            pipe.send(("broken", f"{type(error).__name__}: {error}"))
