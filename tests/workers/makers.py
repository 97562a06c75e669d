"""Work for worker processes; the argument selects what happens."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from pipelines.errors import CheckpointError, InvalidInput


def make_work() -> Callable[..., Any]:
    return work


def make_nothing() -> Callable[..., Any]:
    raise CheckpointError("The weights are missing.")


def make_slowly() -> Callable[..., Any]:
    time.sleep(1.5)
    return work


def work(what: str, report: Callable[..., None]) -> Any:
    if what == "crash":
        os._exit(9)
    if what == "hang":
        time.sleep(60)
    if what == "refuse":
        raise InvalidInput("The image holds no object.")
    if what == "bug":
        raise ZeroDivisionError("by zero")
    if what == "unpicklable":
        return lambda: None
    if what == "threads":
        return {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")}
    if what == "torch threads":
        import torch

        return torch.get_num_threads()
    report("half", 1, 2)
    return f"{what} by {os.getpid()}"
