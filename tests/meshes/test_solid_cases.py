from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import trimesh

from pipelines.errors import InvalidInput
from pipelines.meshes.cleaning import clean
from pipelines.meshes.io import load_mesh
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.report import report
from pipelines.meshes.solid import make_solid
from pipelines.meshes.topology import is_watertight

from ..shapes import ball, ball_with_fin, open_box, soup, to_mesh

CASES = Path(__file__).parents[1] / "data" / "cases"


@pytest.mark.parametrize(
    ("broken", "volume"), [(open_box, 6), (ball_with_fin, 4.16), (lambda: soup(ball()), 4.16)]
)
def test_make_solid_closes_broken_shells(broken, volume):
    mesh = broken()
    assert not is_watertight(mesh)
    closed = make_solid(mesh)
    assert is_watertight(closed)
    assert closed.volume() == pytest.approx(volume, rel=0.1)
    assert closed.vertex_colors.shape == closed.vertices.shape
    with pytest.raises(InvalidInput, match="encloses nothing"):
        make_solid(
            Mesh(torch.tensor([[0.0, 0, 0], [1e-3, 0, 0], [0, 1e-3, 0]]), torch.tensor([[0, 1, 2]]))
        )


def test_make_solid_keeps_two_bodies_that_share_an_edge():
    edge = load_mesh(CASES / "watertight-ignores-max-faces" / "edge.obj")
    closed = clean(edge, max_faces=500, watertight=True)
    assert len(closed.faces) <= 500
    assert report(closed).watertight
    assert closed.volume() == pytest.approx(2, rel=2e-3)
    # All positions differ: a slicer would merge vertices at the same position.
    assert len(closed.vertices.unique(dim=0)) == len(closed.vertices)


@pytest.mark.parametrize("most", [0, 500])
def test_make_solid_closes_a_scan(most):
    scan = load_mesh(CASES / "watertight-leaks" / "scan.obj")
    assert not report(scan).watertight
    closed = make_solid(scan, max_faces=most)
    assert report(closed).watertight
    assert closed.volume() == pytest.approx(3.75, rel=0.1)
    assert not most or len(closed.faces) <= most


@pytest.mark.parametrize("most", [2000])
def test_make_solid_memory_is_bounded_by_the_grid(most):
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not report a process's peak memory")
    code = (
        "from pathlib import Path; from pipelines.meshes.solid import make_solid; from"
        " pipelines.meshes.report import report; from pipelines.meshes.io import load_mesh;made ="
        f" make_solid(load_mesh(Path({str(CASES / 'watertight-eats-memory' / 'soup.obj')!r})),"
        f" 32, max_faces={most});print(len(made.faces), report(made).watertight,"
        " Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=CASES.parents[2],
    )
    triangles, closed, peak = done.stdout.split()
    assert int(triangles) <= most
    assert closed == "True"
    assert int(peak) * 1024 < 1.8 * 2**30


def test_make_solid_refuses_a_limit_that_is_too_low():
    with pytest.raises(InvalidInput, match="allow more"):
        make_solid(
            to_mesh(
                trimesh.util.concatenate(
                    [trimesh.creation.box().apply_translation([3 * i, 0, 0]) for i in range(30)]
                )
            ),
            max_faces=4,
        )
    with pytest.raises(InvalidInput, match="at least 4"):
        clean(ball(), max_faces=3)


def test_make_solid_closes_gaps_between_all_triangles():
    sphere = trimesh.creation.icosphere(subdivisions=3).apply_translation([5, 0, -3])
    corners = torch.tensor(sphere.triangles, dtype=torch.float32)
    apart = corners.lerp(corners.mean(dim=1, keepdim=True), 0.03)
    closed = make_solid(
        Mesh(
            apart.reshape(-1, 3),
            torch.arange(3 * len(corners)).view(-1, 3),
            apart.reshape(-1, 3).clamp(0, 1),
        ),
        128,
    )
    assert is_watertight(closed)
    assert closed.volume() == pytest.approx(sphere.volume, rel=0.05)
    voxel = 2 / 128
    torch.testing.assert_close(
        closed.vertices.amin(dim=0), torch.tensor([4.0, -1, -4]), atol=1.5 * voxel, rtol=0
    )
    torch.testing.assert_close(
        closed.vertices.amax(dim=0), torch.tensor([6.0, 1, -2]), atol=1.5 * voxel, rtol=0
    )
    assert (
        float(((closed.vertices - torch.tensor([5.0, 0, -3])).norm(dim=1) - 1).abs().mean()) < voxel
    ), "the surface shows voxel steps"
    torch.testing.assert_close(closed.vertex_colors, closed.vertices.clamp(0, 1), atol=0.05, rtol=0)
