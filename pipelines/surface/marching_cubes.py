"""Marching cubes on any device, for cells that the surface is known to cross.

Source: Lewiner et al., "Efficient Implementation of Marching Cubes' Cases with Topological
Guarantees" (2003). The vertices match those of scikit-image's implementation.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from .marching_cases import (
    CENTER,
    CORNERS,
    EDGES,
    FACES,
    ambiguous_faces,
    cell_triangles,
    interior_test,
)

_CELLS_AT_ONCE = 1 << 17
_POINTS_AT_ONCE = 1 << 19  # the signs of this many points fit into a core's cache
_EPSILON = torch.finfo(torch.float64).eps
_UNITS = [4 ** ((b - a).bit_length() - 1) for a, b in EDGES] + [1]  # see `_faces`


def crossed_cells(inside: Tensor) -> Tensor:
    """Find cells with corners on both sides of a surface.

    Args:
        inside: (X, Y, Z) bool.

    Returns:
        (N, 3) lower corners, in ascending order. A cell may extend beyond the upper border of the
        volume, where the values at the border are repeated.
    """
    layers = max(1, _POINTS_AT_ONCE // inside[0].numel())
    found = []
    for start in range(0, len(inside), layers):
        some = every = inside[start : start + layers + 1]
        if start + layers >= len(inside):
            some = every = torch.cat([some, some[-1:]])
        some = some[1:] | some[:-1]
        every = every[1:] & every[:-1]
        for axis in (1, 2):
            count = some.shape[axis] - 1
            low_some, low_every = some.clone(), every.clone()
            low_some.narrow(axis, 0, count).logical_or_(some.narrow(axis, 1, count))
            low_every.narrow(axis, 0, count).logical_and_(every.narrow(axis, 1, count))
            some, every = low_some, low_every
        cells = (some & ~every).nonzero()
        cells[:, 0] += start
        found.append(cells)
    return torch.cat(found)


def marching_cubes(values: Tensor, level: float, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Triangulate the level set of a volume.

    Args:
        values: (X, Y, Z) float32, contiguous, higher inside; overwritten, to save memory.
        level: value of the surface.
        cells: (N, 3) all cells that the surface crosses, as `crossed_cells` returns them.

    Returns:
        vertices (V, 3) float32 in units of grid indices, and faces (F, 3) int64 with normals toward
        lower values.
    """
    device = values.device
    limits = torch.tensor(values.shape, device=device) - 1
    strides = torch.tensor(values.stride(), device=device)
    flat = values.view(-1)
    places = [(cells * strides).sum(dim=1)]
    for step in torch.where(cells < limits, strides, 0).unbind(dim=1):
        places += [place + step for place in places]
    corners = [flat.index_select(0, place).sub_(level) for place in places]
    inside = [corner > 0 for corner in corners]
    own = [inside[0] != inside[1 << axis] for axis in range(3)]  # crossed edges from corner 0
    # Number vertices cell by cell, those of one cell by axis.
    before = [own[0].int(), own[0].int() + own[1]]
    counts = before[1] + own[2]
    first = counts.cumsum(dim=0) - counts
    numbers = flat.view(torch.int32)
    numbers[places[0]] = (first * 64).int() + before[1] * 16 + before[0] * 4
    total = int(first[-1] + counts[-1])
    key = resolve_cases(inside, corners)
    key[~(cells < limits).all(dim=1)] = 0  # no triangles beyond the border
    present = torch.zeros(1 << 15, dtype=torch.bool, device=device)
    present[key] = True
    keys = present.nonzero()[:, 0]
    triangles = [cell_triangles(k & 255, k >> 8 & 63, bool(k >> 14)) for k in keys.tolist()]
    case = (present.cumsum(dim=0) - 1)[key]
    with_center = torch.tensor([any(CENTER in t for t in ts) for ts in triangles], device=device)
    centered = with_center[case]
    vertices = torch.empty(total, 3, device=device)
    for axis in range(3):
        cell = own[axis].nonzero()[:, 0]
        low, high = corners[0][cell], corners[1 << axis][cell]
        number = first[cell] + (before[axis - 1][cell] if axis else 0)
        position = cells[cell].float()
        position[:, axis] += low / (low - high)
        vertices[number] = position
    faces = _faces(
        numbers, places[0], case, triangles, strides, centered.cumsum(dim=0) + (total - 1)
    )
    return torch.cat([vertices, _centers(cells, corners, centered)]), faces


def _faces(
    numbers: Tensor,
    places: Tensor,
    case: Tensor,
    triangles: list[tuple[tuple[int, int, int], ...]],
    strides: Tensor,
    centers: Tensor,
) -> Tensor:
    """Build the faces of cells.

    Args:
        numbers: one integer for each cell, at the cell's place in the flattened volume: 64 times
            the number of its first vertex; plus, in bits 2 * axis and 2 * axis + 1, how many of the
            cell's own vertices precede the one along that axis.
        places: (N,) places of the cells in the flattened volume.
        case: (N,) indices into `triangles`.
        triangles: see `cell_triangles`.
        strides: (3,) distance between the places of neighbours along each axis.
        centers: (N,) number of the vertex in a cell's centre, if it has one.
    """
    device = places.device
    counts = torch.tensor([len(ts) for ts in triangles], device=device)
    starts = counts.cumsum(dim=0) - counts
    edges = torch.tensor([t for ts in triangles for t in ts], device=device).view(-1, 3)
    owners = torch.tensor([CORNERS[a].tolist() for a, _ in EDGES] + [[0] * 3], device=device)
    offsets = (owners * strides).sum(dim=1)[edges]
    units = torch.tensor(_UNITS, device=device)[edges]
    found = []
    for some, some_case, some_centers in zip(
        *(t.split(_CELLS_AT_ONCE) for t in (places, case, centers)), strict=True
    ):
        count = counts[some_case]
        cell = torch.arange(len(some), device=device).repeat_interleave(count)
        row = torch.arange(len(cell), device=device)
        row += (starts[some_case] - (count.cumsum(dim=0) - count))[cell]
        owner = offsets.index_select(0, row) + some[cell][:, None]  # (T, 3)
        number = numbers.index_select(0, owner.view(-1)).view(-1, 3)
        vertex = number // 64 + (number // units.index_select(0, row) & 3)
        inner = edges.index_select(0, row) == CENTER
        found.append(torch.where(inner, some_centers[cell][:, None], vertex))
    return torch.cat(found)


def _centers(cells: Tensor, corners: list[Tensor], chosen: Tensor) -> Tensor:
    """Return the vertices (M, 3) in the centres of chosen cells: near corners with small values."""
    values = torch.stack([corner[chosen] for corner in corners], dim=1).cpu().double()
    weights = 1 / (_EPSILON + values.abs())
    offsets = weights @ torch.tensor(CORNERS).double() / weights.sum(dim=1, keepdim=True)
    return cells[chosen] + offsets.float().to(cells.device)


@cache
def _tested() -> tuple[Tensor, Tensor]:
    """Return which faces of the 256 cases are ambiguous (256, 6), and which cases need tests."""
    faces = torch.zeros(256, 6, dtype=torch.bool)
    for case in range(256):
        faces[case, ambiguous_faces(case)] = True
    inside = torch.tensor([interior_test(case, 0) is not None for case in range(256)])
    return faces, faces.any(dim=1) | inside


def resolve_cases(inside: list[Tensor], corners: list[Tensor]) -> Tensor:
    """Return the case of each cell, with the results of tests.

    Args:
        inside: for each corner, (N,) whether it is inside.
        corners: for each corner, (N,) values, positive inside.

    Returns:
        (N,) bit k is set if corner k is inside; bit 8 + f if the inside corners of the ambiguous
        face f are joined; bit 14 if there is a tunnel.
    """
    case = inside[0].to(torch.uint8)
    for k in range(1, 8):
        case |= inside[k].to(torch.uint8) * (1 << k)
    keys = case.long()
    ambiguous, tested = _tested()
    chosen = tested.to(keys.device)[keys].nonzero()[:, 0]
    found = keys[chosen].cpu()
    values = torch.stack([corner[chosen] for corner in corners], dim=1).cpu().double()
    joined = torch.stack([_joined_across(values[:, ring]) for ring in FACES], dim=1)
    bits = torch.tensor([1 << 8 + face for face in range(6)])
    found += ((joined & ambiguous[found]) * bits).sum(dim=1)
    for key in found.unique().tolist():
        if test := interior_test(key & 255, key >> 8):
            cells = found == key
            joins = _joined_inside(values[cells] * test.sign, test.edge)
            found[cells] += (joins == test.if_joined) * (1 << 14)
    keys[chosen] = found.to(keys.device)
    return keys


def _joined_across(ring: Tensor) -> Tensor:
    """Return whether the inside corners of faces (N, 4) are joined, if these are ambiguous."""
    a, b, c, d = ring.unbind(dim=1)
    excess = a * c - b * d
    return torch.where(a > 0, excess, -excess) > -_EPSILON


def _joined_inside(corners: Tensor, edge: int | None) -> Tensor:
    """Return whether positive corners of cells (N, 8) are joined in a slice; see `InteriorTest`."""
    a, b = (0, 1) if edge is None else EDGES[edge]
    u, v = (bit for bit in (1, 2, 4) if bit != b - a)
    ring = [a, a ^ u, a ^ u ^ v, a ^ v]
    start = corners[:, ring]
    change = corners[:, [k ^ a ^ b for k in ring]] - start
    if edge is None:
        # The extreme of the saddle's value, which is quadratic along the axis.
        curved = change[:, 0] * change[:, 2] - change[:, 1] * change[:, 3]
        sloped = start[:, 0] * change[:, 2] + start[:, 2] * change[:, 0]
        sloped -= start[:, 1] * change[:, 3] + start[:, 3] * change[:, 1]
        place = -sloped / (2 * curved + _EPSILON)
    else:
        place = -start[:, 0] / change[:, 0]
    cut = start + change * place[:, None]
    if edge is not None:
        cut[:, 0] = 0
    positive = cut >= 0
    excess = cut[:, 0] * cut[:, 2] - cut[:, 1] * cut[:, 3]
    joined = (positive[:, 0] & positive[:, 2] & (excess >= _EPSILON)) | (
        positive[:, 1] & positive[:, 3] & (excess < _EPSILON)
    )
    return (joined | (positive.sum(dim=1) > 2)) & (place >= 0) & (place <= 1)
