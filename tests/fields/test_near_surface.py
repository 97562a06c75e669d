"""Costly fields are evaluated only near their surface; the surface is that of the whole grid."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pipelines.fields.near_surface import costly_stride, sample_near_surface
from pipelines.fields.point_grid import PointGrid
from pipelines.surface.flexicubes import CubeGrid, close_boundary, flexicubes


def _box(points: Tensor, center: tuple[float, ...], half: tuple[float, ...]) -> Tensor:
    beyond = (points - torch.tensor(center)).abs() - torch.tensor(half)
    return -(beyond.clamp_min(0).norm(dim=1) + beyond.amax(dim=1).clamp_max(0))


def chair(points: Tensor) -> Tensor:
    """Return the signed distance of a seat, a back and four legs, 2 units tall."""
    parts = [((0, 0, 0), (0.5, 0.5, 0.06)), ((-0.45, 0, 0.5), (0.05, 0.5, 0.5))]
    parts += [((x, y, -0.5), (0.03, 0.03, 0.5)) for x in (-0.45, 0.45) for y in (-0.45, 0.45)]
    return torch.stack([_box(points, *part) for part in parts]).amax(dim=0)


def ball(points: Tensor) -> Tensor:
    return 0.7 - (points - 0.03).norm(dim=1)


def wavy(points: Tensor) -> Tensor:
    x, y, z = (5 * points).unbind(1)
    return x.sin() * y.cos() + y.sin() * z.cos() + z.sin() * x.cos() - 0.3


def _sampled(values: Callable[[Tensor], Tensor], axis: Tensor, exact: bool = False) -> Tensor:
    stride = 1 if exact else costly_stride(len(axis) - 1)
    return sample_near_surface(PointGrid(values, axis, axis, axis), 0.0, stride, 10_000)


def counted(function: Callable[[Tensor], Tensor]) -> tuple[Callable[[Tensor], Tensor], list[int]]:
    counts: list[int] = []

    def values(points: Tensor) -> Tensor:
        counts.append(len(points))
        return (20 * function(points)).tanh()  # truncated, like the decoder's values

    return values, counts


@pytest.mark.parametrize("function", [chair, ball, wavy])
@pytest.mark.parametrize("resolution", [96, 101])
def test_sample_near_surface_gives_the_surface_of_the_whole_grid(function, resolution):
    grid = CubeGrid(resolution, 2.01)
    values, counts = counted(function)
    near = _sampled(values, grid.axis)
    asked = sum(counts)
    whole = _sampled(values, grid.axis, exact=True)
    assert torch.equal(near > 0, whole > 0)
    meshes = [flexicubes(close_boundary(volume), grid, 10_000) for volume in (near, whole)]
    torch.testing.assert_close(meshes[0][0], meshes[1][0], atol=1e-6, rtol=0)
    assert torch.equal(meshes[0][1], meshes[1][1])
    assert asked < 0.5 * (resolution + 1) ** 3


@pytest.mark.parametrize("resolution", [1, 8, 33, 64, 67])
def test_sample_near_surface_of_any_resolution(resolution):
    axis = torch.linspace(-1, 1, resolution + 1)
    values, _ = counted(ball)
    found = _sampled(values, axis)
    whole = _sampled(values, axis, exact=True)
    assert torch.equal(found > 0, whole > 0)


@pytest.mark.slow
@pytest.mark.parametrize(("resolution", "most"), [(256, 250_000), (512, 1_200_000)])
def test_sample_near_surface_of_a_chair_takes_few_queries(resolution, most):
    values, counts = counted(chair)
    _sampled(values, torch.linspace(-1.005, 1.005, resolution + 1))
    assert sum(counts) <= most


def test_sample_near_surface_stops_where_its_progress_raises():
    def stop(done: int, total: int, preview: object = None) -> None:
        raise InterruptedError

    axis = torch.linspace(-1, 1, 33)
    with pytest.raises(InterruptedError):
        sample_near_surface(PointGrid(ball, axis, axis, axis), 0.0, 1, 1000, progress=stop)
