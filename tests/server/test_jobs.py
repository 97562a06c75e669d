"""The job store: states, locks and expiry."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
import time

import pytest

pytest.importorskip("pydantic")

from pipelines.errors import EnvironmentProblem
from pipelines.server.jobs import Jobs, QueueFull
from pipelines.server.protocol import JobRequest


@pytest.fixture
def jobs(tmp_path):
    store = Jobs(tmp_path / "server", keep=86_400.0)
    yield store
    store.close()


def _submit(jobs, **settings):
    return jobs.submit(JobRequest(**settings), [b"image"], webhook="http://example.com/")


def _change(jobs, query, *values):
    with sqlite3.connect(jobs.folder / "jobs.sqlite3") as database:
        database.execute(query, values)
    database.close()


def test_jobs_second_server_is_refused(jobs):
    running = _submit(jobs)
    jobs.claim()
    for _ in range(2):
        with pytest.raises(EnvironmentProblem, match=r"Another server is running in .*--folder"):
            Jobs(jobs.folder)
    assert (jobs.get(running.id).state, jobs.get(running.id).tries) == ("running", 1)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no file modes")
def test_jobs_folder_is_private(jobs):
    assert jobs.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("content", [b"no database" * 100, None], ids=["file", "folder"])
def test_jobs_with_a_damaged_database_raise_one_sentence(tmp_path, content):
    if content is None:
        (tmp_path / "jobs.sqlite3").mkdir()
    else:
        (tmp_path / "jobs.sqlite3").write_bytes(content)
    for _ in range(2):
        with pytest.raises(EnvironmentProblem, match=r"could not open .*jobs\.sqlite3"):
            Jobs(tmp_path)


def test_jobs_database_of_0_2_0_resumes(tmp_path):
    """The database has a finished job, one that was started twice, and one started once."""
    with sqlite3.connect(tmp_path / "jobs.sqlite3") as database:
        database.executescript(
            """CREATE TABLE jobs (
            id INTEGER PRIMARY KEY AUTOINCREMENT, token TEXT UNIQUE, owner TEXT, state TEXT,
            settings TEXT, pictures TEXT, seed INTEGER, created REAL, started REAL, ended REAL,
            tries INTEGER DEFAULT 0, message TEXT DEFAULT '', outputs TEXT DEFAULT '[]',
            webhook TEXT DEFAULT '', track_id TEXT DEFAULT 'null', base TEXT DEFAULT '');
            CREATE INDEX jobs_by_state ON jobs (state, id);
            CREATE TABLE deliveries (job INTEGER PRIMARY KEY, tries INTEGER, due REAL);"""
        )
        settings = (
            '{"model_id":"photo","render":false,"foreground_ratio":0.85,"remove_bg":true,'
            '"resolution":64,"chunk_size":8192,"seed":0,"temp":false,"output_format":"obj",'
            '"cameras":null,"texture":0,"max_faces":0}'
        )
        for token, state, tries in [("a", "done", 1), ("b", "running", 2), ("c", "running", 1)]:
            database.execute(
                "INSERT INTO jobs (token, owner, state, settings, pictures, seed, created,"
                " started, tries, outputs) VALUES (?, '', ?, ?, '[\"picture-0\"]', 5, 1.0, 2.0, ?,"
                " '[\"mesh.obj\"]')",
                (token, state, settings, tries),
            )
    database.close()
    jobs = Jobs(tmp_path)
    done, twice, once = (jobs.by_token(token) for token in "abc")
    assert (done.state, done.outputs, done.settings.resolution) == ("done", ["mesh.obj"], 64)
    assert (twice.state, once.state) == ("failed", "queued")
    assert jobs.claim().images == ["picture-0"]
    jobs.close()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("settings", "no JSON"),
        ("settings", json.dumps({"output_format": "fbx"})),
        ("pictures", "["),
        ("track_id", None),
    ],
)
def test_claim_marks_an_unreadable_job_as_failed(jobs, column, value):
    bad, good = _submit(jobs), _submit(jobs)
    _change(jobs, f"UPDATE jobs SET {column} = ? WHERE id = ?", value, bad.id)
    assert jobs.claim().id == good.id
    assert jobs.claim() is None
    assert jobs.get(bad.id).state == "failed"
    assert "incompatible version" in jobs.get(bad.id).message
    assert [job.id for job, _ in jobs.due_deliveries()] == [bad.id]
    assert jobs.usual_seconds("photo") == 10.0
    jobs.clean()


def test_ended_job_that_cannot_be_read_keeps_its_state(jobs):
    job = _submit(jobs)
    jobs.claim()
    jobs.end(job.id, "done", outputs=["mesh.obj"])
    _change(jobs, "UPDATE jobs SET settings = 'no JSON'")
    assert jobs.get(job.id).state == "done"


def test_times_with_the_clock_set_back_are_not_negative(jobs, monkeypatch):
    now = time.time()
    job = _submit(jobs, model_id="photo")
    monkeypatch.setattr(time, "time", lambda: now - 5000)
    jobs.claim()
    monkeypatch.setattr(time, "time", lambda: now - 9000)
    jobs.end(job.id, "done")
    ended = jobs.get(job.id)
    assert ended.created <= ended.started <= ended.ended
    assert jobs.usual_seconds("photo") == 0.0


def test_clean_removes_expired_jobs_with_their_files(jobs, monkeypatch):
    kept, temporary = (_submit(jobs, temp=temp) for temp in (False, True))
    for job in (jobs.claim(), jobs.claim()):
        (jobs.folder_of(job.token) / "mesh.obj").touch()
        jobs.end(job.id, "done")
    waiting, upload = _submit(jobs), jobs.keep_files({"upload": b"x"})
    now = time.time()

    def left(seconds):
        monkeypatch.setattr(time, "time", lambda: now + seconds)
        jobs.clean()
        folders = {path.name for path in (jobs.folder / "files").iterdir()}
        names = {"kept": kept.token, "temporary": temporary.token, "waiting": waiting.token}
        return {name for name, token in (names | {"upload": upload}).items() if token in folders}

    assert left(3500) == {"kept", "temporary", "waiting", "upload"}
    assert left(3700) == {"kept", "waiting", "upload"}
    with pytest.raises(KeyError):
        jobs.get(temporary.id)
    assert left(86_500) == {"waiting"}
    assert jobs.due_deliveries() == []
    assert jobs.get(waiting.id).state == "queued"


def test_temporary_results_do_not_outlive_others(tmp_path, monkeypatch):
    jobs = Jobs(tmp_path, keep=100.0)
    job = _submit(jobs, temp=True)
    jobs.claim()
    jobs.end(job.id, "done")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 200)
    jobs.clean()
    with pytest.raises(KeyError):
        jobs.get(job.id)
    jobs.close()


def test_clean_loads_no_jobs(jobs, monkeypatch):
    for _ in range(3):
        job = _submit(jobs)
        jobs.claim()
        jobs.end(job.id, "done")
    monkeypatch.setattr("pipelines.server.jobs.job_of", lambda row: pytest.fail("loaded a job"))
    jobs.clean()


def test_submit_to_a_full_queue_leaves_no_files(tmp_path):
    jobs = Jobs(tmp_path, limit=1)
    first = _submit(jobs)
    with pytest.raises(QueueFull):
        _submit(jobs)
    assert [path.name for path in (tmp_path / "files").iterdir()] == [first.token]
    jobs.close()


def test_due_deliveries_skip_a_removed_job(jobs):
    job = _submit(jobs)
    jobs.end(job.id, "cancelled")
    _change(jobs, "DELETE FROM jobs")
    assert jobs.due_deliveries() == []
    shutil.rmtree(jobs.folder_of(job.token))


def test_jobs_after_a_restart_keep_their_states(tmp_path):
    def submit(jobs: Jobs) -> int:
        return jobs.submit(JobRequest(), [b"picture"]).id

    jobs = Jobs(tmp_path)
    done, running, queued = (submit(jobs) for _ in range(3))
    assert jobs.claim().id == done
    assert jobs.end(done, "done", outputs=["mesh.obj"])
    assert not jobs.end(done, "failed"), "a job ends once"
    assert jobs.claim().id == running
    jobs.close()
    jobs = Jobs(tmp_path)
    assert jobs.get(done).outputs == ["mesh.obj"]
    assert [jobs.get(i).state for i in (running, queued)] == ["queued", "queued"]
    assert jobs.claim().id == running, "a job that was put back keeps its place in the queue"
    jobs.close()
    jobs = Jobs(tmp_path)
    assert jobs.get(running).state == "failed", "a job is put back only once"
    assert "stopped twice" in jobs.get(running).message
    assert submit(jobs) == queued + 1
    jobs.close()
