"""Fields whose surface is known, and small random ones, for all tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.fields.plane_networks import NetworkGrid
from pipelines.fields.triplane import SignedDistanceTriplane, SoftplusDecoder, Triplane
from pipelines.fields.voxels import VoxelColors
from pipelines.reconstruction.instant_mesh import ReconstructionConfig, ReconstructionModel
from pipelines.reconstruction.vision_transformer import EncoderConfig

_ANY_DENSITY = SoftplusDecoder(3, resolution=8, threshold=10.0, samples_per_ray=8)


def density_of(level: Tensor) -> Tensor:
    """Convert raw densities to densities, as InstantMesh does."""
    return _ANY_DENSITY.density(level)


def raw_density(density: float) -> float:
    """Convert a density to a raw density: the inverse of `density_of`."""
    return _ANY_DENSITY.raw_density(density)


def random_triplane(surface: Literal["mesh", "nerf"], seed: int = 0) -> Triplane:
    """Return a smooth random triplane with the decoder of a small random model."""
    torch.manual_seed(seed)
    encoder = EncoderConfig(
        hidden_size=16, layers=1, heads=1, mlp_size=16, image_size=32, view_size=32
    )
    config = ReconstructionConfig(
        surface, 1, 8, 16, encoder, transformer_dim=16, transformer_heads=1, triplane_low_res=4
    )
    model = ReconstructionModel(config).requires_grad_(False)
    planes = (
        torch.nn.functional.interpolate(torch.randn(3, 8, 4, 4), size=(16, 16), mode="bicubic") * 3
    )
    return model.decoder.triplane(planes)


def half_inside(triplane: Triplane) -> tuple[Triplane, float | None]:
    """Change a triplane so that half of its volume is inside.

    Returns:
        the triplane, and for a density the threshold at which half is inside; otherwise None.
    """
    levels = triplane.values(torch.rand(4000, 3) * 2 - 1, 4000)
    if isinstance(triplane, SignedDistanceTriplane):
        triplane.decoder.net_sdf[-1].bias -= levels.median()  # type: ignore[operator]
        return triplane.to("cpu"), None
    return triplane, float(triplane.density(levels).median())


class _Function(nn.Module):
    """Replaces the MLP. Its input has three channels: the coordinates of a point."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, points: Tensor) -> Tensor:
        return self.function(points)[..., None]


def analytic_grid(function: Callable[[Tensor], Tensor], axis: Tensor) -> NetworkGrid:
    """Return the values of a function of points (..., 3) on a cubic grid, as a triplane does."""
    n, zero = len(axis), torch.zeros(len(axis), len(axis))
    xy = torch.stack([axis[:, None].expand(n, n), axis[None].expand(n, n), zero], dim=-1)
    xz = torch.zeros(n, n, 3)
    yz = torch.stack([zero, zero, axis[None].expand(n, n)], dim=-1)
    return NetworkGrid(xy, xz, yz, _Function(function))


class AnalyticField:
    """A field whose values and colours are formulas.

    Its values are signed distances, or raw densities if `kind` is "density".
    """

    resolution, detail, threshold, samples_per_ray = 128, 2 / 64, 10.0, 16
    even_steps = costly = False
    camera = None
    device = torch.device("cpu")

    def __init__(
        self,
        values: Callable[[Tensor], Tensor],
        color: Callable[[Tensor], Tensor] = lambda points: points,
        kind: Literal["signed_distance", "density"] = "signed_distance",
    ) -> None:
        self.kind = kind
        self.half_side = 1.05 if kind == "signed_distance" else 1.0
        self._values, self._colors = values, color

    def to(self, device: Any) -> AnalyticField:
        return self

    def values(self, points: Tensor, chunk_size: int) -> Tensor:
        return self._values(points)

    def colors(self, points: Tensor, chunk_size: int) -> Tensor:
        return self._colors(points)

    def values_and_colors(self, points: Tensor, chunk_size: int) -> tuple[Tensor, Tensor]:
        return self._values(points), self._colors(points)

    def values_on_grid(self, x: Tensor, y: Tensor, z: Tensor) -> NetworkGrid:
        return analytic_grid(self._values, x)

    def density(self, raw: Tensor) -> Tensor:
        return density_of(raw)

    def raw_density(self, density: float) -> float:
        return raw_density(density)

    def deformation(self, axis: Tensor, chunk_size: int) -> None:
        return None

    def cube_weights(self, axis: Tensor, chunk_size: int) -> None:
        return None


def cube_of_voxels(channels: int = 6, cells: int = 16) -> VoxelColors:
    """Return voxels that fill the cube from -1 to 1; channel i grows along axis i % 3."""
    axis = (torch.arange(cells) + 0.5) / cells * 2 - 1
    centers = torch.cartesian_prod(axis, axis, axis)
    return VoxelColors(centers, (centers.repeat(1, 2)[:, :channels] + 1) / 2, 2 / cells)


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
