"""Long work on meshes reports progress often, and stops as soon as the report raises."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
import trimesh

from pipelines.meshes.cleaning import clean
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.solid import make_solid

_MAX_STEP_S = 1.0  # of the calling thread's own time between two reports


def _torn_ball() -> Mesh:
    """The noisy ball with holes of the case clean-mesh-cannot-be-stopped."""
    ball, random = trimesh.creation.icosphere(subdivisions=6), np.random.default_rng(0)
    vertices = ball.vertices * (1 + 0.02 * random.standard_normal((len(ball.vertices), 1)))
    kept = random.random(len(ball.faces)) > 0.02
    vertices = torch.tensor(vertices).float()
    return Mesh(vertices, torch.tensor(ball.faces[kept]), (vertices + 2) / 4)


class _Watch:
    """Note how far the work is, and the longest time between two reports."""

    def __init__(self) -> None:
        self.shares: list[float] = []
        self.longest, self._last = 0.0, time.thread_time()

    def __call__(self, done, total, preview=None):
        now = time.thread_time()
        self.longest, self._last = max(self.longest, now - self._last), now
        self.shares.append(done / total)


WORK = {
    "clean, watertight": lambda mesh, progress: clean(
        mesh, min_part_share=0.05, hole_edges=32, watertight=True, progress=progress
    ),
    "clean, smooth and decimate": lambda mesh, progress: clean(
        mesh, min_part_share=0.05, hole_edges=32, smoothing=50, max_faces=20_000, progress=progress
    ),
    "make solid": lambda mesh, progress: make_solid(mesh, 96, 50_000, progress=progress),
}


@pytest.mark.parametrize("name", WORK)
def test_long_work_reports_at_least_once_a_second(name):
    pytest.importorskip("igl", reason="libigl is not installed")
    watch = _Watch()
    WORK[name](_torn_ball(), watch)
    assert watch.longest < _MAX_STEP_S
    assert watch.shares[-1] == pytest.approx(1)
    assert watch.shares == sorted(watch.shares)


@pytest.mark.parametrize("name", WORK)
def test_long_work_stops_when_progress_raises(name):
    pytest.importorskip("igl", reason="libigl is not installed")
    calls = 0

    def stop(done, total, preview=None):
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        WORK[name](_torn_ball(), stop)
    assert calls == 5
