"""Cases of marching cubes: how the surface passes through a cell.

Corner k of a cell is at offset (k & 1, k >> 1 & 1, k >> 2 & 1). A corner is inside if its value is
above the level. The cases follow from the signs of the corners; no table is copied.

Where two inside corners of a face are opposite each other, the face is ambiguous: the corners are
joined across the face if the product of their values exceeds that of the outside corners. Where two
parts of the surface face each other inside a cell, a slice through the cell decides whether a
tunnel joins them.

Source: Nielson and Hamann, "The Asymptotic Decider" (IEEE Visualization 1991); Chernyaev, "Marching
Cubes 33" (1995); Lewiner et al., "Efficient Implementation of Marching Cubes' Cases with
Topological Guarantees" (2003).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations
from typing import NamedTuple

import numpy as np

CORNERS = np.array([(k & 1, k >> 1 & 1, k >> 2 & 1) for k in range(8)])
#: Low and high corner of each edge; four edges along each axis.
EDGES = tuple((k, k | 1 << axis) for axis in range(3) for k in range(8) if not k >> axis & 1)
#: Vertex inside a cell, numbered like an edge.
CENTER = len(EDGES)
_LONGEST_LOOP = 7  # a longer loop gets a vertex in the cell's centre
_MIDDLES = np.array([(CORNERS[a] + CORNERS[b]) / 2 for a, b in EDGES])
Triangle = tuple[int, int, int]


def _ring(axis: int, side: int) -> tuple[int, int, int, int]:
    """Return the corners of a face, counter-clockwise as seen from outside."""
    u, v = 1 << (axis + 1) % 3, 1 << (axis + 2) % 3
    ring = (0, u, u | v, v) if side else (0, v, u | v, u)
    a, b, c, d = (k | side << axis for k in ring)
    return a, b, c, d


#: Corners of each face; face 2 * axis + side.
FACES = tuple(_ring(axis, side) for axis in range(3) for side in range(2))


def _edge(a: int, b: int) -> int:
    return EDGES.index((min(a, b), max(a, b)))


def ambiguous_faces(case: int) -> list[int]:
    """Return the faces whose inside corners are opposite each other."""
    inside = [[case >> k & 1 for k in ring] for ring in FACES]
    return [face for face, (a, b, c, d) in enumerate(inside) if a == c != b == d]


def _loops(case: int, joined: int) -> list[list[int]]:
    """Return the loops of edges in which the surface meets the faces of the cell.

    Args:
        case: bit k is set if corner k is inside.
        joined: bit f is set if the inside corners of face f are joined; for ambiguous faces only.
    """
    following: dict[int, int] = {}
    for face, ring in enumerate(FACES):
        inside = [case >> k & 1 for k in ring]
        edges = [_edge(ring[i - 1], ring[i]) for i in range(4)]  # edge i ends at corner i
        enters = [i for i in range(4) if inside[i] > inside[i - 1]]
        leaves = [i for i in range(4) if inside[i] < inside[i - 1]]
        for i in enters:
            if len(enters) == 2:
                following[edges[i]] = edges[i - 1 if joined >> face & 1 else (i + 1) % 4]
            else:
                following[edges[i]] = edges[leaves[0]]
    loops = []
    while following:
        loop = [min(following)]
        while (edge := following.pop(loop[-1])) != loop[0]:
            loop.append(edge)
        loops.append(loop)
    return loops


@cache
def _on_one_face(first: int, second: int) -> bool:
    """Return whether two edges lie on one face, which the neighbouring cell shares."""
    return any(set(EDGES[first] + EDGES[second]) <= set(ring) for ring in FACES)


@cache
def _length(first: int, second: int) -> float:
    return float(np.linalg.norm(_MIDDLES[first] - _MIDDLES[second]))


def _fan(loop: Sequence[int]) -> list[Triangle]:
    return [(loop[i - 1], loop[i], CENTER) for i in range(len(loop))]


def _disc(loop: list[int]) -> list[Triangle]:
    """Triangulate a loop with the shortest diagonals, none of which lies on a face."""

    def best(i: int, j: int) -> tuple[float, list[Triangle]]:
        """Triangulate the part of the loop from i to j."""
        if j - i < 2:
            return 0.0, []
        options = []
        for k in range(i + 1, j):
            new = [(a, b) for a, b in ((i, k), (k, j)) if b - a > 1]
            if not any(_on_one_face(loop[a], loop[b]) for a, b in new):
                parts = [best(i, k), best(k, j)]
                cost = sum(_length(loop[a], loop[b]) for a, b in new) + parts[0][0] + parts[1][0]
                options.append((cost, [(loop[i], loop[k], loop[j]), *parts[0][1], *parts[1][1]]))
        return min(options, default=(float("inf"), []))

    triangles = best(0, len(loop) - 1)[1] if len(loop) <= _LONGEST_LOOP else []
    return triangles or _fan(loop)


def _tube(first: list[int], second: list[int]) -> list[Triangle]:
    """Join two loops with the shortest bridges.

    As in Lewiner's tables, loops of three and of four edges get a vertex in the centre: a fan
    around it replaces the triangles beside bridges that lie on a face.
    """
    options = []
    n, m = len(first), len(second)
    for offset in range(m):
        other = [second[(offset - j) % m] for j in range(m)]  # loops turn in opposite directions
        for steps in combinations(range(n + m), n):
            i, bridges, triangles = 0, [], []
            for step in range(n + m):
                a, b = first[i % n], other[(step - i) % m]
                bridges.append((a, b))
                if step in steps:
                    i += 1
                    triangles.append((a, first[i % n], b))
                else:
                    triangles.append((other[(step + 1 - i) % m], b, a))
            if n + m == 7:
                triangles = _with_center(triangles)
            if triangles and len(set(bridges)) == n + m:
                options.append((sum(_length(*bridge) for bridge in bridges), triangles))
    return min(options)[1]


def _with_center(triangles: list[Triangle]) -> list[Triangle]:
    """Replace triangles beside inner edges that lie on a face by a fan around the centre.

    Returns:
        the triangles; none if the border of the replaced ones is not a single loop.
    """
    sides = {(t[k - 1], t[k]): t for t in triangles for k in range(3)}
    removed = {t for (a, b), t in sides.items() if (b, a) in sides and _on_one_face(a, b)}
    border = [
        side for side, t in sides.items() if t in removed and sides.get(side[::-1]) not in removed
    ]
    if len({a for a, _ in border}) < len(border):
        return []
    return [t for t in triangles if t not in removed] + [(a, b, CENTER) for a, b in border]


class InteriorTest(NamedTuple):
    """Test that tells whether a tunnel joins two loops inside a cell.

    Attributes:
        edge: edge at whose vertex the cell is cut; None for the slice across axis 0 with the
            extreme saddle.
        sign: sign of the corners whose connection is tested.
        if_joined: if true, there is a tunnel if the slice joins these corners; if false, there is
            one if it separates them.
    """

    edge: int | None
    sign: int
    if_joined: bool


@cache
def interior_test(case: int, joined: int) -> InteriorTest | None:
    """Return the test of a case, or None if its surface inside the cell is known.

    Args:
        case: see `_loops`.
        joined: see `_loops`.
    """
    inside = {k for k in range(8) if case >> k & 1}
    sign = 1 if len(inside) <= 4 else -1
    few = inside if sign > 0 else set(range(8)) - inside
    faces = ambiguous_faces(case)
    connected = [(joined >> face & 1) == (sign > 0) for face in faces]
    lone = [k for k in few if not any(k ^ 1 << axis in few for axis in range(3))]
    if len(few) == 2 and sum(few) == 7:  # opposite corners of the cell
        return InteriorTest(None, sign, True)
    if len(few) == 3 and connected == [False]:
        x, y, z = EDGES_AT[lone[0]]
        if faces[0] < 2:  # across axis 0
            return InteriorTest((y, z)[_is_even(lone[0]) ^ 1], sign, True)
        return InteriorTest(x, sign, True)
    if len(few) == 3 and connected == [True] * 3:
        middle = next(k for k in range(8) if sum((k ^ 1 << axis) in few for axis in range(3)) == 3)
        _, y, z = EDGES_AT[middle]
        return InteriorTest((y, z)[_is_even(middle)], sign, False)
    if len(few) == 4 and connected == [False] * 2:
        shared = [e for e in range(12) if all(set(EDGES[e]) <= set(FACES[f]) for f in faces)]
        return InteriorTest(shared[0] if shared else None, sign, True)
    if len(faces) == 6 and (corner := _separate_corner(joined)) in inside:
        _, y, z = EDGES_AT[corner]
        return InteriorTest((y, z)[_is_even(corner) ^ 1 ^ (corner & 1)], sign, True)
    return None


#: Edges along axes 0, 1 and 2 at each corner.
EDGES_AT = tuple(tuple(_edge(k, k ^ 1 << axis) for axis in range(3)) for k in range(8))


def _is_even(corner: int) -> int:
    """Return 1 if the coordinates of a corner along axes 1 and 2 are equal."""
    return int(corner >> 1 & 1 == corner >> 2 & 1)


def _separate_corner(joined: int) -> int:
    """Return the corner whose faces alone separate inside corners, or -1 if there is none.

    Args:
        joined: see `_loops`; all faces are ambiguous.
    """
    for corner in range(8):
        around = sum(1 << 2 * axis + (corner >> axis & 1) for axis in range(3))
        if joined == 63 - around:
            return corner
    return -1


def _surrounds_outside(case: int, loop: list[int]) -> bool:
    """Return whether a loop is a triangle around a corner that is outside."""
    return any(set(loop) == set(EDGES_AT[k]) for k in range(8) if not case >> k & 1)


@cache
def cell_triangles(case: int, joined: int, tunnel: bool) -> tuple[Triangle, ...]:
    """Return the triangles of a cell, as edges or `CENTER`; they face outside.

    Args:
        case: see `_loops`.
        joined: see `_loops`.
        tunnel: whether two loops are joined inside the cell.
    """
    loops = _loops(case, joined)
    triangles: list[Triangle] = []
    if tunnel:
        # If there are three loops, the tunnel leaves out the one around an outside corner.
        loops.sort(key=lambda loop: _surrounds_outside(case, loop))
        triangles += _tube(loops.pop(0), loops.pop(0))
    for loop in loops:
        triangles += _disc(loop)
    return tuple(triangles)
