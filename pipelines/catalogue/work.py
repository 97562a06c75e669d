"""Run an item of a catalogue in a worker; an adapter of the module `job`.

The work has three parts, so that a cluster can run each part on suitable machines. Reading and
framing run on CPUs, the models on GPUs, and mesh post-processing on CPUs.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import __version__, job
from ..devices import CPU, memory_explained, peak_memory, reset_peak_memory
from ..errors import EnvironmentProblem, UnreadableImage
from ..image_to_3d import ImageTo3D
from ..result import Result, describe
from ..settings import JobSettings
from .fetching import downloaded
from .items import digest_of, is_remote
from .manifest import Row
from .recipe import Recipe, Task, viewpoints_of

#: Subfolder of the catalogue's folder for the files of unfinished items.
UNFINISHED = ".unfinished"
_ADVICE = "try fewer --workers, --offload, a smaller --resolution or --chunk-size."


@dataclass
class State:
    """Intermediate state of an item. Each part of the work updates it; `row` is set at the end."""

    task: Task
    image_sha256: str = ""
    prepared: job.Prepared | None = None
    result: Result | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory: int = 0
    row: Row | None = None


class Work:
    """Run all or some parts of the work; load the models once, if `reconstruct` needs them.

    Args:
        recipe: the settings of the run.
        folder: the catalogue's folder; must have the same path on all machines.
        parts: names of the methods to run: `prepare`, `reconstruct`, `finish`.
        device: device of the models, see `devices.choose_device`.

    Raises:
        ImageTo3DError: if the models cannot be loaded, or the folder is missing.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        parts: tuple[str, ...] = ("prepare", "reconstruct", "finish"),
        *,
        device: str = "auto",
    ) -> None:
        if not (folder / UNFINISHED).is_dir():
            raise EnvironmentProblem(
                f"The folder {folder} does not exist on {socket.gethostname()}: with -o, choose a"
                " folder that all machines share."
            )
        self._recipe, self._folder = recipe, folder
        self._parts: list[Callable[[State], None]] = [getattr(self, part) for part in parts]
        self._chain: ImageTo3D | None = None
        if "reconstruct" in parts:
            loading = recipe.loading.model_copy(update={"device": device})
            with memory_explained(_ADVICE):
                self._chain = job.load(recipe.settings, loading)

    def __call__(self, state: State, report: Callable[..., None] | None = None) -> State:
        """Run this worker's parts; record an error in the row of the returned state."""
        for part in self._parts:
            if state.row is None:
                self._guarded(part, state)
        return state

    def prepare(self, state: State) -> None:
        """Read the image and find its object."""
        models_dir = self._recipe.loading.models_dir
        began = time.perf_counter()
        item, settings = state.task.item, self._settings(state.task)
        with ExitStack() as stack:
            paths = [
                stack.enter_context(downloaded(one)) if is_remote(one) else Path(one)
                for one in item.pictures
            ]
            if missing := [path for path in paths if not path.is_file()]:
                raise UnreadableImage(f"There is no file {missing[0]}.")
            state.image_sha256 = digest_of(paths)
            fetched = time.perf_counter() - began
            prepared = job.prepare(
                paths,
                settings,
                cameras=viewpoints_of(item, settings),
                background_models=models_dir / "rembg" if models_dir else None,
                device=self._chain.device if self._chain else CPU,
            )
        seconds = {**prepared.seconds, "reading": prepared.seconds["reading"] + fetched}
        state.prepared = replace(prepared, seconds=seconds)
        state.seconds = seconds

    def reconstruct(self, state: State) -> None:
        """Make a mesh from the prepared image."""
        assert self._chain is not None
        assert state.prepared is not None
        state.result = job.reconstruct(self._chain, state.prepared, self._settings(state.task))
        state.seconds = state.result.seconds
        state.prepared = None

    def finish(self, state: State) -> None:
        """Write an item's mesh files, and record the result in its row."""
        assert state.result is not None
        settings = self._settings(state.task)
        with self._place(state.task) as (place, name):
            done = job.finish(state.result, settings.output, place, name, title=name)
            mesh, *others = (path.relative_to(place).as_posix() for path in done.files)
        assert done.report is not None
        state.seconds = done.seconds
        state.row = self._row(
            state,
            status="done",
            outputs=tuple(f"{state.task.folder}/{file}" for file in (mesh, *sorted(others))),
            triangles=done.report.triangles,
            watertight=done.report.watertight,
            volume=done.report.volume,
            size=done.report.size,
            licenses=done.licenses,
            print=asdict(done.report.print) if done.report.print else {},
        )
        state.result = None

    def _settings(self, task: Task) -> JobSettings:
        settings = self._recipe.settings_of(task.item)
        if not task.seed:
            return settings
        views = settings.views.model_copy(update={"seed": task.seed})
        return settings.model_copy(update={"views": views})

    def _guarded(self, part: Callable[[State], None], state: State) -> None:
        reset_peak_memory()
        try:
            with memory_explained(_ADVICE):
                part(state)
        except Exception as error:  # any error fails only this item
            kind = type(error).__name__
            state.row = self._row(state, error_kind=kind, error=describe(error))
            state.prepared = state.result = None
        state.peak_memory = max(state.peak_memory, peak_memory())
        if state.row is not None:
            state.row = replace(state.row, peak_memory=state.peak_memory)

    def _row(self, state: State, **values: Any) -> Row:
        worker = f"{socket.gethostname()}:{os.getpid()}"
        values |= {"picture_sha256": state.image_sha256, "seconds": state.seconds, "worker": worker}
        return make_row(state.task, **values)

    @contextmanager
    def _place(self, task: Task) -> Iterator[tuple[Path, str]]:
        """Yield a temporary folder for an item's files, and the stem of their names.

        If the block succeeds, the folder is moved into the catalogue and replaces an earlier one.
        """
        name, final = Path(task.folder).name, self._folder / task.folder
        with tempfile.TemporaryDirectory(dir=self._folder / UNFINISHED) as outer:
            place = Path(outer) / name
            place.mkdir()
            yield place, name
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.exists():
                final.replace(Path(outer) / "earlier")
            place.replace(final)


def make_row(task: Task, **values: Any) -> Row:
    """Make an item's row; its status is "failed" unless `values` has another."""
    known: dict[str, Any] = {
        "id": task.item.id,
        "picture": task.item.picture,
        "status": "failed",
        "fingerprint": task.fingerprint,
        "seed": task.seed,
        "model": task.model,
        "revision": task.revision,
        "version": __version__,
    }
    return Row(**known | values)
