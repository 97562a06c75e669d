"""Jobs that were paid for, so that none is paid for twice."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import EnvironmentProblem


class PaidJobs:
    """A small SQLite file of requests, as hashes, and the jobs that were started for them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, fingerprint: str) -> str | None:
        """The latest job of a request.

        Raises:
            EnvironmentProblem: if the file cannot be read.
        """
        query = "SELECT job FROM jobs WHERE request = ? ORDER BY rowid DESC LIMIT 1"
        with self._open() as database:
            row = database.execute(query, (fingerprint,)).fetchone()
        return None if row is None else str(row[0])

    def is_of_another(self, job: str, fingerprint: str) -> bool:
        """Whether a job was started for another request, as far as is known."""
        with self._open() as database:
            rows = database.execute("SELECT request FROM jobs WHERE job = ?", (job,)).fetchall()
        return bool(rows) and (fingerprint,) not in rows

    def keep(self, fingerprint: str, job: str) -> None:
        """Remember a job."""
        with self._open() as database:
            database.execute("INSERT INTO jobs VALUES (?, ?)", (fingerprint, job))

    def forget(self, job: str) -> None:
        """A job that has failed is not taken up again."""
        with self._open() as database:
            database.execute("DELETE FROM jobs WHERE job = ?", (job,))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=10)) as database, database:
                database.execute("CREATE TABLE IF NOT EXISTS jobs (request TEXT, job TEXT)")
                yield database
        except (sqlite3.Error, OSError) as error:
            raise EnvironmentProblem(
                f"The list of paid jobs {self._path} cannot be used ({error}): free it, or move it"
                " away, after which jobs that it lists would be paid for again."
            ) from error


def fingerprint(api: str, image: Image.Image | str, body: Mapping[str, Any]) -> str:
    """A hash of all that a job's result depends on."""
    content = image.encode() if isinstance(image, str) else image.tobytes()
    size = "" if isinstance(image, str) else f"{image.size}{image.mode}"
    head = json.dumps([api, size, dict(body)], sort_keys=True).encode()
    return hashlib.sha256(head + content).hexdigest()
