"""Set the number of threads of a process, and how idle threads wait."""

from __future__ import annotations

import os
import sys

#: Environment variables that OpenMP, OpenBLAS and libigl read when they are loaded.
_COUNT_VARIABLES = ("OMP_NUM_THREADS", "IGL_NUM_THREADS")


def configure_threads(count: int | None = None) -> None:
    """Set this process's thread count, and make idle threads sleep.

    Call it before importing PyTorch, because OpenMP reads the environment only once. By default,
    OpenMP's idle threads spin at every barrier. If another process needs their core, they waste
    whole time slices: one such process made a job 16 times slower.

    Args:
        count: threads of this process; None keeps the default of one per core.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if count is None:
        return
    os.environ.update(dict.fromkeys(_COUNT_VARIABLES, str(count)))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def share_of_cores(workers: int) -> int:
    """Return the number of threads for each of several workers on this machine, at least 1."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux has it
        cores = os.cpu_count() or 1
    return max(cores // max(workers, 1), 1)
