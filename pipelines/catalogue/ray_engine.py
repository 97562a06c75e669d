"""Run a catalogue on a Ray cluster: Ray Data distributes the items, and repeats lost ones.

If the cluster has GPUs, only the models use them. Actors on CPUs read, frame and finish, enough of
them to keep the GPUs busy.
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
from .recipe import Recipe, Task
from .work import State

_BLOCK_ITEMS = 16  # distributed, and repeated, together
_CONNECT_TIMEOUT_S = 10.0
_PARTS = ("prepare", "reconstruct", "finish")


class _Actor:
    """One worker, which works in a process of its own: if that crashes, only its item fails."""

    def __init__(self, process: WorkerProcess, recipe: Recipe, timeout: float) -> None:
        self._process, self._recipe, self._timeout = process, recipe, timeout

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"state": [pickle.dumps(self._done(pickle.loads(s))) for s in batch["state"]]}

    def _done(self, state: State | str) -> State | str | None:
        """Return the state after the work, or the reason why no work is possible."""
        if isinstance(state, str):
            return state
        try:
            return run_item(self._process, state, self._recipe, self._timeout)
        except ImageTo3DError as error:
            return str(error)

    def __del__(self) -> None:
        self._process.stop()


def run_on_ray(
    tasks: Sequence[Task],
    maker: Callable[[tuple[str, ...]], Callable[[], Callable[..., State]]],
    recipe: Recipe,
    timeout: float,
    *,
    address: str | None = None,
    workers: int = 0,
    gpus: float = 1.0,
    threads: int = 1,
) -> Generator[Row, None, None]:
    """Yield the rows of tasks as they end.

    Args:
        tasks: what to do.
        maker: takes parts of the work and returns what makes a worker's function; see `work.Work`.
        recipe: what is made.
        timeout: seconds for one part of one item.
        address: of the cluster; None starts Ray on this machine.
        workers: actors with models; 0 starts as many as fit.
        gpus: share of a GPU for each of them, if the cluster has any.
        threads: threads of each worker; without GPUs also its number of CPUs.

    Raises:
        EnvironmentProblem: if the cluster cannot be reached or is too small, or a worker cannot
            load its models.
    """
    try:
        _check_reachable(address)
        ray.init(address=address or "local", log_to_driver=False, ignore_reinit_error=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise EnvironmentProblem(f"could not reach a Ray cluster at {address}: {error}.") from error
    room = ray.cluster_resources()
    split = room.get("GPU", 0) > 0 and gpus > 0
    possible = int(room.get("GPU", 0) / gpus) if split else int(room.get("CPU", 0) / threads)
    count = min(workers or possible, len(tasks))
    if not 0 < count <= possible:
        raise EnvironmentProblem(
            f"The cluster has room for {possible} workers, not for {count or 1}: choose fewer"
            " --workers or a smaller --gpus."
        )
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    states = [{"state": pickle.dumps(State(task))} for task in tasks]
    blocks = max(min(len(states), 4 * count), len(states) // _BLOCK_ITEMS)
    data = ray.data.from_items(states, override_num_blocks=blocks)
    if split:
        # Each GPU's actor takes half a processor; two beside it read, frame and finish.
        beside = (1, 2 * count)
        plan: list[tuple[str, ...]] = [(part,) for part in _PARTS]
        pools = [(beside, 0.25, 0.0), ((count, count), 0.5, gpus), (beside, 0.25, 0.0)]
    else:
        plan, pools = [_PARTS], [((count, count), float(threads), 0.0)]
    for parts, ((least, most), cpus, share) in zip(plan, pools, strict=True):
        data = data.map_batches(
            _Actor,
            fn_constructor_args=(WorkerProcess(maker(parts), threads=threads), recipe, timeout),
            batch_size=1,
            compute=ActorPoolStrategy(min_size=least, max_size=most),
            num_cpus=cpus,
            num_gpus=share,
        )
    try:
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


def _check_reachable(address: str | None) -> None:
    """Raise at once if nothing listens at host:port; Ray itself would retry for minutes.

    Raises:
        OSError: if nothing listens.
    """
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()
