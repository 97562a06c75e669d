"""Mending meshes: double vertices, holes, noise.

Each function takes a mesh and returns another, with the colours that it had.

Vertices at one position count as one wherever it matters what is joined to what, so that borders of
colours and textures are no holes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidInput
from .mesh import Mesh, drop_unused, face_areas, joined_faces, part_of_faces

# Shrink, then swell a little more.
# Taubin, "A signal processing approach to fair surface design" (SIGGRAPH 1995).
_TAUBIN = (0.5, -0.53)
# Share of its part's area from which what would close a rim is no filling of a hole but a lid.
_LID = 0.18


def is_watertight(mesh: Mesh) -> bool:
    """Whether every edge is run along as often in one direction as in the other.

    Vertices count by their numbers.
    """
    edges = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    if not len(edges):
        return False
    code = edges[:, 0] * len(mesh.vertices) + edges[:, 1]
    back = edges[:, 1] * len(mesh.vertices) + edges[:, 0]
    return bool(torch.equal(code.sort().values, back.sort().values))


def merge_vertices(mesh: Mesh, tolerance: float = 1e-6) -> Mesh:
    """Vertices that are closer than the tolerance come to one place.

    They become one if their colours and uvs agree. The tolerance is a share of the mesh's size.

    Triangles without area, and second copies, go. A texture is kept; directions for shading go,
    which are of the vertices before.
    """
    mesh = replace(mesh, normals=None, tangents=None)
    if not len(mesh.faces):
        return drop_unused(mesh)
    low = mesh.vertices.amin(dim=0)
    extent = float((mesh.vertices.amax(dim=0) - low).amax())
    cells = ((mesh.vertices - low).double() / max(extent * tolerance, 1e-30)).round().long()
    place = first_of_same(cells)
    attributes = [place[:, None]]
    if mesh.vertex_colors is not None:
        attributes.append((mesh.vertex_colors * 512).round().long())
    if mesh.uvs is not None:
        attributes.append((mesh.uvs * 1e6).round().long())
    same = first_of_same(torch.cat(attributes, dim=1)) if len(attributes) > 1 else place
    at_place = place[mesh.faces]
    a, b, c = at_place.unbind(dim=1)
    whole = (a != b) & (b != c) & (c != a)
    faces, at_place = same[mesh.faces][whole], at_place[whole]
    _, copy = at_place.sort(dim=1).values.unique(dim=0, return_inverse=True)
    kept = torch.full((int(copy.max()) + 1 if len(copy) else 0,), len(copy)).scatter_reduce_(
        0, copy, torch.arange(len(copy)), "amin"
    )
    return drop_unused(
        replace(mesh, vertices=mesh.vertices[place], faces=faces[kept.sort().values])
    )


def first_of_same(rows: Tensor) -> Tensor:
    """(N,) number of the first row that is the same, of rows (N, d)."""
    if not len(rows):
        return torch.zeros(0, dtype=torch.long)
    _, same = rows.unique(dim=0, return_inverse=True)
    first = torch.full((int(same.max()) + 1,), len(same)).scatter_reduce_(
        0, same, torch.arange(len(same)), "amin"
    )
    return first[same]


def fill_holes(mesh: Mesh, max_edges: int = 64) -> Mesh:
    """Close holes with at most so many edges by a fan around their middle, coloured like their rim.

    A rim is no hole where what closes it would be large beside its part: that of a sheet, of a bowl
    or of an open box.

    Args:
        mesh: without a texture.
        max_edges: longest rim that is closed; 0 closes none.
    """
    found = [
        rim for rim in rims(joined_faces(mesh).numpy(), mesh.faces.numpy()) if len(rim) <= max_edges
    ]
    if found:
        part, areas = part_of_faces(mesh), face_areas(mesh).numpy()
        area_of_part = np.bincount(part, weights=areas)
        part_of_vertex = np.zeros(len(mesh.vertices), dtype=np.int64)
        part_of_vertex[mesh.faces.numpy()] = part[:, None]
        found = [
            rim
            for rim in found
            if _fan_area(mesh.vertices[rim[:, 0]]) <= _LID * area_of_part[part_of_vertex[rim[0, 0]]]
        ]
    return with_fans(mesh, found) if found else mesh


def with_fans(mesh: Mesh, closed_rims: list[Tensor]) -> Mesh:
    """The mesh with each rim, (N, 2) edges of its triangles, closed by a fan."""
    vertices = [mesh.vertices]
    faces = [mesh.faces]
    colors = [] if mesh.vertex_colors is None else [mesh.vertex_colors]
    middle = len(mesh.vertices)
    for rim in closed_rims:
        # The rim runs along the triangles beside it; the new ones run the other way.
        if len(rim) == 3:
            faces.append(rim[:, 0].flip(0)[None])
            continue
        vertices.append(mesh.vertices[rim[:, 0]].mean(dim=0, keepdim=True))
        if mesh.vertex_colors is not None:
            colors.append(mesh.vertex_colors[rim[:, 0]].mean(dim=0, keepdim=True))
        faces.append(torch.stack([rim[:, 1], rim[:, 0], torch.full_like(rim[:, 0], middle)], dim=1))
        middle += 1
    return Mesh(
        torch.cat(vertices),
        torch.cat(faces),
        torch.cat(colors) if colors else None,
        material=mesh.material,
    )


def _fan_area(rim: Tensor) -> float:
    """Area of the fan around the middle of a closed rim (N, 3)."""
    spokes = (rim - rim.mean(dim=0)).double()
    return float(torch.linalg.cross(spokes, spokes.roll(-1, dims=0)).norm(dim=1).sum() / 2)


def rims(joined: np.ndarray, faces: np.ndarray) -> Iterator[Tensor]:
    """Closed walks along edges that have one triangle, each in the direction of its triangle.

    A walk is (N, 2) vertices: those of the triangles' own edges.
    """
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


def smooth(mesh: Mesh, iterations: int = 10) -> Mesh:
    """Taubin's smoothing: noise goes, volume stays.

    Args:
        mesh: any.
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
    code = torch.cat(
        [
            edges @ torch.tensor([len(mesh.vertices), 1]),
            edges @ torch.tensor([1, len(mesh.vertices)]),
        ]
    ).unique()
    source, target = code // len(mesh.vertices), code % len(mesh.vertices)
    degree = torch.bincount(source, minlength=len(mesh.vertices))[:, None]
    vertices = mesh.vertices
    for _ in range(iterations):
        for factor in _TAUBIN:
            mean = torch.zeros_like(vertices).index_add_(
                0, source, vertices[target]
            ) / degree.clamp_min(1)
            vertices = torch.where(degree > 0, vertices + factor * (mean - vertices), vertices)
    place = torch.arange(len(vertices))
    place[mesh.faces.reshape(-1)] = joined.reshape(-1)
    return replace(mesh, vertices=vertices[place], normals=None, tangents=None)
