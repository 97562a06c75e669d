"""Record paid jobs, so that no request is paid for twice."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from weakref import WeakValueDictionary

from PIL import Image

from ..errors import EnvironmentProblem
from .request import NEWER, Request

_TABLES = """
CREATE TABLE IF NOT EXISTS jobs (request TEXT, job TEXT);
CREATE TABLE IF NOT EXISTS unanswered (request TEXT PRIMARY KEY, sent REAL);
"""
# The fields that version 0.2.0 hashed. A field added later is hashed only if it differs from its
# default, so that jobs paid for by earlier versions are still found.
_HASHED_FIELDS = (
    "remove_bg",
    "foreground_ratio",
    "resolution",
    "chunk_size",
    "seed",
    "render",
    "temp",
    "output_format",
    "model_id",
    *NEWER,
)
_LOCKS: WeakValueDictionary[tuple[int, str], asyncio.Lock] = WeakValueDictionary()


class PaidJobs:
    """A SQLite file that maps hashes of requests to the jobs they started.

    A request is recorded before it is sent. If no answer arrives, the record remains, and the next
    run finds it.

    Args:
        path: the file; None keeps no record.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    def find(self, fingerprint: str) -> str | None:
        """Return the id of the latest job that a request started, or None.

        Raises:
            EnvironmentProblem: if the file cannot be used. All methods may raise this.
        """
        query = "SELECT job FROM jobs WHERE request = ? ORDER BY rowid DESC LIMIT 1"
        with self._open() as database:
            row = database.execute(query, (fingerprint,)).fetchone()
        return None if row is None else str(row[0])

    def belongs_to_another(self, job: str, fingerprint: str) -> bool:
        """Return whether a job is recorded for a different request only."""
        with self._open() as database:
            rows = database.execute("SELECT request FROM jobs WHERE job = ?", (job,)).fetchall()
        return bool(rows) and (fingerprint,) not in rows

    def begin(self, fingerprint: str) -> None:
        """Record that a paid request is about to be sent."""
        with self._open() as database:
            database.execute(
                "INSERT OR REPLACE INTO unanswered VALUES (?, ?)", (fingerprint, time.time())
            )

    def settle(self, fingerprint: str, job: str | None = None) -> None:
        """Record the answer to a paid request: the job id, or None if no job was started."""
        with self._open() as database:
            database.execute("DELETE FROM unanswered WHERE request = ?", (fingerprint,))
            if job is not None:
                database.execute("INSERT INTO jobs VALUES (?, ?)", (fingerprint, job))

    def pop_unanswered(self, fingerprint: str) -> float | None:
        """Remove the record of an unanswered request.

        Return the Unix time at which it was sent, or None if there is no record.
        """
        with self._open() as database:
            row = database.execute(
                "SELECT sent FROM unanswered WHERE request = ?", (fingerprint,)
            ).fetchone()
            database.execute("DELETE FROM unanswered WHERE request = ?", (fingerprint,))
        return None if row is None else float(row[0])

    def forget(self, job: str) -> None:
        """Remove a failed job, so that it is not resumed."""
        with self._open() as database:
            database.execute("DELETE FROM jobs WHERE job = ?", (job,))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path or ":memory:", timeout=10)) as database:
                database.executescript(_TABLES)
                with database:
                    yield database
        except (sqlite3.Error, OSError) as error:
            raise EnvironmentProblem(
                f"The list of paid jobs {self._path} cannot be used ({error}): close other programs"
                " that use it. If you delete it, the jobs that it lists are paid for again."
            ) from error


def starting_lock(fingerprint: str) -> asyncio.Lock:
    """Return the lock for a request; two nodes with equal requests then start only one job."""
    key = (id(asyncio.get_running_loop()), fingerprint)
    return _LOCKS.setdefault(key, asyncio.Lock())


def fingerprint(api: str, image: Image.Image | str, request: Request) -> str:
    """Return a hash of everything that a job's result depends on."""
    values = {
        name: value
        for name, value in request.flat().items()
        if name in _HASHED_FIELDS or value != type(request).model_fields[name].default
    }
    content = image.encode() if isinstance(image, str) else image.tobytes()
    size = "" if isinstance(image, str) else f"{image.size}{image.mode}"
    head = json.dumps([api, size, values], sort_keys=True).encode()
    return hashlib.sha256(head + content).hexdigest()
