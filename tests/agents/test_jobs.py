from __future__ import annotations

import importlib
import time
from pathlib import Path

import pytest

from pipelines.agents.jobs import AgentJobs
from pipelines.errors import InvalidInput
from pipelines.settings import JobSettings

# Imported by its absolute name, with which a worker process unpickles its functions.
makers = importlib.import_module("tests.agents.makers")


@pytest.fixture(scope="module")
def jobs():
    started = AgentJobs(makers.make_work, limit=0.4)
    yield started
    started.close()


@pytest.fixture
def start(jobs, tmp_path):
    def start(what):
        (tmp_path / what).mkdir()
        return jobs.start([Path(f"{what}.png")], None, JobSettings(), tmp_path / what)

    return start


def test_job_that_succeeds_keeps_its_result(jobs, start):
    job = start("cat")
    jobs.wait(job, 30)
    assert (job.state, job.result, job.stage, job.done, job.total) == (
        "done", "cat in cat", "surface", 1, 2
    )  # fmt: skip


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("crash", "The worker process died"),
        ("hang", "longer than 0.4 seconds"),
        ("refuse", "The image holds no object."),
    ],
)
def test_job_that_fails_leaves_no_files_and_later_jobs_run(jobs, start, what, message):
    failing, later = start(what), start("cat")
    jobs.wait(later, 30)
    assert (failing.state, later.state) == ("failed", "done")
    assert message in failing.message
    assert not failing.folder.exists()


def test_job_cancelled_while_it_runs_ends_within_a_second(jobs, start):
    jobs.wait(start("cat"), 30)  # the process has started
    job, queued = start("hang"), start("refuse")
    jobs.cancel(queued)
    began = time.monotonic()
    jobs.cancel(job)
    after = start("dog")
    assert (job.state, queued.state) == ("cancelled", "cancelled")
    assert time.monotonic() - began < 1
    jobs.wait(after, 30)
    assert after.state == "done"
    assert not job.folder.exists()
    assert not queued.folder.exists()


def test_cancel_after_the_end_has_no_effect(jobs, start):
    job = start("cat")
    jobs.wait(job, 30)
    jobs.cancel(job)
    assert job.state == "done"


def test_get_of_an_unknown_id_is_refused(jobs):
    with pytest.raises(InvalidInput, match="There is no job 'x'"):
        jobs.get("x")
