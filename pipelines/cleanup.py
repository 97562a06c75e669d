"""Meshes to better meshes: each function takes one and returns another, with the colours that it had."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import InvalidInput
from .mesh import Mesh, keep_large_parts, part_of_faces

MIN_FACES = 4
_TAUBIN = (0.5, -0.53)  # Taubin, "A signal processing approach to fair surface design" (SIGGRAPH 1995): shrink, then swell a little more
_VOXELS = 160  # along the longest side, where nothing else makes a mesh watertight


@dataclass(frozen=True)
class MeshReport:
    """What a mesh is like.

    Attributes:
        parts: pieces that are not joined by a vertex.
        watertight: every edge has two triangles that run along it in opposite directions.
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
    """What a mesh is like."""
    size = mesh.vertices.amax(dim=0) - mesh.vertices.amin(dim=0) if len(mesh.vertices) else torch.zeros(3)
    x, y, z = size.tolist()
    return MeshReport(len(mesh.vertices), len(mesh.faces), len(np.unique(part_of_faces(mesh))), is_watertight(mesh), mesh.volume(), (x, y, z))


def is_watertight(mesh: Mesh) -> bool:
    """Every edge has exactly two triangles, which run along it in opposite directions."""
    edges = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    if not len(edges):
        return False
    code, back = edges[:, 0] * len(mesh.vertices) + edges[:, 1], edges[:, 1] * len(mesh.vertices) + edges[:, 0]
    return len(code.unique()) == len(code) and bool(torch.equal(code.sort().values, back.sort().values))


def merge_vertices(mesh: Mesh, tolerance: float = 1e-6) -> Mesh:
    """Vertices closer than the tolerance, as a share of the mesh's size, become one; triangles without area, and second copies, go."""
    extent = float((mesh.vertices.amax(dim=0) - mesh.vertices.amin(dim=0)).amax()) if len(mesh.vertices) else 0.0
    cells = (mesh.vertices.double() / max(extent * tolerance, 1e-12)).round().long()
    _, same = cells.unique(dim=0, return_inverse=True)
    first = torch.full((int(same.max()) + 1 if len(same) else 0,), len(same)).scatter_reduce_(0, same, torch.arange(len(same)), "amin")
    faces = first[same[mesh.faces]]
    a, b, c = faces.unbind(dim=1)
    faces = faces[(a != b) & (b != c) & (c != a)]
    _, copy = faces.sort(dim=1).values.unique(dim=0, return_inverse=True)
    kept = torch.full((int(copy.max()) + 1 if len(copy) else 0,), len(copy)).scatter_reduce_(0, copy, torch.arange(len(copy)), "amin")
    return drop_unused(replace(mesh, faces=faces[kept.sort().values]))


def drop_unused(mesh: Mesh) -> Mesh:
    """The mesh without vertices that no triangle names."""
    used, faces = mesh.faces.unique(return_inverse=True)
    colors = None if mesh.vertex_colors is None else mesh.vertex_colors[used]
    return Mesh(mesh.vertices[used], faces, colors)


def fill_holes(mesh: Mesh, max_edges: int = 64) -> Mesh:
    """Close holes with at most so many edges by a fan around their middle, coloured like their rim.

    Args:
        max_edges: longest rim that is closed; 0 closes none.
    """
    rims = [rim for rim in _rims(mesh.faces.numpy()) if len(rim) <= max_edges]
    if not rims:
        return mesh
    vertices, faces, colors = [mesh.vertices], [mesh.faces], [] if mesh.vertex_colors is None else [mesh.vertex_colors]
    middle = len(mesh.vertices)
    for rim in rims:
        ring = torch.tensor(rim)
        if len(rim) == 3:
            faces.append(ring.flip(0)[None])
            continue
        vertices.append(mesh.vertices[ring].mean(dim=0, keepdim=True))
        if mesh.vertex_colors is not None:
            colors.append(mesh.vertex_colors[ring].mean(dim=0, keepdim=True))
        # The rim runs along the triangles beside it; the new ones run the other way.
        faces.append(torch.stack([ring.roll(-1), ring, torch.full_like(ring, middle)], dim=1))
        middle += 1
    return Mesh(torch.cat(vertices), torch.cat(faces), torch.cat(colors) if colors else None)


def _rims(faces: np.ndarray) -> Iterator[list[int]]:
    """Closed walks along edges that have one triangle, each in the direction of its triangle."""
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    both = {(int(a), int(b)) for a, b in edges}
    following: dict[int, list[int]] = {}
    for a, b in both:
        if (b, a) not in both:
            following.setdefault(a, []).append(b)
    while following:
        start = next(iter(following))
        rim, at = [], start
        while at in following:
            rim.append(at)
            after = following[at].pop()
            if not following[at]:
                del following[at]
            at = after
            if at == start:
                yield rim
                break


def decimate(mesh: Mesh, max_faces: int) -> Mesh:
    """At most so many triangles, by quadric edge collapse; each vertex takes the colour of the nearest old one.

    Raises:
        InvalidInput: if fewer than `MIN_FACES` are asked for.

    Source: Garland and Heckbert, "Surface simplification using quadric error metrics" (SIGGRAPH 1997), as in fast-simplification.
    """
    from fast_simplification import simplify  # slow to import
    from scipy.spatial import cKDTree

    if max_faces < MIN_FACES:
        raise InvalidInput(f"A mesh needs at least {MIN_FACES} triangles, got {max_faces}.")
    if len(mesh.faces) <= max_faces:
        return mesh
    vertices, faces = simplify(mesh.vertices.numpy(), mesh.faces.numpy().astype(np.int32), target_count=max_faces)
    fewer = Mesh(torch.from_numpy(np.ascontiguousarray(vertices, np.float32)), torch.from_numpy(faces.astype(np.int64)))
    if mesh.vertex_colors is not None:
        _, nearest = cKDTree(mesh.vertices.numpy()).query(fewer.vertices.numpy())
        fewer = replace(fewer, vertex_colors=mesh.vertex_colors[torch.from_numpy(nearest)])
    return merge_vertices(fewer)


def smooth(mesh: Mesh, iterations: int = 10) -> Mesh:
    """Taubin's smoothing: noise goes, volume stays.

    Args:
        iterations: pairs of a step inward and a step outward, at least 0.

    Raises:
        InvalidInput: if the number is negative.
    """
    if iterations < 0:
        raise InvalidInput(f"Smoothing takes 0 or more iterations, got {iterations}.")
    a, b, c = mesh.faces.unbind(dim=1)
    both = torch.stack([torch.cat([a, b, c, b, c, a]), torch.cat([b, c, a, a, b, c])])
    source, target = torch.unique(both, dim=1)
    degree = torch.zeros(len(mesh.vertices)).index_add_(0, source, torch.ones(len(source))).clamp_min(1)[:, None]
    vertices = mesh.vertices
    for _ in range(iterations):
        for factor in _TAUBIN:
            mean = torch.zeros_like(vertices).index_add_(0, source, vertices[target]) / degree
            vertices = vertices + factor * (mean - vertices)
    return replace(mesh, vertices=vertices)


def make_watertight(mesh: Mesh) -> Mesh:
    """A closed mesh, for printing: by mending if that suffices, else by filling its voxels and taking their surface.

    Raises:
        InvalidInput: if the mesh encloses nothing.
    """
    mended = fill_holes(_without_branching_edges(merge_vertices(mesh)), max_edges=len(mesh.faces) * 3)
    if is_watertight(mended) and mended.volume() > 0:
        return mended
    return _from_voxels(mesh)


def _without_branching_edges(mesh: Mesh) -> Mesh:
    """Without triangles at an edge that more than two share, or that two run along in the same direction."""
    edges = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    code = edges[:, 0] * len(mesh.vertices) + edges[:, 1]
    _, which, times = code.unique(return_inverse=True, return_counts=True)
    bad = (times[which] > 1).view(-1, 3).any(dim=1)
    return drop_unused(replace(mesh, faces=mesh.faces[~bad])) if bool(bad.any()) else mesh


def _from_voxels(mesh: Mesh) -> Mesh:
    import trimesh  # slow to import
    from scipy.ndimage import binary_fill_holes
    from scipy.spatial import cKDTree
    from skimage.measure import marching_cubes

    extent = float((mesh.vertices.amax(dim=0) - mesh.vertices.amin(dim=0)).amax())
    grid = trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False).voxelized(extent / _VOXELS)
    solid = np.pad(binary_fill_holes(grid.matrix), 1).astype(np.float32)
    if solid.sum() == grid.matrix.sum():  # a shell with nothing inside
        raise InvalidInput("The mesh encloses nothing, so it cannot be made watertight.")
    points, faces, _, _ = marching_cubes(solid, level=0.5, gradient_direction="ascent")
    vertices = torch.from_numpy(trimesh.transform_points(points - 1, grid.transform).astype(np.float32))
    closed = Mesh(vertices, torch.from_numpy(faces.astype(np.int64)))
    if mesh.vertex_colors is not None:
        _, nearest = cKDTree(mesh.vertices.numpy()).query(vertices.numpy())
        closed = replace(closed, vertex_colors=mesh.vertex_colors[torch.from_numpy(nearest)])
    return smooth(closed, 4)


def clean(
    mesh: Mesh,
    *,
    min_part_share: float = 0.0,
    hole_edges: int = 0,
    max_faces: int = 0,
    smoothing: int = 0,
    watertight: bool = False,
) -> Mesh:
    """All of the above in the order that suits: merge, drop floaters, fill holes, smooth, decimate, make watertight.

    Args:
        min_part_share: see `mesh.keep_large_parts`.
        hole_edges: see `fill_holes`.
        max_faces: see `decimate`; 0 leaves all.
        smoothing: see `smooth`.
        watertight: see `make_watertight`.

    Returns:
        the mesh; a texture has become colours of its vertices, since its atlas does not fit other triangles.

    Raises:
        InvalidInput: if a number is out of range, or the mesh has no triangles.
    """
    if not len(mesh.faces):
        raise InvalidInput("The mesh has no triangles, so there is nothing to clean.")
    mesh = keep_large_parts(merge_vertices(texture_to_vertex_colors(mesh)), min_part_share)
    mesh = smooth(fill_holes(mesh, hole_edges), smoothing)
    if max_faces:
        mesh = decimate(mesh, max_faces)
    return make_watertight(mesh) if watertight else mesh


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


def nearest_colors(mesh: Mesh, points: Tensor) -> Tensor:
    """(N, 3) colours at points (N, 3), mixed from the three nearest vertices by their closeness.

    Args:
        mesh: with vertex colours.
    """
    from scipy.spatial import cKDTree

    assert mesh.vertex_colors is not None
    distance, nearest = cKDTree(mesh.vertices.numpy()).query(points.numpy(), k=3)
    weight = torch.from_numpy(1 / (distance + 1e-6)).float()
    mixed: Tensor = (mesh.vertex_colors[torch.from_numpy(nearest)] * (weight / weight.sum(dim=1, keepdim=True))[..., None]).sum(dim=1)
    return mixed


def texture_to_vertex_colors(mesh: Mesh) -> Mesh:
    """A textured mesh with what its texture shows at each vertex, and no texture; any other mesh as it is."""
    if mesh.texture is None or mesh.uvs is None:
        return mesh
    grid = torch.stack([mesh.uvs[:, 0], 1 - mesh.uvs[:, 1]], dim=1) * 2 - 1
    found = F.grid_sample(mesh.texture.permute(2, 0, 1)[None], grid[None, None], align_corners=False, padding_mode="border")  # (1, 3, 1, V)
    return Mesh(mesh.vertices, mesh.faces, found[0, :, 0].T.contiguous())
