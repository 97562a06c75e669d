"""`catalogue`: turn thousands of images into meshes."""

from __future__ import annotations

import argparse
import functools
import logging
import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from ..errors import packages_of
from ..settings import CatalogueSettings, JobSettings, LoadSettings, declared
from .parsing import GROUPS, REPEATED_DEVICE, SETTINGS, Parser, exit_code, path, warn

if TYPE_CHECKING:
    from pathlib import Path

    from ..catalogue.manifest import Row
    from ..catalogue.recipe import Recipe
    from ..catalogue.run import Engine, Outcome

_LINE_INTERVAL_S = 10.0  # between lines of progress, if the output is not a terminal
_GROUPS = {
    "several photographs of one object (columns image_left, image_back, image_right)": (
        "elevation",
    ),
    "run": ("previews", "retry_failed", "stop_after", "item_timeout"),
    "workers": ("device", "workers", "threads", "engine", "address", "gpus"),
}


def make_parser() -> Parser:
    """Return the parser of all options."""
    parser = Parser(
        "catalogue",
        "INPUT [INPUT ...] -o DIR [options]",
        "Turn many images into meshes; skip those that an earlier run has finished.",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="folders, glob patterns, images or lists, as paths or as URLs that fsspec reads; a"
        " list is a text file with one image per line, or a CSV, JSON Lines or Parquet file with"
        " the column 'picture', and optionally 'id' and settings",
    )
    parser.add_argument(
        "-o", "--output", type=path, required=True, metavar="DIR", help="the catalogue's folder"
    )
    parser.add_settings(
        SETTINGS | declared(CatalogueSettings),
        {**_GROUPS, **GROUPS},
        device=REPEATED_DEVICE,
        model={"default": "photo"},
    )
    parser.add_deprecated()
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run the command; return the exit code: 1 if an item failed or the run ended early."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    settings = parser.job_settings(vars(options))
    return exit_code(
        lambda: _report(_run(options, settings)),
        stopped="stopped; the same command resumes the run",
    )


def _report(outcome: Outcome) -> int:
    """Print a run's summary; return the exit code."""
    print(
        f"{outcome.done:,} done, {outcome.failed:,} failed,"
        f" {outcome.skipped:,} of them in earlier runs\n{outcome.sheet}"
    )
    if outcome.stopped:
        print(f"stopped: {outcome.stopped}", file=sys.stderr)
    return 1 if outcome.failed or outcome.stopped else 0


def _run(options: argparse.Namespace, settings: JobSettings) -> Outcome:
    from .. import job
    from ..catalogue.items import find_items
    from ..catalogue.recipe import Recipe, unknown_columns
    from ..catalogue.run import opened, run, seed_of_run, to_do
    from ..weights.inventory import commit_of

    items = find_items(options.inputs)
    if columns := unknown_columns(items):
        warn(f"skipped columns that are not settings: {', '.join(columns)}")
    folder: Path = options.output.absolute()
    models_dir = options.models_dir and options.models_dir.absolute()
    loading = LoadSettings(dtype=options.dtype, offload=options.offload, models_dir=models_dir)
    with opened(folder) as manifest:
        if job.takes_seed(settings.model):
            seed = seed_of_run(folder, settings.views.seed)
            views = settings.views.model_copy(update={"seed": seed})
            settings = settings.model_copy(update={"views": views})
        commit = commit_of(settings.model, [models_dir] if models_dir else [])
        recipe = Recipe(settings, loading, commit)
        tasks = to_do(items, recipe, manifest, retry_failed=options.retry_failed)
        engine = _engine(options, recipe, folder)
        with closing(_Progress(len(tasks))) as progress:
            count, stop_after = progress.count, options.stop_after
            return run(items, tasks, engine, manifest, count, stop_after=stop_after)


def _engine(options: argparse.Namespace, recipe: Recipe, folder: Path) -> Engine:
    """Return the engine that runs the tasks: local processes or a Ray cluster."""
    from ..catalogue.local_engine import run_locally
    from ..catalogue.work import Work
    from ..devices import choose_device
    from ..weights.presets import RECONSTRUCTION_PRESETS

    name = options.engine or ("ray" if options.address else "processes")
    cores = os.cpu_count() or 1
    devices = [choose_device(device) for device in options.device or ["auto"]]
    on_cpu = devices[0].type == "cpu" and (name == "processes" or not options.gpus)
    embedded = RECONSTRUCTION_PRESETS[recipe.settings.model].repository is None
    threads = options.threads or (None if on_cpu and not embedded else 1)
    if name == "processes":
        workers = options.workers or (max(cores // threads, 1) if on_cpu and threads else 1)
        makers = [
            functools.partial(Work, recipe, folder, device=str(device))
            for device in devices * workers
        ]
        return lambda tasks: run_locally(tasks, makers, options.item_timeout, threads=threads)
    with packages_of("requirements-cluster.txt", "--engine ray"):
        from ..catalogue.ray_engine import run_on_ray
    return lambda tasks: run_on_ray(
        tasks,
        lambda parts: functools.partial(Work, recipe, folder, parts),
        options.item_timeout,
        address=options.address,
        workers=options.workers or 0,
        gpus=options.gpus,
        threads=threads or cores,
    )


class _Progress:
    """Show finished and failed items, speed and remaining time, as a bar or as periodic lines."""

    def __init__(self, total: int) -> None:
        from tqdm import tqdm

        self._total, self._failed, self._done = total, 0, 0
        self._began = self._printed = time.monotonic()
        self._bar = tqdm(total=total, unit="item", disable=None, file=sys.stderr, smoothing=0.1)

    def count(self, row: Row) -> None:
        self._failed += row.status == "failed"
        self._done += 1
        self._bar.set_postfix_str(f"{self._failed} failed", refresh=False)
        self._bar.update()
        now = time.monotonic()
        if self._bar.disable and (
            now - self._printed > _LINE_INTERVAL_S or self._done == self._total
        ):
            self._printed = now
            rate = self._done / max(now - self._began, 1e-9)
            left = (self._total - self._done) / rate
            print(
                f"{self._done:,} of {self._total:,} ended, {self._failed:,} failed,"
                f" {60 * rate:.1f} per minute, {_duration(left)} left",
                file=sys.stderr,
                flush=True,
            )

    def close(self) -> None:
        self._bar.close()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
