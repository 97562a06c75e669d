"""A run over a catalogue: what is to be done, what is done already, and what became of it."""

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
from ..files import atomic_path, check_writable, sha256
from .items import Item, folder_name
from .manifest import JSON_LINES, PARQUET, Manifest, Row
from .recipe import Recipe, Task
from .sheet import SHEET, write_sheet
from .work import UNFINISHED

log = logging.getLogger(__name__)

LOCK, SEED = ".lock", ".seed"
_FLAT = 1000  # items up to which their folders stand beside each other
_SHARDS = 2  # hexadecimal digits of a shard's name
_SPACE = 256 * 2**20  # bytes that must be free at least
#: Tasks that are to be done, to their rows as they end.
Engine = Callable[[Sequence[Task]], Generator[Row, None, None]]


@dataclass(frozen=True)
class Outcome:
    """What a run did.

    Attributes:
        done, failed: items, of this run and of earlier ones.
        skipped: items that were done or had failed before.
        stopped: why it ended before all was done; None if it did not.
        sheet: the page that shows all.
    """

    done: int
    failed: int
    skipped: int
    stopped: str | None
    sheet: Path


@contextmanager
def opened(folder: Path) -> Iterator[Manifest]:
    """A catalogue's folder, for this run alone; what an earlier one left unfinished is removed.

    Raises:
        InvalidInput: if it holds something else.
        EnvironmentProblem: if it cannot be written to, is full, or another run is at work in it.
    """
    known = {JSON_LINES, PARQUET, SHEET, LOCK, SEED, UNFINISHED}
    if folder.is_dir() and not (folder / JSON_LINES).exists():
        strangers = sorted(p.name for p in folder.iterdir() if p.name not in known)
        if strangers:
            raise InvalidInput(
                f"{folder} holds other files ({', '.join(strangers[:3])}) and no {JSON_LINES}:"
                " choose a new folder with -o."
            )
    check_writable(folder)
    free = shutil.disk_usage(folder).free
    if free < _SPACE:
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
        raise EnvironmentProblem(f"Another run is at work in {folder}: wait for it.") from error


def seed_of_run(folder: Path, asked: int) -> int:
    """The seed that is asked for; for 0, that of the folder's last run, or a new one."""
    place = folder / SEED
    if not asked and place.exists():
        asked = int(place.read_text())
    asked = asked or secrets.randbelow(2**31 - 1) + 1
    with atomic_path(place) as partial:
        partial.write_text(f"{asked}\n")
    return asked


def to_do(
    items: Sequence[Item],
    recipe: Recipe,
    manifest: Manifest,
    folder: Path,
    *,
    retry_failed: bool = False,
) -> list[Task]:
    """The tasks of items that are not done, or of which a setting or the image has changed.

    Images at addresses are taken as unchanged.

    Raises:
        InvalidInput: if a row's setting is wrong, or the folder is another catalogue's.
    """
    if manifest.rows and not any(item.id in manifest.rows for item in items):
        raise InvalidInput(
            f"{folder} holds another catalogue, of {len(manifest.rows):,} items: choose a new"
            " folder with -o."
        )
    tasks = []
    for item in items:
        name, row = folder_name(item.id), manifest.rows.get(item.id)
        shard = f"{_shard(name)}/" if len(items) > _FLAT else ""
        place = Path(row.outputs[0]).parent.as_posix() if row and row.outputs else ""
        tasks.append(recipe.task(item, place or f"{shard}{name}"))
    with ThreadPoolExecutor() as pool:
        settled = pool.map(lambda t: _is_settled(t, manifest, folder, retry_failed), tasks)
        return [task for task, is_settled in zip(tasks, settled, strict=True) if not is_settled]


def run(
    items: Sequence[Item],
    tasks: Sequence[Task],
    engine: Engine,
    manifest: Manifest,
    folder: Path,
    progress: Callable[[Row], None],
    *,
    stop_after: int = 0,
) -> Outcome:
    """Do the tasks, keep their rows and write Parquet and the page, however it ends.

    Args:
        items: the whole catalogue.
        tasks: what is to be done of it.
        engine: does it.
        manifest: of the catalogue.
        folder: of the catalogue.
        progress: called with each row.
        stop_after: failures in a row that end the run; 0 never does.

    Raises:
        EnvironmentProblem: if the disk or the engine refuses.
    """
    in_a_row, stopped = 0, None
    try:
        with closing(_engaged(engine, tasks)) as rows:
            for row in rows:
                manifest.add(row)
                progress(row)
                in_a_row = in_a_row + 1 if row.status == "failed" else 0
                if stop_after and in_a_row >= stop_after:
                    stopped = (
                        f"{in_a_row} items in a row failed, the last with: {row.error} Run the same"
                        " command again to go on, with --retry-failed to try these again."
                    )
                    break
    finally:
        kept = manifest.finish(item.id for item in items)
        sheet = write_sheet(kept, folder)
    failed = sum(row.status == "failed" for row in kept)
    return Outcome(len(kept) - failed, failed, len(items) - len(tasks), stopped, sheet)


def _engaged(engine: Engine, tasks: Sequence[Task]) -> Generator[Row, None, None]:
    """Each task's row once, whatever the engine does twice."""
    waiting = {task.item.id for task in tasks}
    if not tasks:
        return
    with closing(engine(tasks)) as rows:
        for row in rows:
            if row.id in waiting:
                waiting.remove(row.id)
                yield row


def _shard(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:_SHARDS]


def _is_settled(task: Task, manifest: Manifest, folder: Path, retry_failed: bool) -> bool:
    row = manifest.rows.get(task.item.id)
    if row is None or row.fingerprint != task.fingerprint or row.picture != task.item.picture:
        return False
    if row.status == "failed" and retry_failed:
        return False
    if not all((folder / output).exists() for output in row.outputs):
        return False
    return task.item.remote or row.picture_sha256 == _digest(Path(task.item.picture))


def _digest(path: Path) -> str:
    try:
        return sha256(path)
    except OSError:
        return ""
