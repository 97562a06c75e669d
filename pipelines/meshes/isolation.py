"""Run C++ libraries in a separate process, which can be stopped and may crash safely."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..errors import EnvironmentProblem
from ..progress import Progress, silent
from .native_process import Arrays

_SCRIPT = Path(__file__).with_name("native_process.py")
_POLL_INTERVAL_S = 0.05


def run_isolated(
    task: str,
    arguments: Arrays,
    *,
    library: str,
    remedy: str,
    timeout_s: float,
    progress: Progress = silent,
    script: Path = _SCRIPT,
) -> Arrays:
    """Run one of `native_process.TASKS` in a separate process.

    Args:
        task: name of the task.
        arguments: arrays and numbers, by name.
        library: name of the library, for the error message.
        remedy: what the user can do, for the error message.
        timeout_s: seconds after which the process is killed.
        progress: called throughout; raise in it to kill the process.
        script: the Python script that runs the task.

    Returns:
        the task's results, by name.

    Raises:
        EnvironmentProblem: if the process crashes, fails or times out.
    """
    with tempfile.TemporaryDirectory(prefix="image-to-3d-") as name:
        folder = Path(name)
        np.savez(folder / "input.npz", **arguments)
        deadline = time.monotonic() + timeout_s
        with subprocess.Popen(
            [sys.executable, str(script), task, name],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                while process.poll() is None and time.monotonic() < deadline:
                    progress(1, 3)
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(_POLL_INTERVAL_S)
                timed_out = process.poll() is None
            finally:
                process.kill()
            errors = process.stderr.read().decode(errors="replace") if process.stderr else ""
        if not (folder / "output.npz").exists() or process.returncode:
            lines = errors.strip().splitlines() or [f"exit code {process.returncode}"]
            failed = "timed out" if timed_out else f"failed ({lines[-1]})"
            raise EnvironmentProblem(f"{library} {failed} on this mesh: {remedy}")
        with np.load(folder / "output.npz") as stored:
            return {key: stored[key] for key in stored.files}
