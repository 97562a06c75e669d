"""Triplane fields: what stands at a point of space.

A field is an MLP on the three features that a point finds on the planes (x, y), (x, z) and (z, y). Its first layer is linear and so
is bilinear sampling, so each plane goes through its third of that layer once; a point then costs three samples of the projected
planes and the rest of the MLP, and on a regular grid each plane is sampled once per pair of coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_PLANE_AXES = ((0, 1), (0, 2), (2, 1))  # what runs along a plane's width, then along its height


def field_mlp(in_features: int, out_features: int, hidden: int = 64) -> nn.Sequential:
    """The decoders' MLP: three hidden layers with ReLU."""
    return nn.Sequential(
        nn.Linear(in_features, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, out_features),
    )


def project_planes(planes: Tensor, weight: Tensor) -> Tensor:
    """Planes through a first layer's weight.

    Args:
        planes: (B, 3, C, H, W).
        weight: (hidden, 3 * C), a plane's channels side by side.

    Returns:
        (B, 3, hidden, H, W).
    """
    return torch.einsum("bpchw,dpc->bpdhw", planes, weight.unflatten(1, (3, -1)))


def sample_planes(projected: Tensor, points: Tensor) -> Tensor:
    """Sum over the planes of what points find there: bilinear, zero outside.

    Args:
        projected: (B, 3, D, H, W).
        points: (B, N, 3) in [-1, 1].

    Returns:
        (B, N, D).

    Source: Chan et al., EG3D (CVPR 2022), section 4.1.
    """
    coordinates = torch.stack([points[..., axes] for axes in _PLANE_AXES], dim=1)  # (B, 3, N, 2)
    sampled = F.grid_sample(
        projected.flatten(0, 1), coordinates.flatten(0, 1)[:, None], mode="bilinear", padding_mode="zeros", align_corners=False
    )  # (3 B, D, 1, N)
    return sampled.squeeze(2).unflatten(0, (-1, 3)).sum(dim=1).transpose(1, 2)


class Field:
    """One MLP on one triplane, ready for many points.

    Args:
        planes: (3, C, H, W).
        mlp: as `field_mlp` makes it, of 3 * C features.
    """

    def __init__(self, planes: Tensor, mlp: nn.Sequential) -> None:
        first = mlp[0]
        assert isinstance(first, nn.Linear)
        self._bias = first.bias
        self._rest = mlp[1:]
        self._projected = project_planes(planes[None], first.weight)  # (1, 3, D, H, W)

    @property
    def device(self) -> torch.device:
        return self._projected.device

    def at(self, points: Tensor, chunk_size: int) -> Tensor:
        """Raw outputs at points.

        Args:
            points: (N, 3) in [-1, 1]; outside, the planes count as zero.
            chunk_size: points evaluated at once.

        Returns:
            (N, out_features).
        """
        outputs = [self._rest(sample_planes(self._projected, chunk[None])[0] + self._bias) for chunk in points.split(chunk_size)]
        return torch.cat(outputs)

    def on_grid(self, x: Tensor, y: Tensor, z: Tensor, chunk_size: int) -> Iterator[tuple[slice, Tensor]]:
        """Raw outputs on a regular grid, slab by slab along x.

        Args:
            x, y, z: coordinates along the axes.
            chunk_size: points evaluated at once, at least; a slab is one layer of x or more.

        Yields:
            a slice of x and the outputs (len(slice), len(y), len(z), out_features).
        """
        xy, xz, zy = (
            F.grid_sample(
                plane[None], torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1)[None], padding_mode="zeros", align_corners=False
            )[0].permute(2, 1, 0)  # (across, down, D)
            for plane, (across, down) in zip(self._projected[0], ((x, y), (x, z), (z, y)), strict=True)
        )
        yz = zy.transpose(0, 1) + self._bias  # (Y, Z, D)
        layers = max(1, chunk_size // (len(y) * len(z)))
        for start in range(0, len(x), layers):
            part = slice(start, min(start + layers, len(x)))
            yield part, self._rest(xy[part, :, None] + xz[part, None] + yz)
