"""Closed bodies, for printing.

What the well-kept wheels give was looked at first (BENCHMARKS.md, 'Solid bodies'). manifold3d wants
a manifold to begin with, and is what the results are checked by; pymeshfix keeps the largest part
alone, which is right for double shells and wrong where parts meet or stand apart; open3d and
trimesh fill voxels as blocks, and nothing where there is a hole. libigl's generalised winding
number says what is inside of anything, and its distances where the surface is.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import EnvironmentProblem, InvalidInput
from ..progress import Progress, silent
from .decimation import MIN_FACES, decimate
from .mesh import Mesh, drop_unused, face_areas, part_of_faces, shape_of
from .painting import count_strewn, painted_like, strew, texture_to_vertex_colors
from .repair import first_of_same, is_watertight, merge_vertices, rims, with_fans

DEFAULT_SOLID_RESOLUTION, MIN_SOLID_RESOLUTION, MAX_SOLID_RESOLUTION = 256, 16, 1024
_MOST_REDUCTION = 100  # times fewer triangles by decimation; beyond that, larger cells do better
_MOST_SAMPLES = 40_000_000  # points strewn over a surface: larger ones get larger cells
_THINNEST = 1e-6  # thickness of a body over its length
_HAIR, _MOVES = 0.002, 3  # shares of a triangle's size, and how often
_CHANGE = 0.5  # of its volume that a body may undergo for the sake of fewer triangles
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


def make_solid(
    mesh: Mesh,
    resolution: int = DEFAULT_SOLID_RESOLUTION,
    max_faces: int = 0,
    *,
    progress: Progress = silent,
) -> Mesh:
    """A body for printing: watertight, outward, nowhere through itself, without walls inside.

    Double and nested shells, open scans, parts that intersect and loose triangles become the body
    that they are the skin of; parts that stand apart stay apart. What is such a body already, or is
    when small holes are closed and inner shells left out, keeps its triangles.

    Args:
        mesh: at least one triangle; a texture becomes colours of vertices.
        resolution: cells along the longest side, 16 to 1024. Details below a cell are lost. Memory
            grows with the square.
        max_faces: most triangles of the result; 0 for no limit.
        progress: called after each slab of the grid.

    Returns:
        the body in the colours of the nearest points of the mesh.

    Raises:
        InvalidInput: if a number is out of range, the mesh encloses nothing, or cannot be closed
            with so few triangles.
        EnvironmentProblem: if libigl is missing.

    Source: Jacobson et al., "Robust Inside-Outside Segmentation using Generalized Winding Numbers"
    (SIGGRAPH 2013); Barill et al., "Fast Winding Numbers for Soups and Clouds" (SIGGRAPH 2018), as
    in libigl; Lewiner et al. (2003), as in scikit-image.
    """
    if not MIN_SOLID_RESOLUTION <= resolution <= MAX_SOLID_RESOLUTION:
        raise InvalidInput(
            f"The resolution must lie between {MIN_SOLID_RESOLUTION} and {MAX_SOLID_RESOLUTION},"
            f" got {resolution}."
        )
    if importlib.util.find_spec("igl") is None:
        raise EnvironmentProblem(
            "Solid bodies need the package libigl: run 'pip install libigl', which is not there for"
            " every platform."
        )
    original = merge_vertices(texture_to_vertex_colors(mesh))
    if not len(original.faces):
        raise InvalidInput("The mesh encloses nothing, so it cannot be made solid.")
    shape = shape_of(original)
    # Where rims can be closed, flat lids close holes better than winding numbers do.
    skin, cells = _Skin.of(_mended(shape)), resolution
    closes = _is_body(skin.mesh())
    body = _bodies(skin.mesh()) if closes else shape
    if not closes or not _Skin.plain(body).is_simple():
        skin = skin if closes else _Skin.of(shape)
        body, cells = _body_of(skin, cells, progress)
    volume, closed = body.volume(), _fewer_and_closed(body, max_faces, body.volume())
    while closed is None and cells > MIN_SOLID_RESOLUTION:
        try:
            body, cells = _body_of(skin, max(cells * 6 // 10, MIN_SOLID_RESOLUTION), progress)
        except InvalidInput:  # all of it is smaller than a cell
            break
        closed = _fewer_and_closed(body, max_faces, volume)
    if closed is None:
        raise InvalidInput(f"The mesh cannot be made solid with {max_faces} triangles: allow more.")
    return painted_like(_without_touching(closed), original)


@dataclass(frozen=True)
class _Skin:
    """Triangles whose winding number says what is inside.

    Attributes:
        vertices: (V, 3).
        faces: (F, 3), each part outward.
    """

    vertices: Floats
    faces: Indices

    @classmethod
    def of(cls, shape: Mesh) -> _Skin:
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
    def plain(cls, mesh: Mesh) -> _Skin:
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


def _is_body(shape: Mesh) -> bool:
    """Whether a shape is closed and encloses more than rounding does.

    Triangles and their backs alone enclose something by rounding.
    """
    extent = float((shape.vertices.amax(dim=0) - shape.vertices.amin(dim=0)).amax())
    return is_watertight(shape) and shape.volume() > _THINNEST * extent * float(
        face_areas(shape).sum()
    )


def _fewer_and_closed(closed: Mesh, max_faces: int, volume: float) -> Mesh | None:
    """At most so many triangles, still closed and about so large; None where that comes not out."""
    if not max_faces or len(closed.faces) <= max_faces:
        return closed
    if len(closed.faces) > _MOST_REDUCTION * max_faces:
        return None
    for share in (1.0, 0.9, 0.7):  # what is mended on the way may be over the limit
        fewer = _mended(decimate(closed, max(MIN_FACES, int(share * max_faces))))
        same = abs(fewer.volume() / volume - 1) < _CHANGE
        if len(fewer.faces) <= max_faces and same and _is_body(fewer):
            return fewer
    return None


def _mended(shape: Mesh) -> Mesh:
    """Bodies that touch along edges are taken apart, and every rim is closed.

    Triangles that run against their neighbours go.
    """
    apart = _apart(_without_branching_edges(_apart(shape)))
    faces = apart.faces.numpy()
    return with_fans(apart, list(rims(faces, faces))) if len(faces) else shape


def _apart(shape: Mesh) -> Mesh:
    """The shape with vertices doubled where their triangles hang together by a point alone.

    Triangles hang together by an edge of just two triangles that run along it both ways.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    faces, count = shape.faces.numpy(), len(shape.vertices)
    # The edge from each corner to the next.
    start, end = (faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1))
    code, back = start * count + end, end * count + start
    order = np.argsort(code)
    place = np.searchsorted(code[order], back)
    opposite = order[place.clip(max=len(order) - 1)]
    undirected = np.minimum(code, back)
    _, which, times = np.unique(undirected, return_inverse=True, return_counts=True)
    plain = (code[opposite] == back) & (times[which.reshape(-1)] == 2)
    edge, other = np.flatnonzero(plain), opposite[plain]
    following = edge - edge % 3 + (edge + 1) % 3
    following_other = other - other % 3 + (other + 1) % 3
    # A corner and the one at the same vertex across the edge belong together: at its start, and at
    # its end.
    pairs = np.stack(
        [np.concatenate([edge, following]), np.concatenate([following_other, other])]
    ).astype(np.int32)
    graph = coo_array(
        (np.ones(pairs.shape[1], dtype=np.int8), (pairs[0], pairs[1])), shape=(len(start),) * 2
    )
    _, number = connected_components(graph, directed=False)
    _, first = np.unique(number, return_index=True)
    return Mesh(
        shape.vertices[torch.from_numpy(start[first])],
        torch.from_numpy(number.astype(np.int64).reshape(-1, 3)),
    )


def _without_touching(body: Mesh) -> Mesh:
    """The body with a hair's breadth between vertices that lay at one place.

    Slicers join what lies at one place, and then find edges with four triangles.
    """
    for _ in range(_MOVES):
        place = first_of_same(body.vertices)
        shared = torch.bincount(place, minlength=len(place))[place] > 1
        if not bool(shared.any()):
            break
        corners = body.vertices[body.faces]
        middle = torch.zeros_like(body.vertices)
        for k in range(3):
            middle.index_add_(0, body.faces[:, k], corners.mean(dim=1))
        count = torch.bincount(body.faces.reshape(-1), minlength=len(body.vertices))[:, None]
        inward = middle / count.clamp_min(1) - body.vertices
        body = replace(
            body,
            vertices=torch.where(shared[:, None], body.vertices + _HAIR * inward, body.vertices),
        )
    return body


def _without_branching_edges(mesh: Mesh) -> Mesh:
    """Without triangles at an edge that more than two share, or that two run along one way."""
    edges = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    code = edges[:, 0] * len(mesh.vertices) + edges[:, 1]
    _, which, times = code.unique(return_inverse=True, return_counts=True)
    bad = (times[which] > 1).view(-1, 3).any(dim=1)
    return drop_unused(replace(mesh, faces=mesh.faces[~bad])) if bool(bad.any()) else mesh


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
    def around(cls, skin: _Skin, cells: int) -> _Grid:
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


def _body_of(skin: _Skin, cells: int, progress: Progress) -> tuple[Mesh, int]:
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
    return _bodies(surface), cells


def _nearest_points(skin: _Skin, grid: _Grid) -> Indices:
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


def _soft_blocks(skin: _Skin, grid: _Grid) -> NDArray[np.bool_]:
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
    skin: _Skin, grid: _Grid, near: Indices, soft: NDArray[np.bool_], start: int
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


def _bodies(surface: Mesh) -> Mesh:
    """The outer surfaces of all bodies but specks: voids go, and what is in them."""
    parts = list(_parts_by_volume(surface))
    largest = parts[0][0]
    kept: list[Mesh] = []
    for volume, part in parts:
        if volume < _SPECK * largest:
            break
        some = part.vertices[:: max(1, len(part.vertices) // _LOOKS)].double().numpy()
        if not any((_Skin.plain(m).winding(some) > 0.5).all() for m in kept):
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
