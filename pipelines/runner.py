"""Run one job after another in a worker's process, for the server and for agents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from . import job
from .devices import memory_explained
from .image_to_3d import ImageTo3D
from .images.reading import save_image
from .result import JobResult
from .settings import JobSettings, LoadSettings

#: Called with the name of a stage, and its finished and total steps.
Report = Callable[[str, int, int], None]


class Runner:
    """Runs jobs, and keeps the last models loaded.

    Args:
        loading: settings of model loading.
        memory_advice: see `job.run`.
    """

    def __init__(
        self, loading: LoadSettings, memory_advice: str = "use a smaller resolution or chunk_size."
    ) -> None:
        self._loading, self._advice = loading, memory_advice
        self._chain: ImageTo3D | None = None
        self._names: tuple[str | None, ...] = ()

    def __call__(
        self,
        images: Sequence[Path | Tensor],
        settings: JobSettings,
        folder: Path,
        name: str,
        title: str,
        report: Report,
        preview_path: Path | None = None,
        **options: Any,
    ) -> JobResult:
        """Run a job as `job.run` does with these options, and raise the exception that fails it.

        `report` is called after each step. Images of intermediate results go to `preview_path`.
        """

        def progress(
            done: int, total: int, preview: Tensor | None = None, *, stage: str = ""
        ) -> None:
            if preview is not None and preview_path is not None:
                save_image(preview[:1].clamp(0, 1), preview_path)
            report(stage, done, total)

        names = (settings.model, job.views_model_of(settings))
        if self._chain is None or self._names != names:
            report("model", 0, 1)
            self._chain = None  # free its memory before loading another
            with memory_explained(self._advice):
                self._chain, self._names = job.load(settings, self._loading), names
        options |= {"title": title, "own_folder": False, "memory_advice": self._advice}
        result = job.run(self._chain, images, settings, folder, name, progress=progress, **options)
        if result.exception is not None:
            raise result.exception
        return result
