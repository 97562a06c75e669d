"""Workers whose database fails, and jobs that are cancelled or put back."""

from __future__ import annotations

import importlib
import sqlite3
import time

import pytest

pytest.importorskip("fastapi", reason="the server's packages are not installed")

from pipelines.server import workers as module
from pipelines.server.jobs import Jobs
from pipelines.server.protocol import JobRequest
from pipelines.server.workers import Workers
from pipelines.workers import supervisor

makers = importlib.import_module("tests.server.makers")


@pytest.fixture
def jobs(tmp_path):
    store = Jobs(tmp_path)
    yield store
    store.close()


@pytest.fixture
def workers(jobs, monkeypatch):
    monkeypatch.setattr(supervisor, "_FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(module, "_RETRY_INTERVAL_S", 0.05)
    started = Workers(jobs, [makers.fake])
    yield started
    started.stop()


def _submit(jobs, **settings):
    return jobs.submit(JobRequest(**settings), [b"image"]).id


def _ended(jobs, id):
    until = time.monotonic() + 60
    while jobs.get(id).state in ("queued", "running"):
        assert time.monotonic() < until
        time.sleep(0.05)
    return jobs.get(id)


def _failing(method, times):
    """Wrap a method so that its first calls raise a database error."""
    left = [times]

    def call(*args, **kwargs):
        if left[0]:
            left[0] -= 1
            raise sqlite3.OperationalError("disk I/O error")
        return method(*args, **kwargs)

    return call


@pytest.mark.parametrize("method", ["claim", "end"])
def test_worker_after_a_database_error_continues(jobs, workers, monkeypatch, method):
    first = _submit(jobs)
    monkeypatch.setattr(jobs, method, _failing(getattr(jobs, method), 2))
    workers.start()
    until = time.monotonic() + 60
    while not jobs.count("done"):
        assert time.monotonic() < until
        time.sleep(0.05)
    second = _submit(jobs)
    assert _ended(jobs, second).state == "done"
    assert jobs.get(first).state == "done"
    assert workers.alive() == 1


def test_worker_after_an_unreadable_job_continues(jobs, workers):
    bad, good = _submit(jobs), _submit(jobs)
    with sqlite3.connect(jobs.folder / "jobs.sqlite3") as database:
        database.execute("UPDATE jobs SET settings = '{}x' WHERE id = ?", (bad,))
    database.close()
    workers.start()
    assert _ended(jobs, good).state == "done"
    assert jobs.get(bad).state == "failed"


def test_cancelled_job_ends_immediately_and_is_not_requeued(jobs, workers):
    slow, next_one = _submit(jobs, resolution=makers.SLOW), _submit(jobs)
    workers.start()
    until = time.monotonic() + 60
    while workers.stages.get(slow, "starting") == "starting":
        assert time.monotonic() < until
        time.sleep(0.05)
    assert workers.cancel(jobs.get(slow))
    assert not workers.cancel(jobs.get(slow))
    assert _ended(jobs, next_one).state == "done"
    assert jobs.get(slow).state == "cancelled"


def test_stop_puts_the_running_job_back(tmp_path):
    jobs = Jobs(tmp_path)
    id = jobs.submit(JobRequest(resolution=makers.SLOW), [b"picture"]).id
    for _ in range(3):
        workers = Workers(jobs, [makers.fake])
        workers.start()
        until = time.monotonic() + 30
        while not (tmp_path / "files" / "log.txt").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        (tmp_path / "files" / "log.txt").unlink()
        workers.stop()
        assert jobs.get(id).state == "queued", "a stop is not counted as a try"
    jobs.close()
