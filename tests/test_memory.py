"""Estimated and measured memory of stages, at two sizes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_PEAK = r"""
import re, sys, torch
from pathlib import Path
from pipelines.cameras import orbit_cameras
from pipelines.surface.extraction import extract_surface, surface_memory
from pipelines.rendering.render_field import render_field, render_memory
from pipelines.settings import SurfaceSettings
from pipelines.fields.field import point_memory
from tests.sample_fields import half_inside, random_triplane

surface, what, *sizes = sys.argv[1:]
torch.set_num_threads(1)
triplane, threshold = half_inside(random_triplane(surface))

def peak():
    # getrusage would include the memory of the parent process
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

def work(size):
    if what == "surface":
        settings = SurfaceSettings(resolution=size, chunk_size=65536, threshold=threshold)
        extract_surface(triplane, settings)
        return surface_memory(size, 65536)
    render_field(triplane, orbit_cameras(1), size, chunk_size=65536)
    return render_memory(size, 65536)

work(32)
before = peak()
for size in map(int, sizes):
    estimate = work(size)
    print(peak() - before, estimate, point_memory(65536))
"""


@pytest.mark.parametrize("surface", ["mesh", "nerf"])
@pytest.mark.parametrize(("what", "sizes"), [("surface", (80, 144)), ("orbit", (64, 160))])
def test_memory_estimate_bounds_the_measured_peak(surface, what, sizes):
    """The estimate exceeds three times the peak by at most two chunks of points.

    A chunk needs less than estimated, because the sample fields have smaller networks and planes
    than the models.
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not report the peak memory of a process")
    command = [sys.executable, "-c", _PEAK, surface, what, *map(str, sizes)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1]
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        measured, estimated, chunk = (int(word) for word in line.split())
        assert measured <= estimated <= 3 * measured + 2 * chunk, (
            f"{measured / 2**20:.0f} MiB measured, {estimated / 2**20:.0f} MiB estimated"
        )
