"""What a worker does with one item: an image in, files and a row out.

The work has three parts, so that a cluster can give each to the machines that suit it: reading and
framing on processors, the models on GPUs, and finishing the mesh on processors again.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from .. import __version__
from ..devices import memory_explained
from ..errors import EnvironmentProblem, ImageTo3DError, UnreadableImage
from ..files import sha256
from ..image_to_3d import CPU, FramedImage, ImageTo3D, Result, frame_image, timed
from ..images.reading import read_image
from ..meshes.report import report as measured
from ..options import settings_of
from ..results import finished_mesh, peak_memory, save_result
from ..settings import Settings
from .fetching import downloaded
from .items import Item
from .manifest import Row
from .recipe import Recipe, Task

#: In the catalogue's folder: what is not finished.
UNFINISHED = ".unfinished"
_ADVICE = "try fewer --workers, --offload, a smaller --resolution or --chunk-size."


@dataclass
class State:
    """An item on its way. Each part of the work fills in some more, or the row."""

    task: Task
    picture_sha256: str = ""
    framed: FramedImage | None = None
    result: Result | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory: int = 0
    row: Row | None = None


class Work:
    """Makes items; loads the models once, where it needs them.

    Args:
        recipe: what is made.
        folder: the catalogue's, which this machine must see at the same place.
        parts: names of the methods to be run, of `prepare`, `reconstruct` and `finish`.
        device: of the models, see `devices.choose_device`.

    Raises:
        ImageTo3DError: if the models cannot be loaded, or the folder is not there.
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
                f"{socket.gethostname()} does not see the folder {folder}: choose one with -o that"
                " is on all machines."
            )
        self._recipe, self._folder = recipe, folder
        self._parts: list[Callable[[State], None]] = [getattr(self, part) for part in parts]
        options = recipe.options
        self._models_dirs = [options.models_dir] if options.models_dir else []
        self._device = device
        self._chain: ImageTo3D | None = None
        if "reconstruct" in parts:
            with memory_explained(_ADVICE):
                self._chain = ImageTo3D.load(
                    options.model,
                    options.views_model,
                    models_dirs=self._models_dirs,
                    device=device,
                    dtype=options.dtype,
                    offload=options.offload,
                )

    def __call__(self, state: State, report: Callable[..., None] | None = None) -> State:
        """Do this worker's parts; what goes wrong is in the row of the state that comes back."""
        for part in self._parts:
            if state.row is None:
                self._guarded(part, state)
        return state

    def prepare(self, state: State) -> None:
        """Read the image and find its object."""
        with timed("reading", state.seconds), _local(state.task.item) as path:
            state.picture_sha256 = sha256(path)
            picture = read_image(path)
        state.framed = frame_image(
            picture,
            self._settings(state.task),
            background_models=self._models_dirs[0] / "rembg" if self._models_dirs else None,
            device=self._chain.device if self._chain else CPU,
        )
        state.seconds |= state.framed.seconds

    def reconstruct(self, state: State) -> None:
        """From the framed image to a mesh."""
        assert self._chain is not None
        assert state.framed is not None
        state.result = self._chain.of_framed(state.framed, self._settings(state.task))
        state.seconds |= state.result.seconds
        state.framed = None

    def finish(self, state: State) -> None:
        """From the mesh to files and the row."""
        assert state.result is not None
        options = self._recipe.options_of(state.task.item)
        with timed("finishing", state.seconds):
            mesh = finished_mesh(state.result, options, _silent)
            facts = measured(mesh)
        with timed("files", state.seconds), self._place(state.task) as (place, name):
            mesh_file, *_ = save_result(state.result, mesh, place, name, options, _silent)
            others = sorted(p for p in place.rglob("*") if p.is_file() and p != mesh_file)
            files = [p.relative_to(place).as_posix() for p in (mesh_file, *others)]
        state.row = replace(
            self._row(state),
            status="done",
            outputs=tuple(f"{state.task.folder}/{file}" for file in files),
            triangles=facts.triangles,
            watertight=facts.watertight,
            volume=facts.volume,
            size=facts.size,
        )
        state.result = None

    def _settings(self, task: Task) -> Settings:
        settings = settings_of(self._recipe.options_of(task.item))
        if not task.seed:
            return settings
        return settings.model_copy(
            update={"views": settings.views.model_copy(update={"seed": task.seed})}
        )

    def _guarded(self, part: Callable[[State], None], state: State) -> None:
        _forget_peak()
        try:
            with memory_explained(_ADVICE):
                part(state)
        except Exception as error:  # whatever it is, it costs this item alone
            known = isinstance(error, ImageTo3DError)
            sentence = str(error) if known else f"{type(error).__name__}: {error}"
            state.row = failed_row(self._row(state), type(error).__name__, sentence)
            state.framed = state.result = None
        state.peak_memory = max(state.peak_memory, _peak())
        if state.row is not None:
            state.row = replace(state.row, peak_memory=state.peak_memory)

    def _row(self, state: State) -> Row:
        return replace(
            empty_row(state.task, self._recipe),
            picture_sha256=state.picture_sha256,
            seconds=state.seconds,
            worker=f"{socket.gethostname()}:{os.getpid()}",
        )

    @contextmanager
    def _place(self, task: Task) -> Iterator[tuple[Path, str]]:
        """A folder for an item's files, and their name.

        If the block ends well, the folder takes its place in the catalogue.
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


def empty_row(task: Task, recipe: Recipe) -> Row:
    """An item's row before anything is known but what is asked for."""
    return Row(
        task.item.id,
        task.item.picture,
        "failed",
        task.fingerprint,
        seed=task.seed,
        model=recipe.options.model,
        revision=recipe.revision,
        version=__version__,
    )


def failed_row(row: Row, kind: str, sentence: str) -> Row:
    """The row of an item that failed."""
    return replace(row, status="failed", error_kind=kind, error=sentence)


@contextmanager
def _local(item: Item) -> Iterator[Path]:
    """The item's image as a file on this machine."""
    if not item.remote:
        if not Path(item.picture).is_file():
            raise UnreadableImage(f"There is no file {item.picture}.")
        yield Path(item.picture)
        return
    with downloaded(item.picture) as path:
        yield path


def _silent(stage: str, done: int, total: int, preview: Tensor | None = None) -> None:
    pass


def _forget_peak() -> None:
    """Let the system count the process's peak anew, where it can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak() -> int:
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return peak_memory()
