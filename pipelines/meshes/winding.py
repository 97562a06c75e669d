"""Extract the surface of the volume that a triangle soup encloses, by winding numbers.

Source: Jacobson et al., "Robust Inside-Outside Segmentation using Generalized Winding Numbers"
(SIGGRAPH 2013); Barill et al., "Fast Winding Numbers for Soups and Clouds" (SIGGRAPH 2018), as in
libigl; Lewiner et al. (2003), as in scikit-image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InvalidInput
from ..progress import Progress
from .mesh import Mesh, drop_unused
from .sampling import count_samples, sample_surface
from .topology import Floats, Indices, component_labels, first_equal_rows

_MAX_SAMPLES = 40_000_000  # points on a surface; larger surfaces get larger cells
_SAMPLES_AT_ONCE, _QUERIES_AT_ONCE = 500_000, 65_536
_MIN_BODY_VOLUME = 1e-3  # share of the largest body's volume; smaller bodies are dropped
_SLAB_LAYERS = 32  # grid layers in memory at once
_BLOCK_CELLS = 4  # side length in cells of the blocks that are searched for holes
_MARGIN_CELLS = 3  # empty cells around the mesh
_BAND_CELLS = 2.0  # distances from the surface are clamped to this
# The number of points whose winding number is computed is limited: a soup that fills space gets
# larger cells.
_MIN_POINTS, _POINTS_PER_CELL = 1_000_000, 32
_HOLE_WINDING = 0.03  # winding numbers between this and 1 minus this are near a hole
_CHECKED_TRIANGLES = 2000  # number of samples of a closed mesh

Check = Callable[[], None]  # called between short steps; raises to stop


def _never_stop() -> None:
    """Do nothing: a `Check` that never stops the work."""


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

    def winding(self, points: Floats, check: Check = _never_stop) -> Floats:
        """Return the winding numbers (N,) at points (N, 3).

        They are 1 inside, 0 outside, and in between near a hole.
        """
        return _in_chunks(self._winding_tree.winding_number, points, check)

    def distance(self, points: Floats, check: Check = _never_stop) -> Floats:
        """Return the distances (N,) of points (N, 3) to the nearest triangle."""

        def distance(chunk: Floats) -> Floats:
            squared, _, _ = self._distance_tree.squared_distance(self.vertices, self.faces, chunk)
            found: Floats = np.sqrt(squared)
            return found

        return _in_chunks(distance, points, check)

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


def _in_chunks(function: Callable[[Floats], Floats], points: Floats, check: Check) -> Floats:
    found = [np.zeros(0)]
    for start in range(0, len(points), _QUERIES_AT_ONCE):
        found.append(function(points[start : start + _QUERIES_AT_ONCE]))
        check()
    return np.concatenate(found)


@dataclass(frozen=True)
class _Grid:
    """A regular grid of points around a soup.

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
        corners = soup.vertices[soup.faces]
        while count_samples(corners, cell / 2) > _MAX_SAMPLES:
            cell *= 1.25
        x, y, z = (np.ceil((high - low) / cell).astype(int) + 1 + 2 * _MARGIN_CELLS).tolist()
        # The offset avoids points exactly on the flat sides of boxes.
        return cls(low - (_MARGIN_CELLS - 0.37) * cell, cell, (x, y, z))

    def points(self, index: Indices) -> Floats:
        """Return the positions (N, 3) of points with indices (N, 3)."""
        found: Floats = self.low + index * self.cell
        return found


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
    from skimage.measure import marching_cubes

    done, total = 0, 1

    def check() -> None:
        progress(done, total)

    limit = max(_MIN_POINTS, _POINTS_PER_CELL * cells**2)
    while True:
        grid = _Grid.around(soup, cells)
        near, holes = _points_near(soup, grid, check), _blocks_at_holes(soup, grid, check)
        if 3 * len(near) + _BLOCK_CELLS**3 * int(holes.sum()) <= limit:
            break
        cells = cells * 4 // 5
    vertices, faces, count = [], [], 0
    starts = range(0, grid.shape[2] - 1, _SLAB_LAYERS)
    total = len(starts)
    for done, start in enumerate(starts):  # noqa: B007 - `check` reads it
        level = _slab_values(soup, grid, near, holes, start, check)
        if level.min() < 0 < level.max():
            points, triangles, _, _ = marching_cubes(level, 0.0, gradient_direction="ascent")
            vertices.append(points + np.array([0, 0, start]))
            faces.append(triangles.astype(np.int64) + count)
            count += len(points)
    if not vertices:
        raise InvalidInput("The mesh encloses nothing, so it cannot be made solid.")
    # Neighbouring slabs share a layer of points: merge the vertices that both have there.
    points = np.concatenate(vertices)
    check()
    joined = first_equal_rows(points)[np.concatenate(faces)]
    check()
    surface = Mesh(torch.from_numpy(grid.points(points)).float(), torch.from_numpy(joined))
    return drop_inner_bodies(surface, check), cells


def _points_near(soup: TriangleSoup, grid: _Grid, check: Check) -> Indices:
    """Return the indices (N, 3) of the grid points nearest to the soup, ordered by z.

    These points and their neighbours include both ends of every grid edge that the soup crosses.
    """
    corners = soup.vertices[soup.faces]
    samples = max(count_samples(corners, grid.cell / 2), 1)
    step = max(1, len(corners) * _SAMPLES_AT_ONCE // samples)
    found = []
    x, y, _ = grid.shape
    for start in range(0, len(corners), step):
        points, _ = sample_surface(corners[start : start + step], grid.cell / 2)
        index = ((points - grid.low) / grid.cell).round().astype(np.int64)
        found.append(np.unique((index[:, 2] * x + index[:, 0]) * y + index[:, 1]))
        check()
    code = np.unique(np.concatenate(found))
    return np.stack([code // y % x, code % y, code // (x * y)], axis=1)


def _blocks_at_holes(soup: TriangleSoup, grid: _Grid, check: Check) -> NDArray[np.bool_]:
    """Mark the blocks (X, Y, Z) with a corner whose winding number is neither 0 nor 1.

    In these blocks the surface of the body closes a hole of the soup.
    """
    axes = [np.arange(0, n + _BLOCK_CELLS, _BLOCK_CELLS) for n in grid.shape]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    winding = soup.winding(grid.points(index.reshape(-1, 3)), check)
    inside = np.clip(winding, 0, 1).reshape(index.shape[:3])
    between = (inside > _HOLE_WINDING) & (inside < 1 - _HOLE_WINDING)
    found = np.zeros(tuple(n - 1 for n in between.shape), dtype=bool)
    for corner in np.ndindex(2, 2, 2):
        found |= between[
            tuple(slice(c, n - 1 + c) for c, n in zip(corner, between.shape, strict=True))
        ]
    return found


def _slab_values(
    soup: TriangleSoup,
    grid: _Grid,
    near: Indices,
    holes: NDArray[np.bool_],
    start: int,
    check: Check,
) -> NDArray[np.float32]:
    """Evaluate one slab of the grid: positive inside, 0 on the surface, negative outside.

    With the winding number w, the value is (2 w - 1) * distance near the soup. At holes, where no
    triangle is near, the distance is replaced by its largest value, `_BAND_CELLS` cells.

    Returns:
        (X, Y, L), where L is `_SLAB_LAYERS` + 1, or less in the last slab.
    """
    x, y, _ = grid.shape
    layers = min(_SLAB_LAYERS + 1, grid.shape[2] - start)
    band, hole = _band(near, (x, y, layers), start), _hole(holes, (x, y, layers), start)
    wanted = np.argwhere(band | hole) + np.array([0, 0, start])
    values = np.zeros(band.shape, dtype=np.float32)
    edge = _BAND_CELLS * grid.cell
    if len(wanted):
        points = grid.points(wanted)
        inside = 2 * np.clip(soup.winding(points, check), 0, 1) - 1
        distance = np.full(len(wanted), edge)
        in_band = band[wanted[:, 0], wanted[:, 1], wanted[:, 2] - start]
        distance[in_band] = np.minimum(soup.distance(points[in_band], check), edge)
        values[band | hole] = inside * distance
    _fill_rest(values, ~(band | hole), soup, grid, start)
    tiny = np.float32(1e-3 * grid.cell)  # values of 0 would create triangles without area
    return np.where(np.abs(values) < tiny, np.where(values < 0, -tiny, tiny), values)


def _band(near: Indices, shape: tuple[int, int, int], start: int) -> NDArray[np.bool_]:
    """Mark the points of a slab that are in `near`, and their neighbours."""
    band, layers = np.zeros(shape, dtype=bool), shape[2]
    first, last = np.searchsorted(near[:, 2], [start - 1, start + layers + 1])
    for offset in np.ndindex(3, 3, 3):
        place = near[first:last] + offset - np.array([1, 1, 1 + start])
        place = place[(place[:, 2] >= 0) & (place[:, 2] < layers)]
        band[tuple(place.T)] = True
    return band


def _hole(holes: NDArray[np.bool_], shape: tuple[int, int, int], start: int) -> NDArray[np.bool_]:
    """Mark the points of a slab that belong to blocks at holes."""
    hole = np.zeros(shape, dtype=bool)
    last = (start + shape[2]) // _BLOCK_CELLS + 1
    for block in np.argwhere(holes[:, :, start // _BLOCK_CELLS : last]):
        low = block * _BLOCK_CELLS - np.array([0, 0, start % _BLOCK_CELLS])
        i, j, k = (slice(max(n, 0), n + _BLOCK_CELLS + 1) for n in low.tolist())
        hole[i, j, k] = True
    return hole


def _fill_rest(
    values: NDArray[np.float32],
    rest: NDArray[np.bool_],
    soup: TriangleSoup,
    grid: _Grid,
    start: int,
) -> None:
    """Fill each region far from the surface, with the sign from one point's winding number."""
    from scipy.ndimage import label

    regions, count = label(rest)
    if not count:
        return
    _, first = np.unique(regions, return_index=True)
    sample = np.stack(np.unravel_index(first[-count:], regions.shape), axis=1)
    inside = soup.winding(grid.points(sample + np.array([0, 0, start]))) > 0.5
    side = np.where(inside, 1, -1) * _BAND_CELLS * grid.cell
    values[rest] = side[regions[rest] - 1]


def drop_inner_bodies(surface: Mesh, check: Check = _never_stop) -> Mesh:
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
