"""Stand-ins for the work on a job; the requested resolution selects what happens."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from pipelines.errors import InvalidInput
from pipelines.server.protocol import JobRequest

CRASH, FAIL, BUG, SLOW = 64, 65, 66, 67
OBJ = "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"


def fake() -> Callable[..., list[str]]:
    return make


def make(
    settings: JobRequest,
    seed: int,
    images: list[Path],
    folder: Path,
    report: Callable[[str, int, int], None],
) -> list[str]:
    with (folder.parent / "log.txt").open("a") as log:
        log.write(f"{folder.name}\n")
    report("surface", 1, 2)
    if settings.resolution == CRASH:
        os._exit(9)
    if settings.resolution == FAIL:
        raise InvalidInput("The image holds no object.")
    if settings.resolution == BUG:
        raise ZeroDivisionError("secret detail")
    if settings.resolution == SLOW:
        time.sleep(60)
    name = f"{folder.name}.{settings.output_format}"
    (folder / name).write_text(f"# {seed} {len(images)}\n{OBJ}")
    (folder / "report.json").write_text('{"tries": []}')
    return [name]


def patient(notes: str) -> Callable[..., list[str]]:
    """Return work that takes a second, and creates a file for each job that it begins."""

    def work(settings: JobRequest, seed: int, images: list[Path], folder: Path, report):
        Path(notes, f"begun-{time.time_ns()}").touch()
        time.sleep(1.0)
        return make(settings, seed, images, folder / ".." / folder.name, report)

    return work
