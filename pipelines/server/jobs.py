"""Store jobs, their states and their files in an SQLite database and a folder.

The store survives kill -9 at any moment. A job is queued, then running, then done, failed or
cancelled. Each change of state is one transaction. If a server dies, the next server puts the
running jobs back into the queue. A job is put back only once.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import EnvironmentProblem
from .database import lock_folder, open_database
from .job import Job, JobState, job_of
from .protocol import JobRequest, names_of

log = logging.getLogger(__name__)

TEMPORARY_S = 3600.0
_LONGEST_UPLOAD_S = 86_400.0
_LOST = "The server stopped twice during this job, so it will not be retried."
_SETTING = "CASE WHEN json_valid(settings) THEN json_extract(settings, '$.{}') END"
#: SQL condition that selects the jobs of certain models; the parameter is a JSON list of names.
_OF_MODELS = f"coalesce({_SETTING.format('model_id')}, '') IN (SELECT value FROM json_each(?))"


class QueueFull(Exception):
    """Too many jobs are waiting."""


class Jobs:
    """The job store of one server; all threads share one database connection.

    Args:
        folder: folder of the database and of all files.
        limit: maximum number of queued jobs.
        keep: seconds to keep results after a job's end.

    Raises:
        EnvironmentProblem: if another server uses the folder, or the folder is unusable.
    """

    def __init__(self, folder: Path, *, limit: int = 32, keep: float = 86_400.0) -> None:
        self.folder, self.limit, self.keep = folder, limit, keep
        self.changed = threading.Condition()
        self._lock = threading.RLock()
        self._held: set[str] = set()
        self._folder_lock = lock_folder(folder)
        try:
            self._database = open_database(folder / "jobs.sqlite3")
            self._take_over()
        except (sqlite3.Error, OSError) as error:
            self._folder_lock.release()
            raise EnvironmentProblem(
                f"could not open {folder / 'jobs.sqlite3'}: {error}. Choose another --folder."
            ) from error

    def close(self) -> None:
        """Close the database and unlock the folder."""
        with self._lock:
            self._database.close()
            self._folder_lock.release()

    def folder_of(self, token: str) -> Path:
        """Return the folder with the files of a job or an upload."""
        return self.folder / "files" / token

    def keep_files(self, files: Mapping[str, bytes]) -> str:
        """Write files into a new folder and return its token."""
        token = secrets.token_hex(16)
        folder = self.folder_of(token)
        folder.mkdir(parents=True)
        try:
            for name, content in files.items():
                (folder / name).write_bytes(content)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return token

    def submit(
        self,
        settings: JobRequest,
        images: Sequence[bytes],
        *,
        owner: str = "",
        webhook: str = "",
        track_id: str | int | None = None,
        base: str = "",
    ) -> Job:
        """Queue a job.

        Raises:
            QueueFull: if too many jobs are queued.
        """
        files = {f"picture-{i}": content for i, content in enumerate(images)}
        token = self.keep_files(files)
        row = {
            "token": token,
            "owner": owner,
            "state": "queued",
            "settings": settings.model_dump_json(),
            "pictures": json.dumps(list(files)),
            "seed": settings.seed or secrets.randbelow(2**32 - 1) + 1,
            "created": time.time(),
            "webhook": webhook,
            "track_id": json.dumps(track_id),
            "base": base,
        }
        columns, values = ", ".join(row), ", ".join(f":{name}" for name in row)
        try:
            with self._transaction() as database:
                if self.count("queued") >= self.limit:
                    raise QueueFull
                query = f"INSERT INTO jobs ({columns}) VALUES ({values})"
                id = database.execute(query, row).lastrowid
        except BaseException:
            shutil.rmtree(self.folder_of(token), ignore_errors=True)
            raise
        self._announce()
        assert id is not None
        return self.get(id)

    def get(self, id: int) -> Job:
        """Return a job by its id.

        Raises:
            KeyError: if there is no such job.
        """
        return self._one("id = ?", id)

    def by_token(self, token: str) -> Job:
        """Return a job by its token.

        Raises:
            KeyError: if there is no such job.
        """
        return self._one("token = ?", token)

    def claim(self) -> Job | None:
        """Mark the oldest queued job as running, and return it.

        Jobs of held models (see `hold`) stay queued. Jobs that this version cannot read are marked
        as failed. Return None if no job can start.
        """
        while True:
            with self._transaction() as database:
                waiting = self._select(
                    f"state = 'queued' AND NOT {_OF_MODELS} ORDER BY id LIMIT 1",
                    json.dumps(names_of(self._held)),
                )
                if not waiting:
                    return None
                (job,) = waiting
                if job.state == "queued":
                    database.execute(
                        "UPDATE jobs SET state = 'running', started = max(?, created),"
                        " tries = tries + 1 WHERE id = ?",
                        (time.time(), job.id),
                    )
                    return self.get(job.id)
            log.error("job %d: %s", job.id, job.message)
            self.end(job.id, "failed", message=job.message)

    def end(
        self, id: int, state: JobState, *, message: str = "", outputs: Sequence[str] = ()
    ) -> bool:
        """End a queued or running job; return False if it is unknown or had already ended."""
        with self._transaction() as database:
            changed = database.execute(
                "UPDATE jobs SET state = ?, message = ?, outputs = ?,"
                " ended = max(?, created, coalesce(started, 0))"
                " WHERE id = ? AND state IN ('queued', 'running')",
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

    def hold(self, model: str) -> None:
        """Keep the queued jobs of a model from starting until `release` is called."""
        with self._lock:
            self._held.add(model)

    def release(self, model: str, *, failure: str = "") -> None:
        """Let the queued jobs of a model start, or fail them with the message `failure`."""
        with self._lock:
            self._held.discard(model)
            names = json.dumps(names_of([model]))
            for job in self._select(f"state = 'queued' AND {_OF_MODELS}", names) if failure else ():
                self.end(job.id, "failed", message=failure)
        self._announce()

    def queued_models(self) -> set[str]:
        """Return the models of all queued jobs."""
        return {job.settings.model for job in self._select("state = 'queued'")}

    def put_back(self, id: int) -> None:
        """Move a running job back to the queue without counting the try."""
        query = (
            "UPDATE jobs SET state = 'queued', tries = tries - 1 WHERE id = ? AND state = 'running'"
        )
        with self._transaction() as database:
            database.execute(query, (id,))

    def count(self, state: JobState) -> int:
        """Return the number of jobs in a state."""
        return int(self._value("SELECT count(*) FROM jobs WHERE state = ?", state))

    def ahead_of(self, job: Job) -> int:
        """Return the number of queued and running jobs that are older than a queued job."""
        query = "SELECT count(*) FROM jobs WHERE state IN ('queued', 'running') AND id < ?"
        return int(self._value(query, job.id))

    def usual_seconds(self, model_id: str) -> float:
        """Return the mean duration of a model's last 10 finished jobs; 10 s if there are none."""
        query = (
            "SELECT avg(max(ended - started, 0)) FROM (SELECT ended, started FROM jobs WHERE"
            f" state = 'done' AND {_SETTING.format('model_id')} = ? ORDER BY id DESC LIMIT 10)"
        )
        mean = self._value(query, model_id)
        return 10.0 if mean is None else float(mean)

    def due_deliveries(self) -> list[tuple[Job, int]]:
        """Return the jobs whose webhook call is due, each with its number of earlier tries."""
        query = (
            "SELECT jobs.*, deliveries.tries AS calls FROM jobs JOIN deliveries ON job = id"
            " WHERE due <= ?"
        )
        with self._lock:
            rows = self._database.execute(query, (time.time(),)).fetchall()
        return [(job_of(dict(row)), row["calls"]) for row in rows]

    def delivered(self, job: Job, *, again_in: float | None = None) -> None:
        """Record a webhook call; if `again_in` is set, retry in that many seconds."""
        with self._transaction() as database:
            if again_in is None:
                database.execute("DELETE FROM deliveries WHERE job = ?", (job.id,))
            else:
                database.execute(
                    "UPDATE deliveries SET tries = tries + 1, due = ? WHERE job = ?",
                    (time.time() + again_in, job.id),
                )

    def clean(self) -> None:
        """Remove expired jobs with their files, and old files that belong to no job."""
        now = time.time()
        temporary, kept = now - min(TEMPORARY_S, self.keep), now - self.keep
        expired = f"ended < CASE WHEN {_SETTING.format('temp')} THEN ? ELSE ? END"
        with self._transaction() as database:
            rows = database.execute(
                f"SELECT id, token FROM jobs WHERE ended < ? AND {expired}",
                (temporary, temporary, kept),
            ).fetchall()
            ids = [(row["id"],) for row in rows]
            database.executemany("DELETE FROM jobs WHERE id = ?", ids)
            database.executemany("DELETE FROM deliveries WHERE job = ?", ids)
        for row in rows:
            shutil.rmtree(self.folder_of(row["token"]), ignore_errors=True)
        self._remove_orphans(now - min(self.keep, _LONGEST_UPLOAD_S))

    def _remove_orphans(self, before: float) -> None:
        """Remove files without a job that are older than `before`: uploads and leftovers."""
        files = self.folder / "files"
        if not files.is_dir():
            return
        with os.scandir(files) as entries:
            for entry in entries:
                with suppress(OSError):  # removed in the meantime
                    if entry.stat().st_mtime < before and not self._knows(entry.name):
                        shutil.rmtree(entry.path, ignore_errors=True)

    def _knows(self, token: str) -> bool:
        return bool(self._value("SELECT count(*) FROM jobs WHERE token = ?", token))

    def _take_over(self) -> None:
        """Requeue the jobs that a dead server left running; fail those it had already requeued."""
        with self._transaction() as database:
            database.execute(
                "UPDATE jobs SET state = 'queued' WHERE state = 'running' AND tries < 2"
            )
        for job in self._select("state = 'running'"):
            self.end(job.id, "failed", message=_LOST)

    def _value(self, query: str, *values: Any) -> Any:
        with self._lock:
            return self._database.execute(query, values).fetchone()[0]

    def _one(self, where: str, value: Any) -> Job:
        found = self._select(where, value)
        if not found:
            raise KeyError(value)
        return found[0]

    def _select(self, where: str, *values: Any) -> list[Job]:
        with self._lock:
            rows = self._database.execute(f"SELECT * FROM jobs WHERE {where}", values).fetchall()
        return [job_of(dict(row)) for row in rows]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._database:
            yield self._database

    def _announce(self) -> None:
        with self.changed:
            self.changed.notify_all()
