"""The catalogue's command line.

python -m pipelines.catalogue images/ -o out/
"""

from __future__ import annotations

import argparse
import functools
import logging
import os
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from ..devices import choose_device
from ..errors import EnvironmentProblem, ImageTo3DError
from ..options import (
    DEVICE_HELP,
    INTERRUPTED,
    Parser,
    add_settings,
    contradiction,
    device_name,
    number,
)
from .items import find_items
from .local_engine import run_locally
from .manifest import Row
from .recipe import Recipe, Task, unknown_columns
from .run import Engine, Outcome, opened, run, seed_of_run, to_do
from .work import State, Work

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

_LINE_EVERY = 10.0  # seconds between lines where there is no terminal


def make_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = Parser(
        prog="image-to-3d catalogue",
        description="Turn many images into meshes; what is done already is not done again.",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="folders, patterns, images, or lists: text, CSV, JSON Lines or Parquet with a column"
        " 'picture' and perhaps 'id' and settings; paths, or addresses that fsspec reads",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="the catalogue's folder")
    add_settings(parser)
    parser.add_argument(
        "--previews", action="store_true", help="an image of each mesh, for the page too"
    )
    parser.add_argument(
        "--device",
        type=device_name,
        action="append",
        default=[],
        help=f"one worker for each: {DEVICE_HELP}",
    )
    parser.add_argument(
        "--workers",
        type=number(int, 1, 4096),
        help="as many for each device (default: one for a GPU, on processors as many as their"
        " threads allow, on a cluster as many as there is room for)",
    )
    parser.add_argument(
        "--threads",
        type=number(int, 1, 1024),
        help="of each worker; on a processor it is the one thing that changes results, in their"
        " last digits (default: 1 for embedded models and beside GPUs, else all)",
    )
    parser.add_argument(
        "--engine",
        choices=("processes", "ray"),
        help="processes on this machine, or a Ray cluster (requirements-cluster.txt; default: ray"
        " with --address, else processes)",
    )
    parser.add_argument("--address", help="of a Ray cluster; 'auto' is this machine's")
    parser.add_argument(
        "--gpus",
        type=number(float, 0, 16),
        default=1.0,
        help="share of a GPU for each worker of a Ray cluster (default: 1)",
    )
    parser.add_argument(
        "--item-timeout",
        type=number(float, 1, 10**6),
        default=3600.0,
        metavar="SECONDS",
        help="for one item (default: 3600)",
    )
    parser.add_argument(
        "--stop-after",
        type=number(int, 0, 10**9),
        default=20,
        metavar="N",
        help="failures in a row that end the run; 0 never does (default: 20)",
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="try again what failed in earlier runs"
    )
    return parser


class _Shown:
    """Done, failed, a minute, time left: a bar on a terminal, else a line now and then."""

    def __init__(self, total: int) -> None:
        self._total, self._failed, self._done = total, 0, 0
        self._began = self._said = time.monotonic()
        self._bar = tqdm(total=total, unit="item", disable=None, file=sys.stderr, smoothing=0.1)

    def count(self, row: Row) -> None:
        self._failed += row.status == "failed"
        self._done += 1
        self._bar.set_postfix_str(f"{self._failed} failed", refresh=False)
        self._bar.update()
        now = time.monotonic()
        if self._bar.disable and (now - self._said > _LINE_EVERY or self._done == self._total):
            self._said = now
            rate = self._done / max(now - self._began, 1e-9)
            left = (self._total - self._done) / rate
            print(
                f"{self._done:,} of {self._total:,} ended, {self._failed:,} failed,"
                f" {60 * rate:.1f} a minute, {_time(left)} left",
                file=sys.stderr,
                flush=True,
            )

    def close(self) -> None:
        self._bar.close()


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns: the exit code: 0, 1 if an item failed or the run ended early, 2 for bad arguments, 130
        for Ctrl-C.
    """
    parser = make_parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if (problem := contradiction(options)) is not None:
        parser.error(problem)
    try:
        outcome = _run(options)
    except ImageTo3DError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    print(
        f"{outcome.done:,} done, {outcome.failed:,} failed,"
        f" {outcome.skipped:,} of them in earlier runs\n{outcome.sheet}"
    )
    if outcome.stopped:
        print(f"stopped: {outcome.stopped}", file=sys.stderr)
    return 1 if outcome.failed or outcome.stopped else 0


def _run(options: argparse.Namespace) -> Outcome:
    items = find_items(options.inputs)
    if columns := unknown_columns(items):
        print(f"columns that are no settings: {', '.join(columns)}", file=sys.stderr)
    folder: Path = options.output.absolute()
    if options.models_dir:
        options.models_dir = options.models_dir.absolute()
    with opened(folder) as manifest:
        recipe = Recipe(options)
        if recipe.preset.sees == "views":
            options.seed = seed_of_run(folder, options.seed)
        tasks = to_do(items, recipe, manifest, folder, retry_failed=options.retry_failed)
        engine = _engine(options, recipe, folder)
        with closing(_Shown(len(tasks))) as shown:
            return run(
                items, tasks, engine, manifest, folder, shown.count, stop_after=options.stop_after
            )


def _engine(options: argparse.Namespace, recipe: Recipe, folder: Path) -> Engine:
    name = options.engine or ("ray" if options.address else "processes")
    cores = os.cpu_count() or 1
    devices = [choose_device(device) for device in options.device or ["auto"]]
    on_cpu = devices[0].type == "cpu" and (name == "processes" or not options.gpus)
    embedded = recipe.preset.repository is None
    threads = options.threads or (None if on_cpu and not embedded else 1)
    if name == "processes":
        workers = options.workers or (max(cores // threads, 1) if on_cpu and threads else 1)
        makers = [
            functools.partial(Work, recipe, folder, device=str(device))
            for device in devices * workers
        ]
        return lambda tasks: run_locally(
            tasks, makers, recipe, options.item_timeout, threads=threads
        )
    try:
        from .ray_engine import run_on_ray
    except ImportError as error:
        raise EnvironmentProblem(
            f"--engine ray needs Ray: run 'pip install -r requirements-cluster.txt' ({error})."
        ) from error

    def maker(parts: tuple[str, ...]) -> Callable[[], Callable[..., State]]:
        return functools.partial(Work, recipe, folder, parts)

    def engine(tasks: Sequence[Task]) -> Generator[Row, None, None]:
        return run_on_ray(
            tasks,
            maker,
            recipe,
            options.item_timeout,
            address=options.address,
            workers=options.workers or 0,
            gpus=options.gpus,
            threads=threads or cores,
        )

    return engine


if __name__ == "__main__":
    sys.exit(main())
