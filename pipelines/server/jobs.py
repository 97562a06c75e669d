"""The store: jobs, their states and their files, in SQLite and a folder.

It survives kill -9 at any moment: a job is queued, then running, then done, failed or cancelled,
and each change is one transaction. What was running when the server died is queued again once.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .protocol import JobSettings

State = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED = ("done", "failed", "cancelled")
TEMPORARY = 3600.0  # seconds that temporary results stay
_LOST = "The server stopped twice while it worked on this job: it is not tried again."
_TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, token TEXT UNIQUE, owner TEXT, state TEXT,
    settings TEXT, pictures TEXT, seed INTEGER, created REAL, started REAL, ended REAL,
    tries INTEGER DEFAULT 0, message TEXT DEFAULT '', outputs TEXT DEFAULT '[]',
    webhook TEXT DEFAULT '', track_id TEXT DEFAULT 'null', base TEXT DEFAULT ''
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, id);
CREATE TABLE IF NOT EXISTS deliveries (job INTEGER PRIMARY KEY, tries INTEGER, due REAL);
"""


@dataclass(frozen=True)
class Job:
    """One row.

    Attributes:
        id: what clients ask with.
        token: the unguessable part of its files' addresses, and their folder's name.
        owner: whose key started it.
        images: names of files in its folder.
        seed: that is used.
        created, started, ended: seconds since 1970, or None.
        tries: how often a worker has begun it.
        message: what went wrong, in a sentence.
        outputs: names of files in its folder, the mesh first.
        webhook, track_id: as the client gave them.
        base: the server's address, as that client called it.
    """

    id: int
    token: str
    owner: str
    state: State
    settings: JobSettings
    images: Sequence[str]
    seed: int
    created: float
    started: float | None
    ended: float | None
    tries: int
    message: str
    outputs: Sequence[str]
    webhook: str
    track_id: str | int | None
    base: str

    @property
    def expected_outputs(self) -> list[str]:
        """Names that the files will have."""
        return [f"mesh.{self.settings.output_format}"] + ["orbit.mp4"] * self.settings.render


class QueueFull(Exception):
    """No more jobs are taken now."""


class Jobs:
    """The store. One connection for all threads, one transaction at a time.

    Args:
        folder: of the database and of all files.
        limit: of jobs that wait.
        keep: seconds that results stay after a job's end.
    """

    def __init__(self, folder: Path, *, limit: int = 32, keep: float = 86_400.0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.limit, self.keep = folder, limit, keep
        self.changed = threading.Condition()
        self._lock = threading.RLock()
        self._database = sqlite3.connect(folder / "jobs.sqlite3", check_same_thread=False)
        self._database.row_factory = sqlite3.Row
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.executescript(_TABLES)
        with self._transaction() as database:
            database.execute(
                "UPDATE jobs SET state = 'queued' WHERE state = 'running' AND tries < 2"
            )
        for job in self._select("state = 'running'"):
            self.end(job.id, "failed", message=_LOST)

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            self._database.close()

    def folder_of(self, token: str) -> Path:
        """Where a job's or an upload's files are."""
        return self.folder / "files" / token

    def keep_files(self, files: Mapping[str, bytes]) -> str:
        """Files in a new folder; returns its token."""
        token = secrets.token_urlsafe(18)
        place = self.folder_of(token)
        place.mkdir(parents=True)
        for name, content in files.items():
            (place / name).write_bytes(content)
        return token

    def submit(
        self,
        settings: JobSettings,
        images: Sequence[bytes],
        *,
        owner: str = "",
        webhook: str = "",
        track_id: str | int | None = None,
        base: str = "",
    ) -> Job:
        """Queue a job.

        Raises:
            QueueFull: if too many wait.
        """
        files = {f"picture-{i}": content for i, content in enumerate(images)}
        with self._transaction() as database:
            if self.count("queued") >= self.limit:
                raise QueueFull
            token = self.keep_files(files)
            cursor = database.execute(
                "INSERT INTO jobs (token, owner, state, settings, pictures, seed, created, webhook,"
                " track_id, base) VALUES (?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?)",
                (
                    token,
                    owner,
                    settings.model_dump_json(),
                    json.dumps(list(files)),
                    settings.seed or secrets.randbelow(2**32 - 1) + 1,
                    time.time(),
                    webhook,
                    json.dumps(track_id),
                    base,
                ),
            )
        self._announce()
        assert cursor.lastrowid is not None
        return self.get(cursor.lastrowid)

    def get(self, id: int) -> Job:
        """A job by its id.

        Raises:
            KeyError: if there is none.
        """
        found = self._select("id = ?", id)
        if not found:
            raise KeyError(id)
        return found[0]

    def by_token(self, token: str) -> Job:
        """A job by its token.

        Raises:
            KeyError: if there is none.
        """
        found = self._select("token = ?", token)
        if not found:
            raise KeyError(token)
        return found[0]

    def claim(self) -> Job | None:
        """The job that has waited longest, which is running from now on."""
        with self._transaction() as database:
            found = self._select("state = 'queued' ORDER BY id LIMIT 1")
            if not found:
                return None
            database.execute(
                "UPDATE jobs SET state = 'running', started = ?, tries = tries + 1 WHERE id = ?",
                (time.time(), found[0].id),
            )
        return self.get(found[0].id)

    def end(self, id: int, state: State, *, message: str = "", outputs: Sequence[str] = ()) -> bool:
        """A job's end; returns False where it had ended before, or is unknown."""
        with self._transaction() as database:
            changed = database.execute(
                "UPDATE jobs SET state = ?, message = ?, outputs = ?, ended = ? WHERE id = ? AND"
                " state IN ('queued', 'running')",
                (state, message, json.dumps(list(outputs)), time.time(), id),
            ).rowcount
            if changed:
                database.execute(
                    "INSERT INTO deliveries SELECT id, 0, 0 FROM jobs WHERE id = ? AND webhook"
                    " != ''",
                    (id,),
                )
        self._announce()
        return bool(changed)

    def put_back(self, id: int) -> None:
        """A running job waits again, as if it had not been begun."""
        with self._transaction() as database:
            database.execute(
                "UPDATE jobs SET state = 'queued', tries = tries - 1 WHERE id = ? AND state ="
                " 'running'",
                (id,),
            )

    def count(self, state: State) -> int:
        """How many jobs are in a state."""
        with self._lock:
            row = self._database.execute("SELECT count(*) FROM jobs WHERE state = ?", (state,))
            return int(row.fetchone()[0])

    def ahead_of(self, job: Job) -> int:
        """How many jobs come before a queued one, those at work included."""
        query = "SELECT count(*) FROM jobs WHERE state IN ('queued', 'running') AND id < ?"
        with self._lock:
            return int(self._database.execute(query, (job.id,)).fetchone()[0])

    def usual_seconds(self, model_id: str) -> float:
        """What the last jobs of a model took, in the mean; 10 if none is known."""
        query = (
            "SELECT avg(ended - started) FROM (SELECT ended, started FROM jobs WHERE state = 'done'"
            " AND json_extract(settings, '$.model_id') = ? ORDER BY id DESC LIMIT 10)"
        )
        with self._lock:
            mean = self._database.execute(query, (model_id,)).fetchone()[0]
        return 10.0 if mean is None else float(mean)

    def due_deliveries(self) -> list[tuple[Job, int]]:
        """Jobs whose webhook is to be called now, and how often it was tried."""
        with self._lock:
            rows = self._database.execute(
                "SELECT job, tries FROM deliveries WHERE due <= ?", (time.time(),)
            ).fetchall()
        return [(self.get(row["job"]), row["tries"]) for row in rows]

    def delivered(self, job: Job, *, again_in: float | None = None) -> None:
        """Note that a webhook was called: for the last time, or not."""
        with self._transaction() as database:
            if again_in is None:
                database.execute("DELETE FROM deliveries WHERE job = ?", (job.id,))
            else:
                database.execute(
                    "UPDATE deliveries SET tries = tries + 1, due = ? WHERE job = ?",
                    (time.time() + again_in, job.id),
                )

    def clean(self) -> None:
        """Remove jobs and files whose time is over."""
        now = time.time()
        with self._lock:
            for job in self._select("ended IS NOT NULL"):
                assert job.ended is not None
                if job.ended + (TEMPORARY if job.settings.temp else self.keep) < now:
                    with self._transaction() as database:
                        database.execute("DELETE FROM jobs WHERE id = ?", (job.id,))
                        database.execute("DELETE FROM deliveries WHERE job = ?", (job.id,))
            known = {row["token"] for row in self._database.execute("SELECT token FROM jobs")}
        for place in (self.folder / "files").glob("*"):
            if place.name not in known and place.stat().st_mtime + min(self.keep, 86_400) < now:
                shutil.rmtree(place, ignore_errors=True)

    def _select(self, where: str, *values: Any) -> list[Job]:
        with self._lock:
            rows = self._database.execute(f"SELECT * FROM jobs WHERE {where}", values).fetchall()
        return [_job_of(dict(row)) for row in rows]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._database:
            yield self._database

    def _announce(self) -> None:
        with self.changed:
            self.changed.notify_all()


def _job_of(row: dict[str, Any]) -> Job:
    """Return the job that a row of the database stores."""
    return Job(
        settings=JobSettings.model_validate_json(row.pop("settings")),
        images=json.loads(row.pop("pictures")),
        outputs=json.loads(row.pop("outputs")),
        track_id=json.loads(row.pop("track_id")),
        **row,
    )
