"""Run a catalogue on a Ray cluster: Ray Data distributes the items, and repeats lost items.

If the cluster has GPUs, only the models use them. CPU actors read and frame the images and finish
the meshes. Their number is chosen to keep the GPUs busy.
"""

from __future__ import annotations

import logging
import pickle
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import Any

import ray
import ray.data
from ray.data import ActorPoolStrategy

from ..errors import EnvironmentProblem, ImageTo3DError
from ..workers.process import WorkerProcess
from .local_engine import run_item
from .manifest import Row
from .recipe import Task
from .work import State

_BLOCK_ITEMS = 16  # distributed together; after a failure, repeated together
_CONNECT_TIMEOUT_S = 10.0
_PARTS = ("prepare", "reconstruct", "finish")


class _Actor:
    """A worker that runs items in a separate process: if it crashes, only its item fails."""

    def __init__(self, process: WorkerProcess, timeout: float) -> None:
        self._process, self._timeout = process, timeout

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"state": [pickle.dumps(self._done(pickle.loads(s))) for s in batch["state"]]}

    def _done(self, state: State | str) -> State | str | None:
        """Run an item. Return its new state, or an error message if the worker cannot start."""
        if isinstance(state, str):
            return state
        try:
            return run_item(self._process, state, self._timeout)
        except ImageTo3DError as error:
            return str(error)

    def __del__(self) -> None:
        self._process.stop()


def run_on_ray(
    tasks: Sequence[Task],
    maker: Callable[[tuple[str, ...]], Callable[[], Callable[..., State]]],
    timeout: float,
    *,
    address: str | None = None,
    workers: int = 0,
    gpus: float = 1.0,
    threads: int = 1,
) -> Generator[Row, None, None]:
    """Run tasks and yield their rows as they end.

    Args:
        tasks: the tasks to run.
        maker: takes names of work parts, and returns a factory of work functions; see
            `work.Work`.
        timeout: seconds for one part of one item.
        address: address of the cluster; None starts Ray on this machine.
        workers: number of actors with models; 0 starts as many as fit.
        gpus: share of a GPU for each of these actors, if the cluster has GPUs.
        threads: threads of each worker; without GPUs, a worker also reserves as many CPUs.

    Raises:
        EnvironmentProblem: if the cluster cannot be reached or is too small, or a worker cannot
            load its models.
    """
    _connect(address)
    try:
        room = ray.cluster_resources()
        share = gpus if room.get("GPU", 0) else 0.0
        count = _worker_count(room, workers or None, len(tasks), share, threads)
        data = _data(tasks, count)
        for parts, options in _stages(count, share, threads):
            process = WorkerProcess(maker(parts), threads=threads)
            data = data.map_batches(
                _Actor, fn_constructor_args=(process, timeout), batch_size=1, **options
            )
        for row in data.iter_rows():
            state: State | str = pickle.loads(row["state"])
            if isinstance(state, str):
                raise EnvironmentProblem(state)
            assert state.row is not None
            yield state.row
    except ray.exceptions.RayError as error:
        last = str(error).strip().splitlines()[-1]
        raise EnvironmentProblem(
            f"The cluster failed: {last} Run the same command again to continue."
        ) from error
    finally:
        with suppress(Exception):
            ray.shutdown()


def _worker_count(
    room: dict[str, float], workers: int | None, tasks: int, gpus: float, threads: int
) -> int:
    """Return the number of workers with models to start.

    Raises:
        EnvironmentProblem: if the cluster lacks the resources for these workers.
    """
    possible = int(room.get("GPU", 0) / gpus) if gpus else int(room.get("CPU", 0) / threads)
    count = min(workers or possible, tasks)
    if not 0 < count <= possible:
        raise EnvironmentProblem(
            f"The cluster has room for {possible} workers, not for {count or 1}: choose fewer"
            " --workers or a smaller --gpus."
        )
    return count


def _data(tasks: Sequence[Task], workers: int) -> ray.data.Dataset:
    """Return the tasks as a Ray dataset, with enough blocks for every worker."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    states = [{"state": pickle.dumps(State(task))} for task in tasks]
    blocks = max(min(len(states), 4 * workers), len(states) // _BLOCK_ITEMS)
    return ray.data.from_items(states, override_num_blocks=blocks)


def _stages(
    workers: int, gpus: float, threads: int
) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    """Return a pair for each stage: the parts of the work, and the options of its actors."""
    models = ActorPoolStrategy(min_size=workers, max_size=workers)
    if not gpus:
        return [(_PARTS, {"compute": models, "num_cpus": float(threads)})]
    # Each GPU actor takes half a CPU. For each of them, up to two CPU actors prepare images, and up
    # to two finish meshes.
    pool = ActorPoolStrategy(min_size=1, max_size=2 * workers)
    beside = {"compute": pool, "num_cpus": 0.25}
    on_gpus = {"compute": models, "num_cpus": 0.5, "num_gpus": gpus}
    return [(("prepare",), beside), (("reconstruct",), on_gpus), (("finish",), beside)]


def _connect(address: str | None) -> None:
    """Connect to a cluster, or start Ray on this machine if the address is None.

    Raises:
        EnvironmentProblem: if the cluster does not respond.
    """
    try:
        _check_reachable(address)
        ray.init(address=address or "local", log_to_driver=False, ignore_reinit_error=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise EnvironmentProblem(f"could not reach a Ray cluster at {address}: {error}.") from error


def _check_reachable(address: str | None) -> None:
    """Check quickly that a server listens at host:port; Ray itself would retry for minutes.

    Raises:
        OSError: if the address does not accept connections.
    """
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()
