"""Work for worker processes; the image's name selects what happens."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.errors import InvalidInput


def make_work() -> Callable[..., Any]:
    return work


def work(
    images: list[Path],
    cameras: Any,
    settings: Any,
    folder: Path,
    name: str,
    title: str,
    report: Callable[..., None],
) -> str:
    (image,) = images
    report("surface", 1, 2)
    if image.stem == "crash":
        os._exit(9)
    if image.stem == "hang":
        time.sleep(60)
    if image.stem == "refuse":
        raise InvalidInput("The image holds no object.")
    return f"{image.stem} in {folder.name}"
