"""Run a catalogue: find the unfinished items, process them and record the results."""

from __future__ import annotations

import hashlib
import logging
import secrets
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import EnvironmentProblem, InvalidInput
from ..files import atomic_path, check_writable, is_hidden
from .items import Item, digest_of, folder_name, is_remote
from .manifest import JSON_LINES, PARQUET, Manifest, Row
from .recipe import Recipe, Task
from .sheet import SHEET, write_sheet
from .work import UNFINISHED

log = logging.getLogger(__name__)

LOCK, SEED = ".lock", ".seed"
_MAX_UNSHARDED_ITEMS = 1000  # larger catalogues distribute the items' folders over shards
_SHARD_DIGITS = 2  # hexadecimal
_MIN_FREE_BYTES = 256 * 2**20
#: Runs the given tasks and yields their rows as they end.
Engine = Callable[[Sequence[Task]], Generator[Row, None, None]]


@dataclass(frozen=True)
class Outcome:
    """Summary of a run.

    Attributes:
        done, failed: number of items, including those of earlier runs.
        skipped: number of items that an earlier run had finished.
        stopped: reason why the run ended early; None if it did not.
        sheet: path of the report page.
    """

    done: int
    failed: int
    skipped: int
    stopped: str | None
    sheet: Path


@contextmanager
def opened(folder: Path) -> Iterator[Manifest]:
    """Lock a catalogue's folder and remove the unfinished files of earlier runs.

    Yields:
        the folder's manifest.

    Raises:
        InvalidInput: if the folder contains unrelated files.
        EnvironmentProblem: if the folder is not writable, full, or in use by another run.
    """
    known = {JSON_LINES, PARQUET, SHEET, LOCK, SEED, UNFINISHED}
    if folder.is_dir() and not (folder / JSON_LINES).exists():
        names = {path.name for path in folder.iterdir() if not is_hidden(Path(path.name))}
        if others := sorted(names - known):
            raise InvalidInput(
                f"{folder} holds other files ({', '.join(others[:3])}) and no {JSON_LINES}:"
                " choose a new folder with -o."
            )
    check_writable(folder)
    free = shutil.disk_usage(folder).free
    if free < _MIN_FREE_BYTES:
        raise EnvironmentProblem(
            f"Only {free / 2**20:.0f} MiB are free at {folder}: make space, or choose another"
            " folder with -o."
        )
    try:
        with FileLock(folder / LOCK, timeout=0):
            shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
            (folder / UNFINISHED).mkdir()
            try:
                yield Manifest(folder)
            finally:
                shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    except Timeout as error:
        raise EnvironmentProblem(f"Another run is using {folder}: wait for it.") from error


def seed_of_run(folder: Path, seed: int) -> int:
    """Return the given seed. If it is 0, return the seed of the folder's last run or a random one.

    Raises:
        InvalidInput: if the file with the folder's seed is damaged.
    """
    place = folder / SEED
    if not seed and place.exists():
        try:
            seed = int(place.read_text())
        except ValueError as error:
            raise InvalidInput(
                f"{place} does not contain a number: remove it, or give --seed."
            ) from error
    seed = seed or secrets.randbelow(2**31 - 1) + 1
    with atomic_path(place) as partial:
        partial.write_text(f"{seed}\n")
    return seed


def to_do(
    items: Sequence[Item], recipe: Recipe, manifest: Manifest, *, retry_failed: bool = False
) -> list[Task]:
    """Return the tasks of unfinished items, and of items whose settings or image have changed.

    Images at URLs are assumed to be unchanged.

    Raises:
        InvalidInput: if a row's setting is invalid, or the folder belongs to another catalogue.
    """
    if manifest.rows and not any(item.id in manifest.rows for item in items):
        raise InvalidInput(
            f"{manifest.folder} holds another catalogue with {len(manifest.rows):,} items: choose a"
            " new folder with -o."
        )
    tasks = []
    for item in items:
        name, row = folder_name(item.id), manifest.rows.get(item.id)
        shard = f"{_shard(name)}/" if len(items) > _MAX_UNSHARDED_ITEMS else ""
        place = Path(row.outputs[0]).parent.as_posix() if row and row.outputs else ""
        tasks.append(recipe.task(item, place or f"{shard}{name}"))
    with ThreadPoolExecutor() as pool:
        settled = pool.map(lambda t: _is_settled(t, manifest, retry_failed), tasks)
        return [task for task, is_settled in zip(tasks, settled, strict=True) if not is_settled]


def run(
    items: Sequence[Item],
    tasks: Sequence[Task],
    engine: Engine,
    manifest: Manifest,
    progress: Callable[[Row], None],
    *,
    stop_after: int = 0,
) -> Outcome:
    """Run the tasks and record their rows.

    The Parquet file and the report page are written even if the run ends early.

    Args:
        items: all items of the catalogue.
        tasks: the tasks of the items to process.
        engine: runs the tasks.
        manifest: the catalogue's manifest.
        progress: called with each row.
        stop_after: number of consecutive failures that ends the run; 0 for no limit.

    Raises:
        EnvironmentProblem: if the disk or the engine fails.
    """
    in_a_row, stopped = 0, None
    try:
        with closing(_unique_rows(engine, tasks)) as rows:
            for row in rows:
                manifest.add(row)
                progress(row)
                in_a_row = in_a_row + 1 if row.status == "failed" else 0
                if stop_after and in_a_row >= stop_after:
                    stopped = (
                        f"{in_a_row} items in a row failed, the last with: {row.error} Run the same"
                        " command again to continue; add --retry-failed to retry these."
                    )
                    break
    finally:
        kept = manifest.finish(item.id for item in items)
        sheet = write_sheet(kept, manifest.folder)
    failed = sum(row.status == "failed" for row in kept)
    return Outcome(len(kept) - failed, failed, len(items) - len(tasks), stopped, sheet)


def _unique_rows(engine: Engine, tasks: Sequence[Task]) -> Generator[Row, None, None]:
    """Run the engine, and yield each task's row once even if the engine repeats a task."""
    waiting = {task.item.id for task in tasks}
    if not tasks:
        return
    with closing(engine(tasks)) as rows:
        for row in rows:
            if row.id in waiting:
                waiting.remove(row.id)
                yield row


def _shard(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:_SHARD_DIGITS]


def _is_settled(task: Task, manifest: Manifest, retry_failed: bool) -> bool:
    row = manifest.rows.get(task.item.id)
    if row is None or row.fingerprint != task.fingerprint or row.picture != task.item.picture:
        return False
    if row.status == "failed" and retry_failed:
        return False
    if not all((manifest.folder / output).exists() for output in row.outputs):
        return False
    pictures = task.item.pictures
    return any(map(is_remote, pictures)) or row.picture_sha256 == _digest(pictures)


def _digest(pictures: Sequence[str]) -> str:
    try:
        return digest_of([Path(picture) for picture in pictures])
    except OSError:
        return ""
