"""Prepare the server's folder and open its job database."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import EnvironmentProblem
from ..files import check_writable

#: The schema of version 0.2.0.
_TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, token TEXT UNIQUE, owner TEXT, state TEXT,
    settings TEXT, pictures TEXT, seed INTEGER, created REAL, started REAL, ended REAL,
    tries INTEGER DEFAULT 0, message TEXT DEFAULT '', outputs TEXT DEFAULT '[]',
    webhook TEXT DEFAULT '', track_id TEXT DEFAULT 'null', base TEXT DEFAULT ''
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, id);
CREATE INDEX IF NOT EXISTS jobs_by_end ON jobs (ended);
CREATE TABLE IF NOT EXISTS deliveries (job INTEGER PRIMARY KEY, tries INTEGER, due REAL);
"""


def lock_folder(folder: Path) -> FileLock:
    """Create a folder that only its owner can read, and lock it.

    Raises:
        EnvironmentProblem: if another server has locked the folder, or it is not writable.
    """
    check_writable(folder, "--folder")
    _make_private(folder)
    lock = FileLock(folder / ".lock", timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise EnvironmentProblem(
            f"Another server is running in {folder}: stop it, or choose another --folder."
        ) from error
    return lock


def _make_private(folder: Path) -> None:
    """Make a folder private to its owner, unless it contains files of other programs."""
    ours = {"jobs.sqlite3", "jobs.sqlite3-wal", "jobs.sqlite3-shm"}
    with suppress(OSError):  # owned by another user, or a disk without modes
        if {path.name for path in folder.iterdir()} <= ours | {"files", ".lock"}:
            folder.chmod(0o700)
        for path in folder.iterdir():
            if path.name in ours:
                path.chmod(0o600)
            elif path.name == "files":
                path.chmod(0o700)


def open_database(path: Path) -> sqlite3.Connection:
    """Open a database, or create it if it is missing.

    Raises:
        sqlite3.Error: if the database is damaged or cannot be opened.
    """
    database = sqlite3.connect(path, check_same_thread=False)
    database.row_factory = sqlite3.Row
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.executescript(_TABLES)
    return database
