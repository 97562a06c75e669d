from __future__ import annotations

import importlib
import threading
import time

from pipelines.workers import supervisor as module
from pipelines.workers.supervisor import Supervisor
from pipelines.workers.threads import share_of_cores

makers = importlib.import_module("tests.workers.makers")


def _wait_until(condition):
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_step_that_raises_is_called_again(monkeypatch, caplog):
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.01)
    calls = []

    def step(process):
        calls.append(process)
        if len(calls) < 4:
            raise OSError("disk I/O error")
        return False

    supervisor = Supervisor([makers.make_work], step)
    supervisor.start()
    _wait_until(lambda: supervisor.alive() == 0)
    assert len(calls) == 4
    assert caplog.text.count("a worker failed") == 3


def test_stop_ends_workers_and_processes():
    processes, started = [], threading.Barrier(3)

    def step(process):
        processes.append(process)
        started.wait(30)
        process.run("hang", timeout=60, cancelled=supervisor.stopping.is_set)
        return True

    supervisor = Supervisor([makers.make_work] * 2, step)
    supervisor.start()
    started.wait(30)
    assert supervisor.alive() == len(supervisor) == 2
    began = time.monotonic()
    supervisor.stop()
    assert supervisor.alive() == 0
    assert time.monotonic() - began < 5


def test_share_of_cores_is_at_least_one(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert [share_of_cores(n) for n in (0, 1, 3, 8, 20)] == [8, 8, 2, 1, 1]
