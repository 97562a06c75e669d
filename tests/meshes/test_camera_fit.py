from __future__ import annotations

import pytest
import torch

from pipelines.cameras import cameras_around
from pipelines.errors import InvalidInput
from pipelines.meshes.camera_fit import LEAST_OVERLAP, fit_camera
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.rasterization import on_screen

from ..shapes import l_shape
from .posed import ball, figure, flat_images


@pytest.mark.parametrize("elevation", [-10.0, 12.0, 40.0])
@pytest.mark.parametrize("colored", [True, False])
def test_fit_camera_finds_the_photographs_camera(elevation, colored):
    mesh, color = figure()
    camera = cameras_around([0.0], [elevation], 3.2, 45.0)
    shots = flat_images(mesh, camera, color, 128)
    fit = fit_camera(
        mesh if colored else Mesh(mesh.vertices, mesh.faces), shots.images, shots.masks
    )
    assert fit.trusted
    assert fit.overlap > 0.95
    assert fit.elevation_deg == pytest.approx(elevation, abs=3.0)
    assert abs(fit.roll_deg) < 2.0
    found, true = (on_screen(mesh.vertices, each, 128)[:, :2] for each in (fit.camera, camera))
    assert float((found - true).norm(dim=1).mean()) < 1.0


def test_fit_camera_finds_a_rolled_camera():
    mesh, color = figure()
    camera = cameras_around([0.0], [15.0], 4.0, 35.0)
    turn = torch.deg2rad(torch.tensor(8.0))
    c, s = float(turn.cos()), float(turn.sin())
    camera.c2w[:, :3, :2] = camera.c2w[:, :3, :2] @ torch.tensor([[c, s], [-s, c]])
    shots = flat_images(mesh, camera, color, 128)
    fit = fit_camera(mesh, shots.images, shots.masks)
    assert fit.roll_deg == pytest.approx(8.0, abs=1.5)


def test_fit_camera_does_not_trust_another_object():
    camera = cameras_around([0.0], [15.0], 4.0, 35.0)
    shots = flat_images(ball(), camera, lambda p: torch.full_like(p, 0.5), 128)
    fit = fit_camera(l_shape(), shots.images, shots.masks)
    assert fit.overlap < LEAST_OVERLAP
    assert not fit.trusted


def test_fit_camera_refuses_photographs_that_do_not_fit():
    mesh = l_shape()
    with pytest.raises(InvalidInput, match="square"):
        fit_camera(mesh, torch.ones(1, 3, 8, 9), torch.ones(1, 1, 8, 9))
    with pytest.raises(InvalidInput, match="like its photograph"):
        fit_camera(mesh, torch.ones(1, 3, 8, 8), torch.ones(1, 1, 4, 4))
    with pytest.raises(InvalidInput, match="no object"):
        fit_camera(mesh, torch.ones(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))
    with pytest.raises(InvalidInput, match="no triangles"):
        fit_camera(
            Mesh(torch.zeros(1, 3), torch.zeros(0, 3).long()),
            torch.ones(1, 3, 8, 8),
            torch.ones(1, 1, 8, 8),
        )
