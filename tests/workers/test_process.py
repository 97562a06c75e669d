from __future__ import annotations

import importlib
import time

import pytest

from pipelines.workers.process import WorkerProcess

# Imported by its absolute name, with which a worker process unpickles its functions.
makers = importlib.import_module("tests.workers.makers")


@pytest.fixture
def process():
    started = WorkerProcess(makers.make_work, threads=1)
    yield started
    started.stop()


def _pid(result):
    return result.value.rpartition(" ")[2]


def test_run_returns_value_and_reports(process):
    reports = []
    result = process.run("a", timeout=60, on_report=lambda *report: reports.append(report))
    assert (result.kind, result.value.split()[0], reports) == ("done", "a", [("half", 1, 2)])


def test_run_keeps_the_process(process):
    assert _pid(process.run("a", timeout=60)) == _pid(process.run("b", timeout=60))


@pytest.mark.parametrize(
    ("what", "kind", "message"),
    [
        ("crash", "died", "The worker process died"),
        ("refuse", "failed", "The image holds no object."),
        ("bug", "broken", "ZeroDivisionError: by zero"),
        ("unpicklable", "broken", "lambda"),
    ],
)
def test_run_after_a_failure_works_again(process, what, kind, message):
    result = process.run(what, timeout=60)
    assert result.kind == kind
    assert message in result.message
    assert process.run("a", timeout=60).kind == "done"


def test_run_that_hangs_times_out(process):
    process.run("a", timeout=60)
    began = time.monotonic()
    result = process.run("hang", timeout=0.3)
    assert (result.kind, result.message) == ("timed_out", "The work took longer than 0.3 seconds.")
    assert time.monotonic() - began < 5


def test_run_cancelled_kills_the_process(process):
    process.run("a", timeout=60)
    began = time.monotonic()
    result = process.run("hang", timeout=60, cancelled=lambda: time.monotonic() > began + 0.3)
    assert result.kind == "cancelled"
    assert time.monotonic() - began < 5
    assert process.run("a", timeout=60).kind == "done"


def test_run_does_not_count_loading_as_work():
    process = WorkerProcess(makers.make_slowly)
    try:
        assert process.run("a", timeout=1.0).kind == "done"
    finally:
        process.stop()


def test_run_without_weights_is_not_ready():
    process = WorkerProcess(makers.make_nothing)
    try:
        result = process.run("a", timeout=60)
    finally:
        process.stop()
    assert (result.kind, result.message) == ("not_ready", "The weights are missing.")


def test_process_sets_its_threads(monkeypatch):
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    process = WorkerProcess(makers.make_work, threads=1)
    try:
        result = process.run("threads", timeout=60)
        assert result.value == {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        assert process.run("torch threads", timeout=60).value == 1
    finally:
        process.stop()


def test_run_raises_an_exception_of_on_report(process):
    def on_report(*report):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        process.run("a", timeout=60, on_report=on_report)
