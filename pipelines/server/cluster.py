"""Run the server's jobs on a Ray cluster.

Each worker process here drives one actor there, so that the supervisor's timeouts and
cancellations work as for local jobs. If an actor's machine is lost, a new actor repeats the job
once. A catalogue uses Ray Data instead (`catalogue.ray_engine`): it needs throughput over three
stages, where a job needs its progress and a way to stop.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from ..errors import EnvironmentProblem, ImageTo3DError
from .protocol import JobRequest
from .work import Report

_LOST = "Two machines were lost while they worked on this job: try again later."


class _Remote:
    """Run jobs in an actor; files travel as bytes, because the machines share no disk."""

    def __init__(self, maker: Callable[[], Any]) -> None:
        self._make = maker()

    def make(
        self, settings: JobRequest, seed: int, images: list[bytes], token: str
    ) -> dict[str, bytes] | str:
        """Return a job's files by name, the mesh first; or the message of its error."""
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
    """A `Make` that passes jobs to an actor.

    Args:
        maker: called in the actor; makes the function that does the work. Must be picklable.
        address: of the cluster; "auto" for the one that this machine is part of.
        gpus: share of a GPU that the actor takes.
    """

    def __init__(self, maker: Callable[[], Any], address: str = "auto", gpus: float = 1.0) -> None:
        ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)
        self._actors = ray.remote(num_gpus=gpus, num_cpus=1)(_Remote)
        self._maker = maker
        self._actor = self._actors.remote(maker)

    def __call__(
        self, settings: JobRequest, seed: int, images: list[Path], folder: Path, report: Report
    ) -> list[str]:
        """Make a job's files, as `work.Maker` does.

        Raises:
            ImageTo3DError: with a message for the client.
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
