"""FlexiCubes: extract a mesh from signed distances on a grid, with learnt weights.

Source: Shen et al., "Flexible Isosurface Extraction for Gradient-Based Mesh Optimization" (SIGGRAPH
2023), sections 4.1 to 4.3; Nielson, "Dual Marching Cubes" (IEEE Visualization 2004). The case
tables are computed from the rules in `_edge_groups`, not copied.

Corner k of a cube is at offset (k & 1, k >> 1 & 1, k >> 2 & 1) in (x, y, z). A corner is called
occupied if its value is negative. Signed distances are positive inside here, so an occupied corner
is outside.

          6 ------- 7
         /|        /|        z   y
        4 ------- 5 |        |  /
        | 2 ------|-3        | /
        |/        |/         |/___ x
        0 ------- 1
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from ..errors import EmptySurface
from .marching_cubes import crossed_cells

CORNERS = tuple((k & 1, k >> 1 & 1, k >> 2 & 1) for k in range(8))
EDGES = (
    (0, 1),
    (1, 5),
    (4, 5),
    (0, 4),
    (2, 3),
    (3, 7),
    (6, 7),
    (2, 6),
    (2, 0),
    (3, 1),
    (7, 5),
    (6, 4),
)
_AROUND = ((1, 1), (1, 0), (0, 0), (0, 1))  # steps to the four cubes around an edge, in a circle
_FACES = tuple((axis, side) for axis in range(3) for side in range(2))
_NO_SURFACE = "The field has no surface: the views show no object, or it lies outside the grid."


def _face_corners(axis: int, side: int) -> list[int]:
    return [k for k in range(8) if CORNERS[k][axis] == side]


def _edge_groups(case: int) -> tuple[list[int], list[int]]:
    """Group the crossed edges of a case: each group gets one dual vertex.

    Returns:
        groups: the group of each of the 12 edges; -1 if the edge is not crossed.
        ambiguous: indices of the faces with four crossed edges.
    """
    occupied = [bool(case >> k & 1) for k in range(8)]
    crossed = [occupied[a] != occupied[b] for a, b in EDGES]
    parent = list(range(12))

    def find(edge: int) -> int:
        while parent[edge] != edge:
            edge = parent[edge]
        return edge

    ambiguous = []
    for face, (axis, side) in enumerate(_FACES):
        corners = _face_corners(axis, side)
        edges = [
            e for e, (a, b) in enumerate(EDGES) if crossed[e] and a in corners and b in corners
        ]
        if len(edges) == 2:
            parent[find(edges[0])] = find(edges[1])
        elif len(edges) == 4:
            ambiguous.append(face)
            for corner in corners:
                if occupied[corner]:
                    first, second = (e for e in edges if corner in EDGES[e])
                    parent[find(first)] = find(second)
    roots = sorted({find(e) for e in range(12) if crossed[e]})
    return [roots.index(find(e)) if crossed[e] else -1 for e in range(12)], ambiguous


@cache
def _tables() -> tuple[Tensor, Tensor, Tensor]:
    """Build the lookup tables of all 256 cases.

    A case is doubtful if exactly one face is ambiguous and five or more corners are occupied.

    Returns:
        groups: (256, 12) group of each edge; -1 if the edge is not crossed.
        counts: (256,) number of groups.
        faces: (256,) ambiguous face of doubtful cases; -1 for other cases.
    """
    groups, doubtful = [], []
    for case in range(256):
        edge_groups, ambiguous = _edge_groups(case)
        groups.append(edge_groups)
        doubtful.append(ambiguous[0] if len(ambiguous) == 1 and case.bit_count() >= 5 else -1)
    table = torch.tensor(groups)
    return table, table.amax(dim=1) + 1, torch.tensor(doubtful)


class CubeGrid:
    """A cubic grid of R^3 cubes, centred on the origin.

    Vertices and cubes are numbered with x slowest and z fastest.
    """

    def __init__(self, resolution: int, scale: float, device: torch.device | str = "cpu") -> None:
        self.resolution = resolution
        self.axis = (torch.arange(resolution + 1, device=device) / resolution - 0.5) * scale

    def vertices(self, index: Tensor) -> Tensor:
        """Return positions (..., 3) of the grid vertices with indices (..., 3)."""
        return self.axis[index]

    def cube_corners(self, cubes: Tensor) -> Tensor:
        """Return the vertex indices (N, 8, 3) of the corners of cubes (N, 3)."""
        return cubes[:, None] + torch.tensor(CORNERS, device=cubes.device)


def close_boundary(values: Tensor) -> Tensor:
    """Make the values of the outermost grid vertices negative, so that the surface is closed."""
    closed = values.clone()
    for dimension in range(3):
        for end in (0, -1):
            side = closed.select(dimension, end)
            side.copy_(-side.abs())
    return closed


def has_surface(values: Tensor) -> bool:
    """Return whether values (X, Y, Z) change sign inside the outermost layer."""
    inner = values[1:-1, 1:-1, 1:-1]
    return bool((inner < 0).any()) and bool((inner >= 0).any())


def flexicubes(
    values: Tensor,
    grid: CubeGrid,
    chunk_size: int,
    deformation: Callable[[Tensor], Tensor] | None = None,
    weights: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Triangulate the zero level set.

    `deformation` and `weights` are evaluated only for cubes that the surface crosses.

    Args:
        values: (R + 1, R + 1, R + 1) signed distances, positive inside.
        grid: the grid of the values.
        chunk_size: cubes processed at once; does not change the result.
        deformation: function of grid vertex indices (N, 3) that returns offsets (N, 3), which are
            added to the vertices' positions.
        weights: function of cube indices (N, 3) that returns (N, 21) weights before normalisation:
            beta 12, alpha 8, gamma 1.

    Returns:
        vertices (V, 3) float32 and faces (F, 3) int64 with outward normals (toward negative
        values).

    Raises:
        EmptySurface: if the surface crosses no cube.
    """
    occupied = values < 0
    cubes, case = _surface_cubes(occupied)
    if not len(cubes):
        raise EmptySurface(_NO_SURFACE)
    case = _resolve_doubtful(cubes, case, grid.resolution)
    counts = _tables()[1].to(values.device)[case]
    first_vertex = counts.cumsum(dim=0) - counts
    vertices, gamma = _dual_vertices(
        values, grid, cubes, case, first_vertex, chunk_size, deformation, weights
    )
    along = [_quads(values, cubes, case, first_vertex, axis) for axis in range(3)]
    quads, owners, inverted = (torch.cat(found) for found in zip(*along, strict=True))
    return vertices, _triangles(quads, gamma[owners], inverted)


def _surface_cubes(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """Return cubes (N, 3) with corners on both sides, in ascending order, and cases (N,)."""
    cubes = crossed_cells(occupied)
    cubes = cubes[(cubes < occupied.shape[0] - 1).all(dim=1)]
    case = torch.zeros_like(cubes[:, 0])
    for k, corner in enumerate(CORNERS):
        place = cubes + torch.tensor(corner, device=cubes.device)
        case += occupied[place.unbind(dim=1)] * (1 << k)
    return cubes, case


def _ids(index: Tensor, length: int) -> Tensor:
    """Flatten indices (..., 3) of grid points or cubes, with `length` along each axis."""
    return (index[..., 0] * length + index[..., 1]) * length + index[..., 2]


def _coordinates(ids: Tensor, length: int) -> Tensor:
    """Return the indices (..., 3) for flat ids: the inverse of `_ids`."""
    return torch.stack([ids // length**2, ids // length % length, ids % length], dim=-1)


def _resolve_doubtful(cubes: Tensor, case: Tensor, resolution: int) -> Tensor:
    """Complement the cases of two neighbours that are both doubtful at their common face."""
    ambiguous = _tables()[2].to(case.device)[case]
    doubtful = (ambiguous >= 0).nonzero().squeeze(1)
    steps = torch.tensor(
        [[(side * 2 - 1) * (a == axis) for a in range(3)] for axis, side in _FACES],
        device=case.device,
    )
    face = ambiguous[doubtful]
    neighbour = cubes[doubtful] + steps[face]
    inside = ((neighbour >= 0) & (neighbour < resolution)).all(dim=1)
    ids = _ids(cubes, resolution)
    wanted = _ids(neighbour, resolution)
    place = torch.searchsorted(ids, wanted).clamp_max(len(ids) - 1)
    # Seen from the neighbour, the shared face is the opposite one.
    shared = inside & (ids[place] == wanted) & (ambiguous[place] == face ^ 1)
    resolved = case.clone()
    resolved[doubtful[shared]] = 255 - case[doubtful[shared]]
    return resolved


def _dual_vertices(
    values: Tensor,
    grid: CubeGrid,
    cubes: Tensor,
    case: Tensor,
    first_vertex: Tensor,
    chunk_size: int,
    deformation: Callable[[Tensor], Tensor] | None,
    weights: Callable[[Tensor], Tensor] | None,
) -> tuple[Tensor, Tensor]:
    """Compute the dual vertices, one for each edge group of each cube; also return gammas (N,)."""
    groups, counts, _ = (t.to(values.device) for t in _tables())
    total = int(first_vertex[-1] + counts[case[-1]])
    sums = torch.zeros(total, 4, device=values.device)
    gammas = []
    start_corner, end_corner = torch.tensor(EDGES, device=values.device).unbind(dim=1)
    for chunk, chunk_case, chunk_first in zip(
        *(t.split(chunk_size) for t in (cubes, case, first_vertex)), strict=True
    ):
        index = grid.cube_corners(chunk)  # (N, 8, 3)
        corners = grid.vertices(index)
        raw = weights(chunk) if weights else torch.zeros(len(chunk), 21, device=values.device)
        beta, alpha, gamma = raw.split((12, 8, 1), dim=1)
        beta, alpha = 0.5 * beta.tanh() + 1, 0.5 * alpha.tanh() + 1
        gammas.append(0.5 * gamma[:, 0].sigmoid() + 0.25)
        if deformation:
            numbers = _ids(index, grid.resolution + 1)
            once, place = numbers.unique(return_inverse=True)  # neighbours share corners
            corners = corners + deformation(_coordinates(once, grid.resolution + 1))[place]
        scaled = alpha * values[index.unbind(dim=-1)]  # (N, 8)
        cube, edge = (groups[chunk_case] >= 0).nonzero().unbind(dim=1)
        a, b = start_corner[edge], end_corner[edge]
        value_a, value_b = scaled[cube, a, None], scaled[cube, b, None]
        crossing = (corners[cube, a] * value_b - corners[cube, b] * value_a) / (value_b - value_a)
        weight = beta[cube, edge, None]
        vertex = chunk_first[cube] + groups[chunk_case[cube], edge]
        sums.index_add_(0, vertex, torch.cat([crossing * weight, weight], dim=1))
    return sums[:, :3] / sums[:, 3:], torch.cat(gammas)


def _edge_at(axis: int, offset: tuple[int, int]) -> int:
    """Return the edge of a cube along an axis, at an offset along the two other axes."""
    ends = {(*offset[:axis], end, *offset[axis:]) for end in (0, 1)}
    return next(e for e, pair in enumerate(EDGES) if {CORNERS[k] for k in pair} == ends)


def _quads(
    values: Tensor, cubes: Tensor, case: Tensor, first_vertex: Tensor, axis: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Build a quad around each crossed edge along an axis inside the grid.

    Returns:
        quads: (Q, 4) indices of dual vertices; they face positive values.
        owners: (Q, 4) indices into `cubes` of the cubes that these vertices belong to.
        inverted: (Q,) whether the quad faces negative values instead.
    """
    device, resolution = cubes.device, values.shape[0] - 1
    groups = _tables()[0].to(device)
    across = [a for a in range(3) if a != axis]
    along = torch.tensor([a == axis for a in range(3)], device=device).long()
    # Represent each edge by the cube whose lowest corner is the edge's start: inside the grid
    # there is exactly one.
    low, high = values[cubes.unbind(dim=1)], values[(cubes + along).unbind(dim=1)]
    chosen = ((low < 0) != (high < 0)) & (cubes[:, across] > 0).all(dim=1)
    steps = torch.zeros(4, 3, dtype=torch.long, device=device)
    steps[:, across] = torch.tensor(_AROUND, device=device)
    edges = torch.tensor([_edge_at(axis, offset) for offset in _AROUND], device=device)
    owners = torch.searchsorted(
        _ids(cubes, resolution), _ids(cubes[chosen][:, None] - steps, resolution)
    )
    quads = first_vertex[owners] + groups[case[owners], edges]
    # The sign at the edge's first corner determines the winding; in EDGES, y edges start at the
    # larger y. A value of exactly 0 counts as inside. The reference implementation winds such
    # a quad as if the corner were negative and flips its triangles later, which splits it along
    # the other diagonal.
    first = (high if axis == 1 else low)[chosen]
    forward = (first > 0)[:, None]
    return (
        torch.where(forward, quads, quads.flip(1)),
        torch.where(forward, owners, owners.flip(1)),
        first == 0,
    )


def _triangles(quads: Tensor, gamma: Tensor, inverted: Tensor) -> Tensor:
    """Split each quad (Q, 4) into two triangles that face negative values.

    Of the two diagonals, the one with the larger product of gammas is used.
    """
    split_02 = gamma[:, 0] * gamma[:, 2] > gamma[:, 1] * gamma[:, 3]
    order = torch.where(
        split_02[:, None],
        torch.tensor([[0, 2, 1, 0, 3, 2]], device=quads.device),
        torch.tensor([[0, 3, 1, 3, 2, 1]], device=quads.device),
    )
    triangles = quads.gather(1, order).reshape(-1, 2, 3)
    return torch.where(inverted[:, None, None], triangles.flip(-1), triangles).reshape(-1, 3)
