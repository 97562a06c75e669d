"""Fast evaluation of MLPs on triplanes.

The input of the MLP is the features of a point, sampled from the planes (x, y), (x, z) and (z, y).
The first layer and bilinear sampling are both linear, so their order can be swapped: each plane is
projected through its third of that layer once. A point then needs only three samples of the
projected planes and the rest of the MLP. On a regular grid, each plane is sampled once for each
pair of coordinates.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..progress import Progress, silent

_CACHED_POINTS = 8192  # number of points whose hidden layers fit into a core's cache
PLANE_AXES = ((0, 1), (0, 2), (2, 1))  # axes along the width and the height of each plane


def plane_mlp(
    in_features: int,
    out_features: int,
    hidden: int = 64,
    hidden_layers: int = 3,
    activation: Callable[..., nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """Build an MLP as used by the decoders."""
    layers: list[nn.Module] = []
    for features in [in_features] + [hidden] * (hidden_layers - 1):
        layers += [nn.Linear(features, hidden), activation(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(hidden, out_features))


def points_at_once(chunk_size: int, device: torch.device) -> int:
    """Return how many points to evaluate at once.

    A CPU is several times as fast if the points fit into its cache, so their number is limited.
    """
    return min(chunk_size, _CACHED_POINTS) if device.type == "cpu" else chunk_size


def project_planes(planes: Tensor, weight: Tensor) -> Tensor:
    """Apply the weight of an MLP's first layer to planes.

    Args:
        planes: (B, 3, C, H, W).
        weight: (hidden, 3 * C), grouped by plane.

    Returns:
        (B, 3, hidden, H, W).
    """
    return torch.einsum("bpchw,dpc->bpdhw", planes, weight.unflatten(1, (3, -1)))


def sample_planes(projected: Tensor, points: Tensor) -> Tensor:
    """Sample all planes bilinearly at points, and sum the samples; planes are zero outside.

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
    """An MLP on one triplane, prepared for evaluation at many points.

    Args:
        planes: (3, C, H, W).
        mlp: see `plane_mlp`; takes 3 * C features.
        outputs: number of outputs to compute, from the first; None for all.
    """

    def __init__(self, planes: Tensor, mlp: nn.Sequential, outputs: int | None = None) -> None:
        first, last = mlp[0], mlp[-1]
        assert isinstance(first, nn.Linear)
        assert isinstance(last, nn.Linear)
        wanted = nn.utils.skip_init(nn.Linear, last.in_features, outputs or last.out_features)
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
        """Evaluate the network at points.

        Args:
            points: (N, 3) in [-1, 1]; the planes are zero outside.
            chunk_size: points evaluated at once.

        Returns:
            (N, out_features).
        """
        chunks = points.split(points_at_once(chunk_size, points.device))
        first = (sample_planes(self._projected, chunk[None])[0] + self._bias for chunk in chunks)
        return torch.cat([self._rest(hidden) for hidden in first])

    def on_grid(self, x: Tensor, y: Tensor, z: Tensor) -> NetworkGrid:
        """Prepare to evaluate the network on the regular grid of these coordinates."""
        axes = ((x, y), (x, z), (z, y))
        planes = zip(self._projected[0], axes, strict=True)
        xy, xz, zy = (_sample_lattice(plane, across, down) for plane, (across, down) in planes)
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

    The first layer at a point is a sum of three samples, one for each pair of its coordinates.

    Attributes:
        shape: number of points along x, y, z.
    """

    def __init__(self, xy: Tensor, xz: Tensor, yz: Tensor, rest: nn.Module) -> None:
        # (X, Y, D), (X, Z, D), and (Y, Z, D) with the bias.
        self._xy, self._xz, self._yz, self._rest = xy, xz, yz, rest
        self.shape = (xy.shape[0], xy.shape[1], xz.shape[1])

    @property
    def device(self) -> torch.device:
        return self._xy.device

    def volume(self, chunk_size: int, progress: Progress = silent) -> Tensor:
        """Evaluate channel 0 at all points, `progress` after each chunk; returns (X, Y, Z).

        A layer with more than `chunk_size` points is evaluated in parts along y.
        """
        length, width, depth = self.shape
        volume = torch.empty(self.shape, device=self.device)
        at_once = points_at_once(chunk_size, self.device)
        layers = max(1, at_once // (width * depth))
        rows = max(1, min(width, at_once // depth))
        for start in range(0, length, layers):
            end = min(start + layers, length)
            xy, xz = self._xy[start:end], self._xz[start:end, None]
            for r in range(0, width, rows):
                outputs = self._rest(xy[:, r : r + rows, None] + xz + self._yz[r : r + rows])
                volume[start:end, r : r + rows] = outputs[..., 0]
            progress(end, length)
        return volume

    def at(self, index: Tensor, chunk_size: int) -> Tensor:
        """Evaluate points with indices (N, 3) along x, y and z, `chunk_size` at once.

        Returns:
            (N, out_features).
        """
        outputs = []
        _, width, depth = self.shape
        xy, xz, yz = (samples.flatten(0, 1) for samples in (self._xy, self._xz, self._yz))
        for chunk in index.split(points_at_once(chunk_size, self.device)):
            x, y, z = chunk.unbind(dim=1)
            hidden = xy.index_select(0, x * width + y)  # faster than indexing by x and y
            hidden += xz.index_select(0, x * depth + z)
            hidden += yz.index_select(0, y * depth + z)
            outputs.append(self._rest(hidden))
        return torch.cat(outputs)


def cube_network(planes: Tensor, mlp: nn.Sequential, axis: Tensor) -> NetworkGrid:
    """Prepare an MLP that takes the features of a cube's eight corners, for a grid of cubes.

    A corner's sample of a plane depends on only two of its coordinates. So the samples of all
    corners can be summed in advance for each pair of a cube's coordinates. A cube then costs as
    much as a point.

    Args:
        planes: (3, C, H, W).
        mlp: see `plane_mlp`; takes 8 * 3 * C features. Corner k is at offset (k & 1, k >> 1 & 1,
            k >> 2 & 1).
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
            weight = weights[:, corners, plane].sum(dim=1)
            projected = torch.einsum("chw,dc->dhw", planes[plane], weight)
            table += _sample_lattice(projected, axis, axis)[i : i + cubes, j : j + cubes]
        tables.append(table)
    xy, xz, zy = tables
    return NetworkGrid(xy, xz, (zy.transpose(0, 1) + first.bias).contiguous(), mlp[1:])
