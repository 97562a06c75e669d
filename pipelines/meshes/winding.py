"""The surface of what a soup of triangles encloses, by its generalised winding number.

Source: Jacobson et al., "Robust Inside-Outside Segmentation using Generalized Winding Numbers"
(SIGGRAPH 2013); Barill et al., "Fast Winding Numbers for Soups and Clouds" (SIGGRAPH 2018), as in
libigl; Lewiner et al. (2003), as in scikit-image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InvalidInput
from ..progress import Progress
from .color_transfer import count_strewn, strew
from .mesh import Mesh, drop_unused, part_of_faces

_MOST_SAMPLES = 40_000_000  # points strewn over a surface: larger ones get larger cells
_SPECK = 1e-3  # share of the largest body's volume below which a body is none
_SLAB = 32  # layers of the grid in memory at once
_BLOCK = 4  # cells along an edge of the blocks that holes are looked for in
_MARGIN = 3  # cells of air around the mesh
_BAND = 2.0  # cells from the surface beyond which distances do not matter
#: Points whose winding number is asked for, at most: a soup that fills space gets larger cells.
_LEAST_POINTS, _POINTS_PER_CELL = 1_000_000, 32
_SOFT = 0.03  # winding numbers between this and its complement are near a hole
_LOOKS = 2000  # triangles beside which a closed mesh is looked at

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Skin:
    """Triangles whose winding number says what is inside.

    Attributes:
        vertices: (V, 3).
        faces: (F, 3), each part outward.
    """

    vertices: Floats
    faces: Indices

    @classmethod
    def of(cls, shape: Mesh) -> Skin:
        """Of a shape with one vertex at each position.

        Neighbours are made to run the same way, and parts that enclose less than nothing are
        turned, so that the inner one of two shells makes what is in it more inside, not less.
        """
        import igl

        vertices = shape.vertices.double().numpy()
        faces, part = igl.bfs_orient(shape.faces.numpy())
        a, b, c = (vertices[faces[:, i]] for i in range(3))
        count = np.bincount(part)[:, None]
        middle = np.stack([np.bincount(part, w) for w in ((a + b + c) / 3).T], axis=1) / count
        a, b, c = (corner - middle[part] for corner in (a, b, c))
        volumes = np.bincount(part, (a * np.cross(b, c)).sum(axis=1))
        single = count[:, 0] == 1  # a loose triangle says nothing but the way it faces
        turned = (volumes < 0) & ~single
        faces = np.where(turned[part][:, None], faces[:, ::-1], faces)
        # Loose ones keep the way that they had.
        faces[single[part]] = shape.faces.numpy()[single[part]]
        return cls(vertices, np.ascontiguousarray(faces))

    @classmethod
    def plain(cls, mesh: Mesh) -> Skin:
        """Of a mesh as it is."""
        return cls(mesh.vertices.double().numpy(), mesh.faces.numpy())

    def mesh(self) -> Mesh:
        """Its triangles as a mesh."""
        return Mesh(torch.from_numpy(self.vertices).float(), torch.from_numpy(self.faces))

    def winding(self, points: Floats) -> Floats:
        """(N,) how often the skin goes around points (N, 3).

        That is 1 inside, 0 outside, and a number between where it has a hole.
        """
        import igl

        found: Floats = igl.fast_winding_number(self.vertices, self.faces, points)
        return found

    def distance(self, points: Floats) -> Floats:
        """(N,) to the nearest point of the skin."""
        import igl

        squared, _, _ = igl.point_mesh_squared_distance(points, self.vertices, self.faces)
        found: Floats = np.sqrt(squared)
        return found

    def is_simple(self) -> bool:
        """Whether there is air just outside and matter, once, just inside, wherever one looks."""
        step = max(1, len(self.faces) // _LOOKS)
        a, b, c = (self.vertices[self.faces[::step, i]] for i in range(3))
        normal = np.cross(b - a, c - a)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
        extent = np.ptp(self.vertices, axis=0).max()
        middle, off = (a + b + c) / 3, 1e-4 * extent * normal
        outside, inside = self.winding(middle + off), self.winding(middle - off)
        return bool((np.abs(outside) < 0.3).all() and (np.abs(inside - 1) < 0.3).all())


@dataclass(frozen=True)
class _Grid:
    """Points around a skin, so many cells along its longest side.

    Attributes:
        low: (3,) of the first point.
        cell: their distance.
        shape: points along x, y, z.
    """

    low: Floats
    cell: float
    shape: tuple[int, int, int]

    @classmethod
    def around(cls, skin: Skin, cells: int) -> _Grid:
        low, high = skin.vertices.min(axis=0), skin.vertices.max(axis=0)
        cell = float((high - low).max()) / cells
        corners = skin.vertices[skin.faces]
        while count_strewn(corners, cell / 2) > _MOST_SAMPLES:
            cell *= 1.25
        x, y, z = (np.ceil((high - low) / cell).astype(int) + 1 + 2 * _MARGIN).tolist()
        # Half a cell aside, for flat sides of boxes are where their points are else.
        return cls(low - (_MARGIN - 0.37) * cell, cell, (x, y, z))

    def points(self, index: Indices) -> Floats:
        """(N, 3) places of points by their numbers."""
        found: Floats = self.low + index * self.cell
        return found


def body_of(skin: Skin, cells: int, progress: Progress) -> tuple[Mesh, int]:
    """The surface of what a skin encloses, and how many cells there are along its longest side."""
    from skimage.measure import marching_cubes

    grid = _Grid.around(skin, cells)
    near, soft = _nearest_points(skin, grid), _soft_blocks(skin, grid)
    most = max(_LEAST_POINTS, _POINTS_PER_CELL * cells**2)
    while 3 * len(near) + _BLOCK**3 * int(soft.sum()) > most:
        grid = _Grid.around(skin, cells := cells * 4 // 5)
        near, soft = _nearest_points(skin, grid), _soft_blocks(skin, grid)
    vertices, faces, count = [], [], 0
    starts = range(0, grid.shape[2] - 1, _SLAB)
    for done, start in enumerate(starts, 1):
        level = _level_of_slab(skin, grid, near, soft, start)
        if level.min() < 0 < level.max():
            points, triangles, _, _ = marching_cubes(level, 0.0, gradient_direction="ascent")
            vertices.append(points + np.array([0, 0, start]))
            faces.append(triangles.astype(np.int64) + count)
            count += len(points)
        progress(done, len(starts))
    if not vertices:
        raise InvalidInput("The mesh encloses nothing, so it cannot be made solid.")
    # Slabs share a layer of points, and so the vertices in it.
    table, same = np.unique(np.concatenate(vertices), axis=0, return_inverse=True)
    joined = same.reshape(-1)[np.concatenate(faces)]
    surface = Mesh(torch.from_numpy(grid.points(table)).float(), torch.from_numpy(joined))
    return bodies(surface), cells


def _nearest_points(skin: Skin, grid: _Grid) -> Indices:
    """(N, 3) points of the grid that are the nearest to some point of the skin, in order of z.

    They and their neighbours hold both ends of each edge of the grid that the skin crosses.
    """
    corners = skin.vertices[skin.faces]
    step = max(1, int(len(corners) * 2_000_000 / max(count_strewn(corners, grid.cell / 2), 1)))
    found = []
    x, y, _ = grid.shape
    for start in range(0, len(corners), step):
        points, _ = strew(corners[start : start + step], grid.cell / 2)
        index = ((points - grid.low) / grid.cell).round().astype(np.int64)
        found.append(np.unique((index[:, 2] * x + index[:, 0]) * y + index[:, 1]))
    code = np.unique(np.concatenate(found))
    return np.stack([code // y % x, code % y, code // (x * y)], axis=1)


def _soft_blocks(skin: Skin, grid: _Grid) -> NDArray[np.bool_]:
    """(X, Y, Z) blocks of cells at whose corners the winding number is neither 0 nor 1.

    There the body's surface closes a hole of the skin.
    """
    axes = [np.arange(0, n + _BLOCK, _BLOCK) for n in grid.shape]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    winding = skin.winding(grid.points(index.reshape(-1, 3)).astype(np.float64))
    inside = np.clip(winding, 0, 1).reshape(index.shape[:3])
    soft = (inside > _SOFT) & (inside < 1 - _SOFT)
    found = np.zeros(tuple(n - 1 for n in soft.shape), dtype=bool)
    for corner in np.ndindex(2, 2, 2):
        found |= soft[tuple(slice(c, n - 1 + c) for c, n in zip(corner, soft.shape, strict=True))]
    return found


def _level_of_slab(
    skin: Skin, grid: _Grid, near: Indices, soft: NDArray[np.bool_], start: int
) -> NDArray[np.float32]:
    """(X, Y, at most `_SLAB` + 1) what the surface of the body is where it passes 0; above inside.

    Near the skin it is the distance times 2 w - 1, where w is the winding number; in holes of the
    skin, which have no distance, it is 2 w - 1 times that of the band's border.
    """
    from scipy.ndimage import label

    x, y, _ = grid.shape
    layers = min(_SLAB + 1, grid.shape[2] - start)
    band = np.zeros((x, y, layers), dtype=bool)
    first, last = np.searchsorted(near[:, 2], [start - 1, start + layers + 1])
    for offset in np.ndindex(3, 3, 3):
        place = near[first:last] + offset - np.array([1, 1, 1 + start])
        place = place[(place[:, 2] >= 0) & (place[:, 2] < layers)]
        band[tuple(place.T)] = True
    hole = np.zeros_like(band)
    for b in np.argwhere(soft[:, :, start // _BLOCK : (start + layers) // _BLOCK + 1]):
        low = b * _BLOCK - np.array([0, 0, start % _BLOCK])
        i, j, k = (slice(max(n, 0), n + _BLOCK + 1) for n in low.tolist())
        hole[i, j, k] = True
    wanted = np.argwhere(band | hole) + np.array([0, 0, start])
    level = np.zeros(band.shape, dtype=np.float32)
    edge = _BAND * grid.cell
    if len(wanted):
        places = grid.points(wanted)
        inside = 2 * np.clip(skin.winding(places), 0, 1) - 1
        distance = np.full(len(wanted), edge)
        in_band = band[wanted[:, 0], wanted[:, 1], wanted[:, 2] - start]
        distance[in_band] = np.minimum(skin.distance(places[in_band]), edge)
        level[band | hole] = inside * distance
    # All else is on one side wherever it hangs together.
    parts, count = label(~(band | hole))
    if count:
        _, where = np.unique(parts, return_index=True)
        where = where[-count:]
        sample = np.stack(np.unravel_index(where, parts.shape), axis=1)
        sample += np.array([0, 0, start])
        side = np.where(skin.winding(grid.points(sample)) > 0.5, edge, -edge)
        level[parts > 0] = side[parts[parts > 0] - 1]
    tiny = np.float32(1e-3 * grid.cell)  # a point on the surface would make triangles without area
    return np.where(np.abs(level) < tiny, np.where(level < 0, -tiny, tiny), level)


def bodies(surface: Mesh) -> Mesh:
    """The outer surfaces of all bodies but specks: voids go, and what is in them."""
    parts = list(_parts_by_volume(surface))
    largest = parts[0][0]
    kept: list[Mesh] = []
    for volume, part in parts:
        if volume < _SPECK * largest:
            break
        some = part.vertices[:: max(1, len(part.vertices) // _LOOKS)].double().numpy()
        if not any((Skin.plain(m).winding(some) > 0.5).all() for m in kept):
            kept.append(part)
    offsets = np.cumsum([0] + [len(part.vertices) for part in kept])
    return Mesh(
        torch.cat([part.vertices for part in kept]),
        torch.cat([part.faces + int(o) for part, o in zip(kept, offsets, strict=False)]),
    )


def _parts_by_volume(surface: Mesh) -> Iterator[tuple[float, Mesh]]:
    """Volume and triangles of each part, the largest first."""
    part = part_of_faces(surface)
    a, b, c = (surface.vertices.double().numpy()[surface.faces[:, i].numpy()] for i in range(3))
    volumes = np.bincount(part, (a * np.cross(b, c)).sum(axis=1) / 6)
    order = np.argsort(part, kind="stable")
    starts = np.searchsorted(part[order], np.arange(len(volumes) + 1))
    for i in np.argsort(-volumes):
        faces = surface.faces[torch.from_numpy(order[starts[i] : starts[i + 1]])]
        yield float(volumes[i]), drop_unused(Mesh(surface.vertices, faces))
