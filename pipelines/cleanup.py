"""Meshes to better meshes: each function takes one and returns another, with the colours that it had.

Vertices at one position count as one wherever it matters what is joined to what, so that borders of colours and textures are no holes.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .errors import InvalidInput
from .mesh import Mesh, drop_unused, face_areas, joined_faces, keep_large_parts, part_of_faces
from .meshes.painting import count_strewn, painted_like, strew, texture_to_vertex_colors

log = logging.getLogger(__name__)

MIN_FACES = 4
_TAUBIN = (0.5, -0.53)  # Taubin, "A signal processing approach to fair surface design" (SIGGRAPH 1995): shrink, then swell a little more
_LID = 0.18  # share of its part's area from which what would close a rim is no filling of a hole but a lid
_VOXELS = 160  # along the longest side, where nothing else makes a mesh watertight
_LEAST_VOXELS = 6
_MOST_REDUCTION = 100  # times fewer triangles by decimation; beyond that, larger voxels do better
_MOST_SAMPLES = 40_000_000  # points strewn to find the voxels of a surface: larger surfaces get larger voxels
_LEAKS = (0, 1, 2, 4, 8)  # voxels by which gaps are closed to find what is inside


@dataclass(frozen=True)
class MeshReport:
    """What a mesh is like.

    Attributes:
        parts: pieces that are not joined by a vertex.
        watertight: every edge is run along as often one way as the other.
        volume: enclosed, positive if normals point outward; means little if the mesh is not watertight.
        size: (3,) edges of its box along x, y, z.
    """

    vertices: int
    triangles: int
    parts: int
    watertight: bool
    volume: float
    size: tuple[float, float, float]

    def __str__(self) -> str:
        closed = "watertight" if self.watertight else "not watertight"
        size = " x ".join(f"{s:.3g}" for s in self.size)
        return f"{self.triangles:,} triangles, {self.vertices:,} vertices, {self.parts} part(s), {closed}, volume {self.volume:.4g}, size {size}"


def report(mesh: Mesh) -> MeshReport:
    """What a mesh is like; vertices at one position count as one for its parts and for whether it is watertight."""
    size = mesh.vertices.amax(dim=0) - mesh.vertices.amin(dim=0) if len(mesh.vertices) else torch.zeros(3)
    x, y, z = size.tolist()
    parts = len(np.unique(part_of_faces(mesh))) if len(mesh.faces) else 0
    closed = is_watertight(replace(mesh, faces=joined_faces(mesh)))
    return MeshReport(len(mesh.vertices), len(mesh.faces), parts, closed, mesh.volume(), (x, y, z))


def is_watertight(mesh: Mesh) -> bool:
    """Every edge, between two vertices by their numbers, is run along as often in one direction as in the other."""
    edges = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    if not len(edges):
        return False
    code, back = edges[:, 0] * len(mesh.vertices) + edges[:, 1], edges[:, 1] * len(mesh.vertices) + edges[:, 0]
    return bool(torch.equal(code.sort().values, back.sort().values))


def merge_vertices(mesh: Mesh, tolerance: float = 1e-6) -> Mesh:
    """Vertices closer than the tolerance, as a share of the mesh's size, come to one place, and become one if their colours and uvs agree.

    Triangles without area, and second copies, go. A texture is kept.
    """
    if not len(mesh.faces):
        return drop_unused(mesh)
    low = mesh.vertices.amin(dim=0)
    extent = float((mesh.vertices.amax(dim=0) - low).amax())
    cells = ((mesh.vertices - low).double() / max(extent * tolerance, 1e-30)).round().long()
    place = _first_of_same(cells)
    attributes = [place[:, None]]
    if mesh.vertex_colors is not None:
        attributes.append((mesh.vertex_colors * 512).round().long())
    if mesh.uvs is not None:
        attributes.append((mesh.uvs * 1e6).round().long())
    same = _first_of_same(torch.cat(attributes, dim=1)) if len(attributes) > 1 else place
    at_place = place[mesh.faces]
    a, b, c = at_place.unbind(dim=1)
    whole = (a != b) & (b != c) & (c != a)
    faces, at_place = same[mesh.faces][whole], at_place[whole]
    _, copy = at_place.sort(dim=1).values.unique(dim=0, return_inverse=True)
    kept = torch.full((int(copy.max()) + 1 if len(copy) else 0,), len(copy)).scatter_reduce_(0, copy, torch.arange(len(copy)), "amin")
    return drop_unused(replace(mesh, vertices=mesh.vertices[place], faces=faces[kept.sort().values]))


def _first_of_same(rows: Tensor) -> Tensor:
    """(N,) number of the first row that is the same, of rows (N, d)."""
    if not len(rows):
        return torch.zeros(0, dtype=torch.long)
    _, same = rows.unique(dim=0, return_inverse=True)
    first = torch.full((int(same.max()) + 1,), len(same)).scatter_reduce_(0, same, torch.arange(len(same)), "amin")
    return first[same]


def fill_holes(mesh: Mesh, max_edges: int = 64) -> Mesh:
    """Close holes with at most so many edges by a fan around their middle, coloured like their rim.

    A rim is no hole where what closes it would be large beside its part: that of a sheet, of a bowl or of an open box.

    Args:
        mesh: without a texture.
        max_edges: longest rim that is closed; 0 closes none.
    """
    rims = [rim for rim in _rims(joined_faces(mesh).numpy(), mesh.faces.numpy()) if len(rim) <= max_edges]
    if rims:
        part, areas = part_of_faces(mesh), face_areas(mesh).numpy()
        area_of_part = np.bincount(part, weights=areas)
        part_of_vertex = np.zeros(len(mesh.vertices), dtype=np.int64)
        part_of_vertex[mesh.faces.numpy()] = part[:, None]
        rims = [rim for rim in rims if _fan_area(mesh.vertices[rim[:, 0]]) <= _LID * area_of_part[part_of_vertex[rim[0, 0]]]]
    return _with_fans(mesh, rims) if rims else mesh


def _with_fans(mesh: Mesh, rims: list[Tensor]) -> Mesh:
    """The mesh with each rim, (N, 2) edges of its triangles, closed by a fan."""
    vertices, faces, colors = [mesh.vertices], [mesh.faces], [] if mesh.vertex_colors is None else [mesh.vertex_colors]
    middle = len(mesh.vertices)
    for rim in rims:
        # The rim runs along the triangles beside it; the new ones run the other way.
        if len(rim) == 3:
            faces.append(rim[:, 0].flip(0)[None])
            continue
        vertices.append(mesh.vertices[rim[:, 0]].mean(dim=0, keepdim=True))
        if mesh.vertex_colors is not None:
            colors.append(mesh.vertex_colors[rim[:, 0]].mean(dim=0, keepdim=True))
        faces.append(torch.stack([rim[:, 1], rim[:, 0], torch.full_like(rim[:, 0], middle)], dim=1))
        middle += 1
    return Mesh(torch.cat(vertices), torch.cat(faces), torch.cat(colors) if colors else None)


def _fan_area(rim: Tensor) -> float:
    """Area of the fan around the middle of a closed rim (N, 3)."""
    spokes = (rim - rim.mean(dim=0)).double()
    return float(torch.linalg.cross(spokes, spokes.roll(-1, dims=0)).norm(dim=1).sum() / 2)


def _rims(joined: np.ndarray, faces: np.ndarray) -> Iterator[Tensor]:
    """Closed walks along edges that have one triangle, each in the direction of its triangle: (N, 2) vertices of the triangles' own edges."""
    edges = joined[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    own = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    length = int(edges.max(initial=0)) + 1
    code, back = edges[:, 0] * length + edges[:, 1], edges[:, 1] * length + edges[:, 0]
    following: dict[int, list[int]] = defaultdict(list)
    for edge in np.flatnonzero(~np.isin(code, back)).tolist():
        following[int(edges[edge, 0])].append(edge)
    while following:
        start = at = next(iter(following))
        walk: list[int] = []
        while at in following:
            walk.append(following[at].pop())
            if not following[at]:
                del following[at]
            at = int(edges[walk[-1], 1])
            if at == start:
                yield torch.from_numpy(own[walk])
                break


def decimate(mesh: Mesh, max_faces: int) -> Mesh:
    """At most so many triangles, by quadric edge collapse; colours are those of the nearest points of the surface before.

    Vertices at one place are merged first. A texture becomes colours of vertices, since its atlas does not fit other triangles. Where edge
    collapse gets stuck, as on flat rings, vertices that share a cell of a grid become one.

    Raises:
        InvalidInput: if fewer than `MIN_FACES` are asked for, or so few leave nothing of the mesh.

    Source: Garland and Heckbert, "Surface simplification using quadric error metrics" (SIGGRAPH 1997), as in fast-simplification; Rossignac
    and Borrel, "Multi-resolution 3D approximations for rendering complex scenes" (1993).
    """
    from fast_simplification import simplify  # slow to import

    if max_faces < MIN_FACES:
        raise InvalidInput(f"A mesh needs at least {MIN_FACES} triangles, got {max_faces}.")
    if len(mesh.faces) <= max_faces:
        return mesh
    if mesh.texture is not None:
        log.warning("The texture becomes colours of vertices: its atlas does not fit fewer triangles.")
    original = merge_vertices(texture_to_vertex_colors(mesh))
    fewer = _shape_of(original)
    if len(fewer.faces) > max_faces:
        vertices, faces = simplify(fewer.vertices.numpy(), fewer.faces.numpy().astype(np.int32), target_count=max_faces)
        collapsed = Mesh(torch.from_numpy(np.ascontiguousarray(vertices, np.float32)), torch.from_numpy(faces.astype(np.int64)))
        fewer = merge_vertices(collapsed)
    if len(fewer.faces) > max_faces:
        fewer = _clustered(fewer, max_faces)
    return painted_like(fewer, original)


def _shape_of(mesh: Mesh) -> Mesh:
    """The triangles alone, with one vertex at each position."""
    return drop_unused(Mesh(mesh.vertices, joined_faces(mesh)))


def _clustered(shape: Mesh, max_faces: int) -> Mesh:
    """The shape with one vertex, in their middle, for all that share a cell of the finest grid that leaves so few triangles."""
    low = shape.vertices.amin(dim=0)
    extent = float((shape.vertices.amax(dim=0) - low).amax())
    cells = float(len(shape.faces))
    while cells > 1:
        cells /= 1.1
        place = _first_of_same(((shape.vertices - low) / (extent / cells)).floor().long())
        count = torch.zeros(len(place)).index_add_(0, place, torch.ones(len(place)))
        middle = torch.zeros_like(shape.vertices).index_add_(0, place, shape.vertices) / count.clamp_min(1)[:, None]
        found = merge_vertices(Mesh(middle[place], shape.faces))
        if 0 < len(found.faces) <= max_faces:
            return found
    raise InvalidInput(f"The mesh cannot be reduced to {max_faces} triangles: allow more.")


def smooth(mesh: Mesh, iterations: int = 10) -> Mesh:
    """Taubin's smoothing: noise goes, volume stays.

    Args:
        iterations: pairs of a step inward and a step outward, at least 0.

    Raises:
        InvalidInput: if the number is negative.
    """
    if iterations < 0:
        raise InvalidInput(f"Smoothing takes 0 or more iterations, got {iterations}.")
    if not iterations:
        return mesh
    joined = joined_faces(mesh)
    edges = joined[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    code = torch.cat([edges @ torch.tensor([len(mesh.vertices), 1]), edges @ torch.tensor([1, len(mesh.vertices)])]).unique()
    source, target = code // len(mesh.vertices), code % len(mesh.vertices)
    degree = torch.zeros(len(mesh.vertices)).index_add_(0, source, torch.ones(len(source))).clamp_min(1)[:, None]
    linked = torch.zeros(len(mesh.vertices), 1).index_add_(0, source, torch.ones(len(source), 1)) > 0
    vertices = mesh.vertices
    for _ in range(iterations):
        for factor in _TAUBIN:
            mean = torch.zeros_like(vertices).index_add_(0, source, vertices[target]) / degree
            vertices = torch.where(linked, vertices + factor * (mean - vertices), vertices)
    place = torch.arange(len(vertices))
    place[mesh.faces.reshape(-1)] = joined.reshape(-1)
    return replace(mesh, vertices=vertices[place])


def make_watertight(mesh: Mesh, max_faces: int = 0) -> Mesh:
    """A closed mesh, for printing: by mending if that suffices, else by filling its voxels and taking their surface.

    Args:
        mesh: at least one triangle; a texture becomes colours of vertices.
        max_faces: most triangles of the result; 0 for no limit.

    Raises:
        InvalidInput: if the mesh encloses nothing, or cannot be closed with so few triangles.
    """
    original = merge_vertices(texture_to_vertex_colors(mesh))
    mended = _mended(_shape_of(original))
    whole = is_watertight(mended) and mended.volume() > 0
    closed = _fewer_and_closed(mended, max_faces) if whole else None
    voxels = _VOXELS
    while closed is None and voxels >= _LEAST_VOXELS:
        filled = _from_voxels(mended, voxels)
        if filled is None and not whole:
            raise InvalidInput("The mesh encloses nothing, so it cannot be made watertight.")
        if filled is None:
            break
        closed, whole, voxels = _fewer_and_closed(filled, max_faces), True, voxels * 7 // 10
    if closed is None:
        raise InvalidInput(f"The mesh cannot be made watertight with {max_faces} triangles: allow more.")
    return painted_like(closed, original)


def _fewer_and_closed(closed: Mesh, max_faces: int) -> Mesh | None:
    """At most so many triangles, and still closed; None where that does not come out."""
    if not max_faces or len(closed.faces) <= max_faces:
        return closed
    if len(closed.faces) > _MOST_REDUCTION * max_faces:
        return None
    for share in (1.0, 0.9, 0.7):  # what is mended on the way may be over the limit
        fewer = _mended(decimate(closed, max(MIN_FACES, int(share * max_faces))))
        if len(fewer.faces) <= max_faces and is_watertight(fewer) and fewer.volume() > 0:
            return fewer
    return None


def _mended(shape: Mesh) -> Mesh:
    """Bodies that touch along edges taken apart, triangles that run against their neighbours gone, and every rim closed."""
    apart = _apart(_without_branching_edges(_apart(shape)))
    faces = apart.faces.numpy()
    return _with_fans(apart, list(_rims(faces, faces))) if len(faces) else shape


def _apart(shape: Mesh) -> Mesh:
    """The shape with vertices doubled where their triangles are joined by no edge of just two triangles that run along it both ways."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    faces, count = shape.faces.numpy(), len(shape.vertices)
    start, end = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)  # the edge from each corner to the next
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
    # A corner and the one at the same vertex across the edge belong together: at its start, and at its end.
    pairs = np.stack([np.concatenate([edge, following]), np.concatenate([following_other, other])]).astype(np.int32)
    graph = coo_array((np.ones(pairs.shape[1], dtype=np.int8), (pairs[0], pairs[1])), shape=(len(start),) * 2)
    _, number = connected_components(graph, directed=False)
    _, first = np.unique(number, return_index=True)
    return Mesh(shape.vertices[torch.from_numpy(start[first])], torch.from_numpy(number.astype(np.int64).reshape(-1, 3)))


def _without_branching_edges(mesh: Mesh) -> Mesh:
    """Without triangles at an edge that more than two share, or that two run along in the same direction."""
    edges = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    code = edges[:, 0] * len(mesh.vertices) + edges[:, 1]
    _, which, times = code.unique(return_inverse=True, return_counts=True)
    bad = (times[which] > 1).view(-1, 3).any(dim=1)
    return drop_unused(replace(mesh, faces=mesh.faces[~bad])) if bool(bad.any()) else mesh


def _from_voxels(shape: Mesh, voxels: int) -> Mesh | None:
    """The surface of the voxels that a shape fills, so many along its longest side; None if it fills none but those that it passes.

    Small gaps are closed to find what is inside.
    """
    from scipy.ndimage import binary_dilation, binary_erosion, binary_fill_holes
    from skimage.measure import marching_cubes

    surface, low, voxel = _surface_voxels(shape, voxels)
    for gap in _LEAKS:
        padded = np.pad(surface, gap + 1)
        wide = binary_dilation(padded, iterations=gap) if gap else padded
        filled = binary_fill_holes(wide)
        inside = binary_erosion(filled, iterations=gap) if gap else filled
        solid = inside | padded
        if solid.sum() > padded.sum() and (filled & ~wide).any():
            break
    else:
        return None
    points, faces, _, _ = marching_cubes(solid.astype(np.float32), level=0.5, gradient_direction="ascent")
    vertices = (points - (gap + 1) + 0.5) * voxel + low
    return smooth(Mesh(torch.from_numpy(vertices.astype(np.float32)), torch.from_numpy(faces.astype(np.int64))), 4)


def _surface_voxels(shape: Mesh, voxels: int) -> tuple[np.ndarray, np.ndarray, float]:
    """(X, Y, Z) bool voxels that the surface passes, the corner of the first, and their side: a larger one for very large surfaces."""
    corners = shape.vertices.double().numpy()[shape.faces.numpy()]
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    voxel = float((high - low).max()) / voxels
    while count_strewn(corners, voxel / 2) > _MOST_SAMPLES:
        voxel *= 1.25
    surface = np.zeros(np.floor((high - low) / voxel).astype(int) + 1, dtype=bool)
    step = max(1, int(len(corners) * 2_000_000 / max(count_strewn(corners, voxel / 2), 1)))
    for start in range(0, len(corners), step):
        points, _ = strew(corners[start : start + step], voxel / 2)
        index = np.floor((points - low) / voxel).astype(int).clip(0, np.array(surface.shape) - 1)
        surface[tuple(index.T)] = True
    return surface, low, voxel


def clean(
    mesh: Mesh,
    *,
    min_part_share: float = 0.0,
    hole_edges: int = 0,
    max_faces: int = 0,
    smoothing: int = 0,
    watertight: bool = False,
) -> Mesh:
    """All of the above in the order that suits: merge, drop floaters, fill holes, smooth, make watertight, decimate.

    Args:
        min_part_share: see `mesh.keep_large_parts`.
        hole_edges: see `fill_holes`.
        max_faces: see `decimate`; 0 leaves all.
        smoothing: see `smooth`.
        watertight: see `make_watertight`.

    Returns:
        the mesh; a texture has become colours of its vertices, since its atlas does not fit other triangles.

    Raises:
        InvalidInput: if a number is out of range, or the mesh has no triangles, or none with an area.
    """
    if not len(mesh.faces):
        raise InvalidInput("The mesh has no triangles, so there is nothing to clean.")
    if max_faces and max_faces < MIN_FACES:
        raise InvalidInput(f"A mesh needs at least {MIN_FACES} triangles, got {max_faces}.")
    merged = merge_vertices(texture_to_vertex_colors(mesh))
    if not len(merged.faces) or not float(face_areas(merged).sum()):
        raise InvalidInput("No triangle of the mesh has an area, so nothing is left of it.")
    mesh = smooth(fill_holes(keep_large_parts(merged, min_part_share), hole_edges), smoothing)
    if watertight:
        return make_watertight(mesh, max_faces)
    return decimate(mesh, max_faces) if max_faces else mesh


def placed(mesh: Mesh, *, size: float = 0.0, pivot: str = "keep", turn_deg: float = 0.0) -> Mesh:
    """The mesh at a size and place of one's own.

    Args:
        size: longest side of its box, in whatever unit the file is meant in (millimetres for STL and 3MF); 0 keeps it.
        pivot: "keep", "center" (the box's middle at the origin) or "bottom" (its middle at the origin, its lowest point at height 0).
        turn_deg: turn around the vertical axis, counter-clockwise from above: 90 turns the front to where the left was.

    Raises:
        InvalidInput: if a value is out of range.
    """
    if pivot not in ("keep", "center", "bottom"):
        raise InvalidInput(f"The pivot must be keep, center or bottom, got '{pivot}'.")
    if size < 0:
        raise InvalidInput(f"The size must not be negative, got {size}.")
    vertices = mesh.vertices
    if turn_deg:
        angle = torch.deg2rad(torch.tensor(float(turn_deg)))
        cos, sin = float(angle.cos()), float(angle.sin())
        vertices = vertices @ torch.tensor([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    low, high = vertices.amin(dim=0), vertices.amax(dim=0)
    if pivot != "keep":
        middle = (low + high) / 2
        if pivot == "bottom":
            middle = torch.stack([middle[0], middle[1], low[2]])
        vertices = vertices - middle
    if size:
        vertices = vertices * (size / float((high - low).amax().clamp_min(1e-12)))
    return replace(mesh, vertices=vertices)
