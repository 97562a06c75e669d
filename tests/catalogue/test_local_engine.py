"""Worker processes on this machine, with stubs in place of models."""

from __future__ import annotations

import functools
import importlib
import threading
import time

import pytest

from pipelines.catalogue.local_engine import run_locally
from pipelines.errors import EnvironmentProblem

from .conftest import items, recipe

# Imported by its absolute name, with which a worker process unpickles its functions.
makers = importlib.import_module("tests.catalogue.makers")


def _tasks(ids):
    made = recipe()
    return [made.task(item, item.id) for item in items(ids)]


def _kinds(rows):
    return {row.id: row.error_kind or row.status for row in rows}


def test_run_locally_after_a_failed_item_continues(tmp_path):
    ids = ["a", "crash", "slow", "bad", "bug", "b", "c"]
    tasks = _tasks(ids)
    workers = [functools.partial(makers.stub, tmp_path)] * 2
    assert _kinds(run_locally(tasks, workers, timeout=4.0)) == {
        "a": "done",
        "b": "done",
        "c": "done",
        "crash": "WorkerDied",
        "slow": "TimedOut",
        "bad": "NothingInPicture",
        "bug": "Broken",
    }
    begun = (tmp_path / "begun.txt").read_text().split()
    assert {id: begun.count(id) for id in ids} == dict.fromkeys(ids, 1) | {"crash": 2}


def test_run_locally_without_weights_raises(tmp_path):
    tasks = _tasks(["a", "b"])
    unready = functools.partial(makers.unready, tmp_path)
    with pytest.raises(EnvironmentProblem, match="The weights are not there"):
        list(run_locally(tasks, [unready], timeout=60.0))


def test_run_locally_does_not_count_loading_as_work(tmp_path):
    tasks = _tasks(["a", "slow", "b"])
    worker = functools.partial(makers.slow_to_load, tmp_path)
    rows = _kinds(run_locally(tasks, [worker], timeout=1.0))
    assert rows == {"a": "done", "slow": "TimedOut", "b": "done"}


def test_run_locally_takes_a_task_when_a_worker_is_free(tmp_path):
    tasks = _tasks([f"i{n}" for n in range(100)])
    taken = []

    def slowly():
        for task in tasks:
            taken.append(task)
            yield task

    worker = functools.partial(makers.stub, tmp_path, 0.05)
    rows = run_locally(slowly(), [worker], timeout=60.0)
    next(rows)
    assert len(taken) <= 4
    before = threading.active_count()
    rows.close()
    assert threading.active_count() < before
    begun = (tmp_path / "begun.txt").read_text()
    time.sleep(0.3)
    assert (tmp_path / "begun.txt").read_text() == begun
