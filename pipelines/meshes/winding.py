"""Extract the surface of the volume that a triangle soup encloses, by winding numbers.

Source: Jacobson et al., "Robust Inside-Outside Segmentation using Generalized Winding Numbers"
(SIGGRAPH 2013); Barill et al., "Fast Winding Numbers for Soups and Clouds" (SIGGRAPH 2018);
Lorensen and Cline, "Marching Cubes" (SIGGRAPH 1987), all as in libigl.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InvalidInput
from ..progress import Progress
from .mesh import Mesh, drop_unused
from .topology import Floats, Indices, component_labels

_QUERIES_AT_ONCE = 65_536
_MIN_BODY_VOLUME = 1e-3  # share of the largest body's volume; smaller bodies are dropped
_LARGEST_BLOCK = 16  # points along an edge of the blocks in which the search for the soup starts
_MARGIN_CELLS = 3  # empty cells around the mesh
# Points this close to the soup are evaluated first: both ends of all edges that the soup crosses.
_BAND_CELLS = 1.01
_MAX_DISTANCE_CELLS = 2.0  # distances are clamped to this
# The number of evaluated points is limited: a soup that fills space gets larger cells.
_MIN_POINTS, _POINTS_PER_CELL = 1_000_000, 32
_CHECKED_TRIANGLES = 2000  # number of triangles or vertices of a mesh that are checked
#: Corners of a cell, in the order of libigl's marching cubes.
_CORNERS = ((0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1))

Check = Callable[[], None]  # called between short steps; raises to stop


@dataclass(frozen=True)
class TriangleSoup:
    """Triangles whose winding number determines what is inside.

    Attributes:
        vertices: (V, 3).
        faces: (F, 3), each component oriented outward.
    """

    vertices: Floats
    faces: Indices

    @classmethod
    def oriented(cls, shape: Mesh) -> TriangleSoup:
        """Orient a shape with one vertex at each position.

        Neighbouring triangles are oriented consistently, and components with a negative volume are
        reversed. The inner one of two nested shells then adds to the winding number instead of
        cancelling it. Loose triangles keep their orientation.
        """
        import igl

        vertices = shape.vertices.double().numpy()
        faces, label = igl.bfs_orient(shape.faces.numpy())
        a, b, c = (vertices[faces[:, i]] for i in range(3))
        count = np.bincount(label)[:, None]
        center = np.stack([np.bincount(label, w) for w in ((a + b + c) / 3).T], axis=1) / count
        a, b, c = (corner - center[label] for corner in (a, b, c))
        volumes = np.bincount(label, (a * np.cross(b, c)).sum(axis=1))
        faces = np.where((volumes < 0)[label][:, None], faces[:, ::-1], faces)
        loose = (count[:, 0] == 1)[label]
        faces[loose] = shape.faces.numpy()[loose]
        return cls(vertices, np.ascontiguousarray(faces))

    @classmethod
    def of(cls, mesh: Mesh) -> TriangleSoup:
        """Convert a mesh without changing its orientation."""
        return cls(mesh.vertices.double().numpy(), mesh.faces.numpy())

    def mesh(self) -> Mesh:
        """Return the triangles as a mesh."""
        return Mesh(torch.from_numpy(self.vertices).float(), torch.from_numpy(self.faces))

    @cached_property
    def _winding_tree(self) -> Any:
        import igl

        tree = igl.FastWindingNumberBVH()
        tree.init(self.vertices, self.faces)
        return tree

    @cached_property
    def _distance_tree(self) -> Any:
        import igl

        tree = igl.AABB()
        tree.init(self.vertices, self.faces)
        return tree

    def winding(self, points: Floats, check: Check = lambda: None) -> Floats:
        """Return the winding numbers (N,) at points (N, 3).

        They are 1 inside, 0 outside, and in between near a hole.
        """
        return _in_chunks(self._winding_tree.winding_number, points, check)

    def distance(self, points: Floats, check: Check = lambda: None) -> Floats:
        """Return the distances (N,) of points (N, 3) to the nearest triangle."""
        measure = partial(self._distance_tree.squared_distance, self.vertices, self.faces)
        return np.sqrt(_in_chunks(lambda chunk: measure(chunk)[0], points, check))

    def is_simple(self) -> bool:
        """Return whether winding numbers near the surface are about 0 outside and 1 inside."""
        step = max(1, len(self.faces) // _CHECKED_TRIANGLES)
        a, b, c = (self.vertices[self.faces[::step, i]] for i in range(3))
        normal = np.cross(b - a, c - a)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
        extent = np.ptp(self.vertices, axis=0).max()
        center, offset = (a + b + c) / 3, 1e-4 * extent * normal
        outside, inside = self.winding(center + offset), self.winding(center - offset)
        return bool((np.abs(outside) < 0.3).all() and (np.abs(inside - 1) < 0.3).all())


def _unique(parts: Sequence[Indices]) -> Indices:
    """Return the sorted distinct values (N,) of arrays; np.unique is slower since NumPy 2.3."""
    values = np.sort(np.concatenate(parts), kind="stable")
    return values[np.diff(values, prepend=-(2**62)) != 0]


def _in_chunks(function: Callable[[Floats], Floats], points: Floats, check: Check) -> Floats:
    found = [np.zeros(0)]
    for start in range(0, len(points), _QUERIES_AT_ONCE):
        found.append(function(points[start : start + _QUERIES_AT_ONCE]))
        check()
    return np.concatenate(found)


@dataclass(frozen=True)
class _Grid:
    """A regular grid around a soup. A point's code is its index in the flattened grid.

    Attributes:
        low: (3,) position of the first point.
        cell: distance between neighbouring points.
        shape: number of points along x, y, z.
    """

    low: Floats
    cell: float
    shape: tuple[int, int, int]

    @classmethod
    def around(cls, soup: TriangleSoup, cells: int) -> _Grid:
        low, high = soup.vertices.min(axis=0), soup.vertices.max(axis=0)
        cell = float((high - low).max()) / cells
        x, y, z = (np.ceil((high - low) / cell).astype(int) + 1 + 2 * _MARGIN_CELLS).tolist()
        # The offset avoids points exactly on the flat sides of boxes.
        return cls(low - (_MARGIN_CELLS - 0.37) * cell, cell, (x, y, z))

    def points(self, index: NDArray[Any]) -> Floats:
        """Return the positions (N, 3) of points with indices (N, 3)."""
        found: Floats = self.low + index * self.cell
        return found

    def index(self, codes: Indices) -> Indices:
        """Return the indices (N, 3) of points."""
        return np.stack(np.unravel_index(codes, self.shape), axis=1)

    def codes(self, index: Indices) -> Indices:
        """Return the codes (M,), M <= N, of the indices (N, 3) inside the grid."""
        inside = index[((index >= 0) & (index < self.shape)).all(axis=1)]
        return np.ravel_multi_index(tuple(inside.T), self.shape)


@dataclass
class _Values:
    """Values at some points of a grid: positive inside, negative outside.

    Attributes:
        grid: the grid.
        codes: (N,) codes of the points, sorted.
        values: (N,).
    """

    grid: _Grid
    codes: Indices
    values: Floats

    def place(self, codes: Indices) -> Indices:
        """Return (M,) indices into `self.codes` at which codes are stored; -1 if missing."""
        place = np.searchsorted(self.codes, codes).clip(max=len(self.codes) - 1)
        return np.where(self.codes[place] == codes, place, -1)

    def insert(self, codes: Indices, values: Floats) -> None:
        """Add points that are not stored yet; their codes are sorted."""
        place = np.searchsorted(self.codes, codes)
        self.codes = np.insert(self.codes, place, codes)
        self.values = np.insert(self.values, place, values)

    def missing_beside(self, codes: Indices, check: Check) -> Indices:
        """Return the missing corners of the cells around each edge that the surface crosses.

        Args:
            codes: points whose edges are examined.
            check: called between short steps.
        """
        missing = [np.zeros(0, dtype=np.int64)]
        for along in np.eye(3, dtype=np.int64):
            step = np.ravel_multi_index(tuple(along), self.grid.shape)
            lower = _unique([codes, codes - step])
            ends = self.place(lower), self.place(lower + step)
            inside = [self.values[end] > 0 for end in ends]
            crossed = (ends[0] >= 0) & (ends[1] >= 0) & (inside[0] != inside[1])
            index = self.grid.index(lower[crossed])
            for offset in np.ndindex(*(3 - along)):  # the four cells around each edge
                around = self.grid.codes(index + offset - 1 + along)
                missing.append(around[self.place(around) < 0])
                check()
        return _unique(missing)

    def surface(self) -> Mesh:
        """Extract the surface; cells with a missing corner contain none."""
        import igl

        index = self.grid.index(self.codes)
        cells = self.codes[(index < np.subtract(self.grid.shape, 1)).all(axis=1)]
        steps = [np.ravel_multi_index(corner, self.grid.shape) for corner in _CORNERS]
        corners = np.stack([self.place(cells + step) for step in steps], axis=1)
        corners = corners[(corners >= 0).all(axis=1)]
        inside = self.values[corners] > 0
        corners = corners[inside.any(axis=1) & ~inside.all(axis=1)]
        vertices, faces, _ = igl.marching_cubes(
            self.values, self.grid.points(index), np.ascontiguousarray(corners), 0.0
        )
        return Mesh(torch.from_numpy(vertices).float(), torch.from_numpy(faces[:, ::-1].copy()))


def extract_bodies(soup: TriangleSoup, cells: int, progress: Progress) -> tuple[Mesh, int]:
    """Extract the surface of the volume that a soup encloses.

    Args:
        soup: any.
        cells: number of grid cells along its longest side.
        progress: called after each chunk of points.

    Returns:
        bodies: see `drop_inner_bodies`.
        cells: the number of cells used, reduced if the soup fills space.

    Raises:
        InvalidInput: if the soup encloses nothing.
    """
    check = partial(progress, 0, 2)
    limit = max(_MIN_POINTS, _POINTS_PER_CELL * cells**2)
    while (found := _evaluate(soup, _Grid.around(soup, cells), limit, check)) is None:
        cells = cells * 4 // 5
    progress(1, 2)
    if not (found.values > 0).any():
        raise InvalidInput("The mesh encloses nothing, so it cannot be made solid.")
    return drop_inner_bodies(found.surface(), partial(progress, 1, 2)), cells


def _evaluate(soup: TriangleSoup, grid: _Grid, limit: int, check: Check) -> _Values | None:
    """Evaluate the points near a soup, and follow the surface across its holes.

    With the winding number w, the value is (2 w - 1) * distance. The surface where w is 1/2 ends
    only at the soup, so following it from there finds all of it.

    Returns:
        None if more than `limit` points are needed.
    """
    found = _Values(grid, np.zeros(0, dtype=np.int64), np.zeros(0))
    near = _points_near(soup, grid, limit, check)
    while near is not None and len(found.codes) + len(near[0]) <= limit:
        new, distance = near
        if not len(new):
            return found
        winding = soup.winding(grid.points(grid.index(new)), check).clip(0, 1)
        # Values of 0 would create triangles without area.
        size = np.abs(2 * winding - 1) * np.minimum(distance, _MAX_DISTANCE_CELLS * grid.cell)
        size = np.maximum(size, 1e-3 * grid.cell)
        found.insert(new, np.where(winding < 0.5, -size, size))
        new = found.missing_beside(new, check)
        near = new, soup.distance(grid.points(grid.index(new)), check)
    return None


def _points_near(
    soup: TriangleSoup, grid: _Grid, limit: int, check: Check
) -> tuple[Indices, Floats] | None:
    """Find the points near a soup.

    Blocks of points that are too far away are dropped; the others are subdivided repeatedly.

    Returns:
        codes: (N,) of the points, sorted.
        distances: (N,) from the soup.
        None if there are more than `limit` points.
    """
    side = _LARGEST_BLOCK
    index = side * np.argwhere(np.ones([-(-n // side) for n in grid.shape], dtype=bool))
    while True:
        half = (side - 1) / 2
        distance = soup.distance(grid.points(index + half), check)
        near = distance <= (_BAND_CELLS + 3**0.5 * half) * grid.cell
        index, distance = index[near], distance[near]
        if len(index) * side**2 > limit:
            return None
        if side == 1:
            codes = grid.codes(index)
            order = codes.argsort()
            return codes[order], distance[order]
        side //= 2
        index = (index[:, None] + side * np.array(list(np.ndindex(2, 2, 2)))).reshape(-1, 3)


def drop_inner_bodies(surface: Mesh, check: Check = lambda: None) -> Mesh:
    """Keep the outer surfaces of bodies; drop specks, voids and whatever is inside a void."""
    check()
    components = list(_components_by_volume(surface))
    largest = components[0][0]
    kept: list[TriangleSoup] = []
    for volume, component in components:
        if volume < _MIN_BODY_VOLUME * largest:
            break
        check()
        some = component.vertices[:: max(1, len(component.vertices) // _CHECKED_TRIANGLES)]
        if not any((outer.winding(some) > 0.5).all() for outer in kept):
            kept.append(component)
    starts = np.cumsum([0] + [len(body.vertices) for body in kept])
    return TriangleSoup(
        np.concatenate([body.vertices for body in kept]),
        np.concatenate([body.faces + n for body, n in zip(kept, starts, strict=False)]),
    ).mesh()


def _components_by_volume(surface: Mesh) -> Iterator[tuple[float, TriangleSoup]]:
    """Yield the volume and triangles of each component, by decreasing volume."""
    labels = component_labels(surface, by_position=False)
    a, b, c = (surface.vertices.double().numpy()[surface.faces[:, i].numpy()] for i in range(3))
    volumes = np.bincount(labels, (a * np.cross(b, c)).sum(axis=1) / 6)
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(len(volumes) + 1))
    for i in np.argsort(-volumes):
        faces = surface.faces[torch.from_numpy(order[starts[i] : starts[i + 1]])]
        yield float(volumes[i]), TriangleSoup.of(drop_unused(Mesh(surface.vertices, faces)))
