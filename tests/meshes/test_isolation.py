from __future__ import annotations

import time

import pytest
import trimesh

from pipelines.errors import EnvironmentProblem
from pipelines.meshes.isolation import run_isolated

_HANG = "import time; time.sleep(60)"
_CRASH = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"


def _run(tmp_path, code, timeout_s=30.0, **options):
    script = tmp_path / "script.py"
    script.write_text(code)
    return run_isolated(
        "task",
        {},
        library="The library",
        remedy="clean it first.",
        timeout_s=timeout_s,
        script=script,
        **options,
    )


def test_run_isolated_returns_what_the_task_returns():
    ball = trimesh.creation.icosphere(subdivisions=3)
    found = run_isolated(
        "collapse_exactly",
        {"vertices": ball.vertices, "faces": ball.faces, "count": 100},
        library="libigl",
        remedy="clean it first.",
        timeout_s=60.0,
    )
    assert found["faces"].shape == (100, 3)


def test_run_isolated_names_the_remedy_when_the_process_crashes(tmp_path):
    with pytest.raises(EnvironmentProblem, match=r"The library failed .* clean it first"):
        _run(tmp_path, _CRASH)


def test_run_isolated_gives_the_reason_when_the_task_fails(tmp_path):
    with pytest.raises(EnvironmentProblem, match=r"ValueError: too thin"):
        _run(tmp_path, "raise ValueError('too thin')")


def test_run_isolated_stops_a_process_that_hangs(tmp_path):
    with pytest.raises(EnvironmentProblem, match="timed out"):
        _run(tmp_path, _HANG, timeout_s=0.2)


def test_run_isolated_stops_the_process_when_progress_raises(tmp_path):
    def stop(done, total, preview=None):
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path, _HANG, progress=stop)
    assert time.monotonic() - began < 10
