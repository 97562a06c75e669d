"""What the tests share: the golden arrays, small pictures, and fields whose surface is known."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import hypothesis
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from pipelines.image_to_3d import ImageTo3D
from pipelines.reconstruction.fields import FieldGrid
from pipelines.reconstruction.model import ReconstructionConfig

# The same examples every time, however busy the machine is; a folder that examples share does no harm, since each writes its own file anew.
_CALM = [hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile("calm", deadline=None, derandomize=True, suppress_health_check=_CALM)
hypothesis.settings.load_profile("calm")

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def picture_path(tmp_path: Path) -> Path:
    """A red disc on white, 200 x 160."""
    picture = Image.new("RGB", (200, 160), "white")
    ImageDraw.Draw(picture).ellipse((60, 40, 140, 120), fill=(200, 30, 30))
    path = tmp_path / "disc.png"
    picture.save(path)
    return path


@pytest.fixture(scope="session")
def pocket() -> ImageTo3D:
    return ImageTo3D.load("pocket", device="cpu")


class _Function(nn.Module):
    """Stands for an MLP: reads a point's three coordinates, which `AnalyticGrid` hides in three of the channels."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, points: Tensor) -> Tensor:
        return self.function(points)[..., None]


def analytic_grid(function: Callable[[Tensor], Tensor], axis: Tensor) -> FieldGrid:
    """A function of (..., 3) points as a field on a cubic grid, through the same class as triplane fields."""
    n, zero = len(axis), torch.zeros(len(axis), len(axis))
    xy = torch.stack([axis[:, None].expand(n, n), axis[None].expand(n, n), zero], dim=-1)
    xz = torch.zeros(n, n, 3)
    yz = torch.stack([zero, zero, axis[None].expand(n, n)], dim=-1)
    return FieldGrid(xy, xz, yz, _Function(function))


class AnalyticTriplane:
    """Stands for the triplane of a mesh model: a signed distance (positive inside) and colours that are formulas."""

    def __init__(self, function: Callable[[Tensor], Tensor], color: Callable[[Tensor], Tensor]) -> None:
        self.planes = torch.zeros(3, 1, 64, 64)
        self.config = ReconstructionConfig("mesh", 1, 1, 16)
        self._function, self._color = function, color

    @property
    def level_field(self) -> AnalyticTriplane:
        return self

    def on_grid(self, x: Tensor, y: Tensor, z: Tensor) -> FieldGrid:
        return analytic_grid(self._function, x)

    def at(self, points: Tensor, chunk_size: int) -> Tensor:
        return self._function(points)[:, None]

    def colors(self, points: Tensor, chunk_size: int) -> Tensor:
        return self._color(points)

    def deformation(self, axis: Tensor, chunk_size: int) -> None:
        return None

    def cube_weights(self, axis: Tensor, chunk_size: int) -> None:
        return None


def sphere(points: Tensor) -> Tensor:
    return 0.7 - points.norm(dim=-1)


def torus(points: Tensor) -> Tensor:
    ring = points[..., :2].norm(dim=-1) - 0.55
    return 0.4 - torch.sqrt(ring**2 + points[..., 2] ** 2)


def box(points: Tensor) -> Tensor:
    q = points.abs() - torch.tensor([0.95, 0.85, 0.8])
    return -(q.clamp_min(0).norm(dim=-1) + q.amax(dim=-1).clamp_max(0))


#: name: signed distance (positive inside), Euler number, volume
SHAPES: dict[str, tuple[Callable[[Tensor], Tensor], int, float]] = {
    "sphere": (sphere, 2, 4 / 3 * np.pi * 0.7**3),
    "torus": (torus, 0, 2 * np.pi**2 * 0.55 * 0.4**2),
    "box": (box, 2, 8 * 0.95 * 0.85 * 0.8),
}
