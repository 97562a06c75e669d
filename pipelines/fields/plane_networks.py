"""MLPs on triplanes, fast.

The MLP reads the three features that a point finds on the planes (x, y), (x, z) and (z, y). Its
first layer is linear, and so is bilinear sampling. So each plane goes through its third of that
layer once. A point then costs three samples of the projected planes and the rest of the MLP. On a
regular grid, each plane is sampled once for each pair of coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..progress import Progress, silent

_CACHED_POINTS = 8192  # whose hidden layers stay in a core's cache
PLANE_AXES = ((0, 1), (0, 2), (2, 1))  # what runs along a plane's width, then along its height


def plane_mlp(in_features: int, out_features: int, hidden: int = 64) -> nn.Sequential:
    """Build the decoders' MLP: three hidden layers with ReLU."""
    return nn.Sequential(
        nn.Linear(in_features, hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, out_features),
    )


def points_at_once(chunk_size: int, device: torch.device) -> int:
    """Return how many points to evaluate at once.

    On a CPU these are no more than stay in its cache, where they are several times as fast.
    """
    return min(chunk_size, _CACHED_POINTS) if device.type == "cpu" else chunk_size


def project_planes(planes: Tensor, weight: Tensor) -> Tensor:
    """Apply a first layer's weight to planes.

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
    coordinates = torch.stack([points[..., axes] for axes in PLANE_AXES], dim=1)  # (B, 3, N, 2)
    sampled = F.grid_sample(
        projected.flatten(0, 1),
        coordinates.flatten(0, 1)[:, None],
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )  # (3 B, D, 1, N)
    return sampled.squeeze(2).unflatten(0, (-1, 3)).sum(dim=1).transpose(1, 2)


class PlaneNetwork:
    """One MLP on one triplane, ready for many points.

    Args:
        planes: (3, C, H, W).
        mlp: as `plane_mlp` makes it, of 3 * C features.
        outputs: how many of its outputs are wanted, the first ones; all if None.
    """

    def __init__(self, planes: Tensor, mlp: nn.Sequential, outputs: int | None = None) -> None:
        first, last = mlp[0], mlp[-1]
        assert isinstance(first, nn.Linear)
        assert isinstance(last, nn.Linear)
        wanted = nn.utils.skip_init(
            nn.Linear, last.in_features, last.out_features if outputs is None else outputs
        )
        wanted.weight, wanted.bias = (
            nn.Parameter(p[:outputs], requires_grad=False) for p in (last.weight, last.bias)
        )
        self._bias = first.bias
        self._rest = nn.Sequential(*list(mlp)[1:-1], wanted)
        self._projected = project_planes(planes[None], first.weight)  # (1, 3, D, H, W)

    @property
    def device(self) -> torch.device:
        return self._projected.device

    def at(self, points: Tensor, chunk_size: int) -> Tensor:
        """Return (N, out_features) outputs at points of the grid, `chunk_size` at once.

        Args:
            points: (N, 3) in [-1, 1]; outside, the planes count as zero.
            chunk_size: points evaluated at once.

        Returns:
            (N, out_features).
        """
        chunks = points.split(points_at_once(chunk_size, points.device))
        return torch.cat(
            [
                self._rest(sample_planes(self._projected, chunk[None])[0] + self._bias)
                for chunk in chunks
            ]
        )

    def on_grid(self, x: Tensor, y: Tensor, z: Tensor) -> NetworkGrid:
        """Prepare to evaluate the network on the regular grid of these coordinates."""
        xy, xz, zy = (
            _sample_lattice(plane, across, down)
            for plane, (across, down) in zip(
                self._projected[0], ((x, y), (x, z), (z, y)), strict=True
            )
        )
        return NetworkGrid(xy, xz, (zy.transpose(0, 1) + self._bias).contiguous(), self._rest)


def _sample_lattice(plane: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Sample a plane (D, H, W) on a lattice; returns (len(across), len(down), D)."""
    lattice = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1)  # (down, across, 2)
    sampled = F.grid_sample(
        plane[None], lattice[None], mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return sampled[0].permute(2, 1, 0).contiguous()


class NetworkGrid:
    """A network on a regular grid.

    A point's first layer is the sum of one sample for each pair of its coordinates.

    Attributes:
        shape: points along x, y, z.
    """

    def __init__(self, xy: Tensor, xz: Tensor, yz: Tensor, rest: nn.Module) -> None:
        self._xy, self._xz, self._yz, self._rest = (
            xy,
            xz,
            yz,
            rest,
        )  # (X, Y, D), (X, Z, D), (Y, Z, D) with the bias
        self.shape = (xy.shape[0], xy.shape[1], xz.shape[1])

    @property
    def device(self) -> torch.device:
        return self._xy.device

    def coarse(self, stride: int) -> NetworkGrid:
        """Return the grid of every `stride`-th point along each axis, and the last."""
        x, y, z = (
            torch.tensor([*range(0, n - 1, stride), n - 1], device=self.device) for n in self.shape
        )
        return NetworkGrid(self._xy[x][:, y], self._xz[x][:, z], self._yz[y][:, z], self._rest)

    def slabs(self, chunk_size: int) -> Iterator[tuple[int, Tensor]]:
        """Yield all points by layer: first x index, outputs (layers, Y, Z, out_features).

        A layer is cut along y where it has more than `chunk_size` points.
        """
        length, width, depth = self.shape
        at_once = points_at_once(chunk_size, self.device)
        layers = max(1, at_once // (width * depth))
        rows = max(1, min(width, at_once // depth))
        for start in range(0, length, layers):
            xy, xz = self._xy[start : start + layers], self._xz[start : start + layers, None]
            parts = [
                self._rest(xy[:, r : r + rows, None] + xz + self._yz[r : r + rows])
                for r in range(0, width, rows)
            ]
            yield start, torch.cat(parts, dim=1)

    def volume(self, chunk_size: int, progress: Progress = silent) -> Tensor:
        """Return (X, Y, Z): channel 0 at all points; calls `progress` after each chunk."""
        volume = torch.empty(self.shape, device=self.device)
        for start, outputs in self.slabs(chunk_size):
            volume[start : start + len(outputs)] = outputs[..., 0]
            progress(start + len(outputs), self.shape[0])
        return volume

    def at(self, index: Tensor, chunk_size: int) -> Tensor:
        """Return (N, out_features) outputs at points of the grid, `chunk_size` at once.

        The points (N, 3) are given by their numbers along x, y and z.
        """
        outputs = []
        for chunk in index.split(points_at_once(chunk_size, self.device)):
            x, y, z = chunk.unbind(dim=1)
            outputs.append(self._rest(self._xy[x, y] + self._xz[x, z] + self._yz[y, z]))
        return torch.cat(outputs)

    def blocks(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Return outputs in boxes of the grid.

        Args:
            x: (N, s) indices along the first axis of N boxes.
            y: along the second.
            z: along the third.

        Returns:
            (N, s, s, s, out_features).
        """
        xy = self._xy[x[:, :, None], y[:, None, :]]  # (N, s, s, D)
        xz = self._xz[x[:, :, None], z[:, None, :]]
        yz = self._yz[y[:, :, None], z[:, None, :]]
        # Row by row, as linear layers want it: a plain sum is not.
        hidden = xy.new_empty(*xy.shape[:3], z.shape[1], xy.shape[-1])
        torch.add(xy[:, :, :, None], xz[:, :, None], out=hidden).add_(yz[:, None])
        outputs: Tensor = self._rest(hidden)
        return outputs


def cube_network(planes: Tensor, mlp: nn.Sequential, axis: Tensor) -> NetworkGrid:
    """Prepare an MLP on the features of cubes' eight corners, on a grid of cubes.

    The grid has all cubes between the coordinates of an axis.

    A corner's sample of a plane depends on two of its coordinates alone, so the samples of all
    corners add up to one number for each pair of a cube's coordinates: a cube costs three
    additions, as a point does.

    Args:
        planes: (3, C, H, W).
        mlp: as `plane_mlp` makes it, of 8 * 3 * C features; corner k stands at offset (k & 1, k >>
            1 & 1, k >> 2 & 1).
        axis: (R + 1,) coordinates of the grid's vertices, the same along x, y and z.

    Returns:
        the network on R^3 cubes.
    """
    first = mlp[0]
    assert isinstance(first, nn.Linear)
    weights = first.weight.unflatten(1, (8, 3, -1))  # (hidden, corner, plane, C)
    cubes = len(axis) - 1
    tables = []
    for plane, (across, down) in enumerate(PLANE_AXES):
        table = planes.new_zeros(cubes, cubes, len(weights))
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
            corners = [k for k in range(8) if (k >> across & 1, k >> down & 1) == (i, j)]
            projected = torch.einsum(
                "chw,dc->dhw", planes[plane], weights[:, corners, plane].sum(dim=1)
            )
            table += _sample_lattice(projected, axis, axis)[i : i + cubes, j : j + cubes]
        tables.append(table)
    xy, xz, zy = tables
    return NetworkGrid(xy, xz, (zy.transpose(0, 1) + first.bias).contiguous(), mlp[1:])
