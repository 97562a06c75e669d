"""Long work on meshes reports progress often, and stops as soon as the report raises."""

from __future__ import annotations

import functools
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from pipelines.cameras import cameras_around
from pipelines.meshes.camera_fit import fit_camera, fit_views
from pipelines.meshes.cleaning import clean
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.painting import ColorSources, paint
from pipelines.meshes.projection import PosedImages
from pipelines.meshes.solid import make_solid
from pipelines.meshes.texture import TextureLayout
from pipelines.progress import Progress
from pipelines.rendering.render_mesh import render_mesh

from ..shapes import stairs

_MAX_STEP_S = 1.0  # longest time between two reports, in the calling thread's processor time


@functools.cache
def _torn_ball() -> Mesh:
    """Return a noisy ball with holes, as in the case clean-mesh-cannot-be-stopped."""
    ball, random = trimesh.creation.icosphere(subdivisions=6), np.random.default_rng(0)
    vertices = ball.vertices * (1 + 0.02 * random.standard_normal((len(ball.vertices), 1)))
    kept = random.random(len(ball.faces)) > 0.02
    vertices = torch.tensor(vertices).float()
    return Mesh(vertices, torch.tensor(ball.faces[kept]), (vertices + 2) / 4)


def _photograph() -> tuple[torch.Tensor, torch.Tensor]:
    """Return a grey image of the stairs from their left, and its mask."""
    black = replace(stairs(), vertex_colors=torch.zeros(len(stairs().vertices), 3))
    mask = 1 - render_mesh(black, cameras_around([40.0], [15.0], 4.0, 30.0), 64, shaded=False)
    return 1 - mask / 2, mask[:, :1]


def _paint(progress: Progress) -> None:
    sources = ColorSources(torch.cat(_photograph(), dim=1))
    paint(replace(stairs(), vertex_colors=None), sources, TextureLayout(512), progress=progress)


class _Watch:
    """Records the progress, and the longest time between two reports."""

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
    "find a camera": lambda _, progress: fit_camera(
        replace(stairs(), vertex_colors=None), *_photograph(), (0, 45), progress=progress
    ),
    "find cameras of views": lambda _, progress: fit_views(
        stairs(),
        PosedImages(_photograph()[0], cameras_around([0.0], [15.0], 4.0, 30.0)),
        40.0,
        progress,
    ),
    "paint with a photograph": lambda _, progress: _paint(progress),
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
