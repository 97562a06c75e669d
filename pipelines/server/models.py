"""Decide which models jobs may use, and download missing weights.

Downloads run in the server process, so they do not block workers: jobs of other models can run
in the meantime.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from ..errors import ImageTo3DError
from ..settings import ServerSettings
from ..weights import inventory
from ..weights.presets import RECONSTRUCTION_PRESETS, is_commercial, views_model_for
from .errors import ApiError
from .jobs import Jobs
from .protocol import JobRequest

log = logging.getLogger(__name__)


@dataclass
class Download:
    """Progress of a model's download: received and total bytes of the current file."""

    model: str
    done: int = 0
    total: int = 0
    began: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        size = f" ({self.done / 1e6:,.0f} of {self.total / 1e6:,.0f} MB)" if self.total else ""
        return f"The weights of {self.model} are being downloaded{size}."

    @property
    def remaining_s(self) -> float:
        """Estimate the seconds until the current file is complete; 0 if unknown."""
        if not self.done:
            return 0.0
        return (time.monotonic() - self.began) * (self.total - self.done) / self.done


class _Stopped(Exception):
    """The server is stopping. The download will resume when the server starts again."""


class Models:
    """The models that jobs may use.

    Args:
        jobs: the store, which holds back the jobs of a model until its weights are complete.
        settings: model, allow_models and license decide which models are allowed.
        folders: folders to search for weights.
        closing: event that is set when the server stops.
    """

    def __init__(
        self,
        jobs: Jobs,
        settings: ServerSettings,
        folders: Sequence[Path],
        closing: threading.Event,
    ) -> None:
        self._jobs, self._settings = jobs, settings
        self._folders, self._closing = folders, closing
        self._here: set[str] = set()
        self._downloads: dict[str, Download] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Return the names of the models that jobs may use."""
        return [name for name in RECONSTRUCTION_PRESETS if self._is_allowed(name)]

    def check(self, name: str) -> None:
        """Refuse a model that is unknown or not allowed.

        Raises:
            ApiError: 400 with the allowed models, and the option that allows others.
        """
        if name not in RECONSTRUCTION_PRESETS or not self._is_allowed(name):
            raise ApiError(
                400,
                f"model_id: {name!r:.100} is not available here; choose one of"
                f" {', '.join(self.names())}. The server's option --allow-models adds others.",
            )

    def check_views(self, settings: JobRequest) -> None:
        """Refuse a texture from views if their model is not downloaded or not allowed.

        Raises:
            ApiError: 400 with the reason.
        """
        name = settings.views_model
        if name is None or name == views_model_for(settings.model):
            return  # `check` and `want` treat it as a part of the model
        if self._settings.license == "commercial" and not is_commercial(name):
            raise ApiError(
                400,
                "texture_from: this server generates no views, because it runs only models"
                " that allow commercial use; choose pictures.",
            )
        if not self._is_here(name):
            raise ApiError(
                400,
                f"texture_from: {name} is not available here; choose pictures."
                f" The server's operator can run 'image-to-3d download {name}'.",
            )

    def resume(self) -> None:
        """Start the downloads of models that queued jobs need."""
        for name in self._jobs.queued_models() & RECONSTRUCTION_PRESETS.keys():
            self.want(name)

    def want(self, name: str) -> None:
        """Start downloading a model, unless its weights are here or a download is running."""
        with self._lock:
            if name in self._downloads or self._is_here(name):
                return
            self._downloads[name] = Download(name)
            self._jobs.hold(name)
        threading.Thread(target=self._fetch, args=(name,), daemon=True).start()

    def download_of(self, name: str) -> Download | None:
        """Return the running download of a model; None if there is none."""
        return self._downloads.get(name)

    def _is_allowed(self, name: str) -> bool:
        settings = self._settings
        if settings.license == "commercial" and not is_commercial(name):
            return False
        if name == settings.model:
            return True
        return (
            self._is_here(name) if settings.allow_models is None else name in settings.allow_models
        )

    def _is_here(self, name: str) -> bool:
        if name not in self._here and not inventory.missing(name, self._folders):
            self._here.add(name)
        return name in self._here

    def _fetch(self, name: str) -> None:
        state = self._downloads[name]

        def progress(
            done: int, total: int, preview: Tensor | None = None, *, stage: str = ""
        ) -> None:
            if self._closing.is_set():
                raise _Stopped
            if total != state.total or done < state.done:
                state.began = time.monotonic()
            state.done, state.total = done, total

        failure = ""
        try:
            inventory.download(name, self._folders, progress)
        except _Stopped:
            return
        except Exception as error:
            expected = isinstance(error, ImageTo3DError)
            log.error("could not download %s: %s", name, error, exc_info=not expected)
            failure = f"The weights of {name} could not be downloaded: see the server's log."
        with self._lock:
            del self._downloads[name]
            self._jobs.release(name, failure=failure)
