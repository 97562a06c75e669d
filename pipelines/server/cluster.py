"""Run the server's jobs on a Ray cluster.

Each local worker process drives one remote actor, so that timeouts and cancellation work as they
do for local jobs. If an actor's machine is lost, a new actor repeats the job once. Catalogues use
Ray Data instead (`catalogue.ray_engine`), which gives more throughput but neither progress within
an item nor cancellation.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from ..errors import EnvironmentProblem, ImageTo3DError
from ..job import Report
from .protocol import JobRequest
from .work import REPORT

_LOST = "Two machines of the cluster failed during this job: try again later."


class _Remote:
    """Actor that runs jobs. Files are sent as bytes, because the machines share no disk."""

    def __init__(self, maker: Callable[[], Any]) -> None:
        self._make = maker()

    def make(
        self, settings: JobRequest, seed: int, images: list[bytes], token: str
    ) -> dict[str, bytes] | str:
        """Run a job. Return its files by name, the mesh first, or an error message."""
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place, token)  # its name is the prefix of the files
            folder.mkdir()
            paths = [folder / f"picture-{i}" for i in range(len(images))]
            for path, content in zip(paths, images, strict=True):
                path.write_bytes(content)
            try:
                names = self._make(settings, seed, paths, folder, lambda *_: None)
            except ImageTo3DError as error:
                return str(error)
            files = [folder / name for name in (*names, REPORT)]
            return {file.name: file.read_bytes() for file in files if file.exists()}


class RayMaker:
    """A `Make` that runs jobs in a Ray actor.

    Args:
        maker: factory of the function that runs a job; called in the actor. Must be picklable.
        address: address of the cluster; "auto" for the cluster that this machine belongs to.
        gpus: share of a GPU that the actor reserves.
    """

    def __init__(self, maker: Callable[[], Any], address: str = "auto", gpus: float = 1.0) -> None:
        ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)
        self._actors = ray.remote(num_gpus=gpus, num_cpus=1)(_Remote)
        self._maker = maker
        self._actor = self._actors.remote(maker)

    def __call__(
        self, settings: JobRequest, seed: int, images: list[Path], folder: Path, report: Report
    ) -> list[str]:
        """Make a job's files in the actor, see `work.Maker`.

        Raises:
            ImageTo3DError: if the job fails; the message is safe to show to the client.
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
        return [name for name in made if name != REPORT]
