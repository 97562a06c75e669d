"""Measure the throughput of catalogues, the overhead of the engines, and memory growth."""

from __future__ import annotations

import functools
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch

from pipelines.cameras import cameras_around
from pipelines.catalogue.items import Item
from pipelines.catalogue.local_engine import run_locally
from pipelines.catalogue.manifest import Manifest, Row
from pipelines.catalogue.recipe import Recipe, Task
from pipelines.catalogue.run import opened, run, to_do
from pipelines.catalogue.work import State, make_row
from pipelines.cli.catalogue import main
from pipelines.images.reading import to_pillow
from pipelines.meshes.mesh import Mesh
from pipelines.rendering.render_mesh import render_mesh
from pipelines.settings import JobSettings, LoadSettings
from training.objects import ObjectFile

from .textures import object_of

IMAGE_SIZE, SEED, RESOLUTION = 256, 0, 96
GROWTH, OVERHEAD = (100, 1000, 10_000), 1000
SETTLED = 100  # items after which a worker's memory should no longer grow


def measure_catalogues(assets: Path, count: int) -> None:
    """Print items per minute with the embedded model, and the engines' overhead per item."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _render(assets, count, folder / "images")
        rates = {workers: _rate(folder, workers) for workers in (1, 2)}
        print(f"two workers over one: {rates[2] / rates[1]:.2f}")
        _print_memory(folder / "out-2")
        _print_overhead(folder)
        _print_growth(folder)


def _render(assets: Path, count: int, folder: Path) -> None:
    """Render `count` objects from the front and slightly above, as images with alpha."""
    objects, rng = ObjectFile(assets), np.random.default_rng(SEED)
    folder.mkdir()
    drawn = 0
    while drawn < count:
        mesh = object_of(objects, int(rng.integers(len(objects))))
        if mesh is None:
            continue
        camera = cameras_around([float(rng.uniform(0, 360))], [15.0], 4.0, 30.0)
        black = Mesh(mesh.vertices, mesh.faces, torch.zeros_like(mesh.vertices))
        alpha = 1 - render_mesh(black, camera, IMAGE_SIZE, shaded=False)[:, :1]
        image = torch.cat([render_mesh(mesh, camera, IMAGE_SIZE), alpha], dim=1)
        # Do not use `save_image`: images with the library's signature are treated as results.
        to_pillow(image).save(folder / f"{drawn:05}.png")
        drawn += 1


def _rate(folder: Path, workers: int) -> float:
    """Run the catalogue command; print and return items per minute, including start-up."""
    out = folder / f"out-{workers}"
    words = [str(folder / "images"), "-o", str(out), "--workers", str(workers)]
    began = time.perf_counter()
    main([*words, "--resolution", str(RESOLUTION), "--device", "cpu", "--stop-after", "0"])
    seconds = time.perf_counter() - began
    rows = Manifest(out).rows.values()
    work = sum(row.in_all for row in rows)
    rate = 60 * len(rows) / seconds
    print(
        f"{workers} worker(s): {len(rows)} items in {seconds:.1f} s including start-up,"
        f" {rate:.1f} per minute, {work / len(rows):.3f} s of work per item"
    )
    return rate


def _print_memory(out: Path) -> None:
    """Print how much each worker's memory grows from item `SETTLED` to its last items."""
    workers: dict[str, list[int]] = {}
    for row in Manifest(out).rows.values():
        workers.setdefault(row.worker, []).append(row.peak_memory)
    for worker, peaks in workers.items():
        early = peaks[SETTLED // len(workers) :][:50]
        if len(peaks) > SETTLED and early:
            growth = np.mean(peaks[-50:]) / np.mean(early) - 1
            print(f"memory of {worker} at its {len(peaks)}th item: {growth:+.1%}")


def _stub(folder: Path) -> Callable[..., State]:
    """Return a substitute for the work that uses no model: it writes a file and a row."""

    def work(state: State, report: Callable[..., None] | None = None) -> State:
        place = folder / state.task.folder
        place.mkdir(parents=True, exist_ok=True)
        (place / "mesh.obj").write_text("v 0 0 0\n")
        outputs = (f"{state.task.folder}/mesh.obj",)
        state.row = make_row(state.task, status="done", outputs=outputs)
        return state

    return work


def _plan(count: int, out: Path) -> tuple[Recipe, list[Item]]:
    recipe = Recipe(JobSettings(), LoadSettings())
    return recipe, [Item(f"item-{i}", f"memory://{i}.png") for i in range(count)]


def _print_overhead(folder: Path) -> None:
    """Print milliseconds per item from the second to the last row, with stubs instead of models."""

    def timed(rows: Iterable[Row]) -> float:
        times = [time.perf_counter() for _ in rows]
        return 1000 * (times[-1] - times[0]) / (len(times) - 1)

    recipe, items = _plan(OVERHEAD, folder)
    tasks = [recipe.task(item, item.id) for item in items]
    stub = functools.partial(_stub, folder / "overhead")
    alone = stub()

    def loop(tasks: list[Task]) -> Iterable[Row]:
        for task in tasks:
            row = alone(State(task)).row
            assert row is not None
            yield row

    plain = timed(loop(tasks))
    print(f"plain loop: {plain:.2f} ms an item")
    print(f"a process adds {timed(run_locally(tasks, [stub], 60.0)) - plain:.2f} ms an item")
    try:
        from pipelines.catalogue.ray_engine import run_on_ray
    except ImportError as error:
        print(f"Ray is not installed: {error}")
        return
    by_ray = timed(run_on_ray(tasks, lambda parts: stub, 60.0, workers=1))
    print(f"Ray adds {by_ray - plain:.2f} ms an item")


def _print_growth(folder: Path) -> None:
    """Print milliseconds per item of full runs with a stub, and of runs with nothing left to do."""
    for count in GROWTH:
        out = folder / f"growth-{count}"
        recipe, items = _plan(count, out)
        for what in ("all new", "all done"):
            began = time.perf_counter()
            with opened(out) as manifest:
                tasks = to_do(items, recipe, manifest)
                stubs = [functools.partial(_stub, out)] * (os.cpu_count() or 1)
                run(
                    items,
                    tasks,
                    lambda tasks, stubs=stubs: run_locally(tasks, stubs, 60.0),
                    manifest,
                    lambda row: None,
                )
            seconds = time.perf_counter() - began
            print(f"{count:,} items, {what}: {seconds:.1f} s, {1000 * seconds / count:.2f} ms each")
