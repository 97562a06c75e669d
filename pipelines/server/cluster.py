"""Jobs on a Ray cluster instead of on this machine.

Each worker's process here stands for one actor there, which loads a model once. An actor whose
node is lost is made anew elsewhere, and its job done again, once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from ..errors import EnvironmentProblem, ImageTo3DError
from .protocol import JobSettings
from .work import Report

_LOST = "The machine that worked on this job was lost, and so was the next: try again later."


class _Remote:
    """What runs in an actor: files come and go as bytes, since no disk is shared."""

    def __init__(self, maker: Callable[[], Any]) -> None:
        self._make = maker()

    def make(
        self, settings: JobSettings, seed: int, images: list[bytes], token: str
    ) -> dict[str, bytes] | str:
        """Return a job's files by name, the mesh first; or what went wrong, in a sentence."""
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place, token)  # the files are named after it
            folder.mkdir()
            paths = [folder / f"picture-{i}" for i in range(len(images))]
            for path, content in zip(paths, images, strict=True):
                path.write_bytes(content)
            try:
                names = self._make(settings, seed, paths, folder, lambda *_: None)
            except ImageTo3DError as error:
                return str(error)
            return {name: (folder / name).read_bytes() for name in names}


class RayMaker:
    """A `Make` that hands jobs to an actor.

    Args:
        maker: makes the function that does the work, in the actor; must be picklable.
        address: of the cluster; "auto" is the one that this machine is part of.
        gpus: share of a GPU that the actor takes.
    """

    def __init__(self, maker: Callable[[], Any], address: str = "auto", gpus: float = 1.0) -> None:
        ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)
        self._actors = ray.remote(num_gpus=gpus, num_cpus=1)(_Remote)
        self._maker = maker
        self._actor = self._actors.remote(maker)

    def __call__(
        self, settings: JobSettings, seed: int, images: list[Path], folder: Path, report: Report
    ) -> list[str]:
        """Make a job's files, as `work.Maker` does.

        Raises:
            ImageTo3DError: in a sentence that the client may see.
        """
        contents = [image.read_bytes() for image in images]
        for last in (False, True):
            report("cluster", 0, 1)
            try:
                made = ray.get(self._actor.make.remote(settings, seed, contents, folder.name))
                break
            except ray.exceptions.RayActorError as error:
                self._actor = self._actors.remote(self._maker)
                if last:
                    raise EnvironmentProblem(_LOST) from error
        if isinstance(made, str):
            raise EnvironmentProblem(made)
        for name, content in made.items():
            (folder / name).write_bytes(content)
        report("cluster", 1, 1)
        return list(made)
