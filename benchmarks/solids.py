"""Measure how well Make Solid and other libraries repair broken shells of known bodies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import manifold3d
import numpy as np
import torch
import trimesh
from numpy.typing import NDArray

from pipelines.errors import ImageTo3DError
from pipelines.meshes.color_transfer import nearest_points, surface_colors
from pipelines.meshes.mesh import Mesh, drop_unused
from pipelines.meshes.solid import make_solid
from pipelines.meshes.topology import bare_shape, merge_vertices
from training.objects import ObjectFile

from .textures import object_of

SEED, GONE, WALL, SHIFT, SAMPLES = 0, 0.05, 0.01, 0.35, 10_000
Case = tuple[str, Mesh, float, Mesh]
Floats = NDArray[np.float64]


def measure_solids(assets: Path, count: int, resolution: int) -> None:
    """Print a row of results for each kind of damage and each method.

    Columns: share of closed bodies by manifold3d's check; median and maximum volume error; median
    and 99th percentile of the distance from the visible outside, in cells; colour error; seconds.
    """
    methods: dict[str, Callable[[Mesh], Mesh]] = {
        "ours": lambda mesh: make_solid(mesh, resolution),
        "pymeshfix": _by_pymeshfix,
        "trimesh voxels": lambda mesh: _by_voxels(mesh, resolution),
    }
    rows: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    failed: dict[tuple[str, str], int] = {}
    for name, broken, volume, outside in _cases(assets, count):
        for method, make in methods.items():
            began = time.perf_counter()
            try:
                made = make(broken)
            except (ImageTo3DError, RuntimeError, ValueError, IndexError):
                failed[name, method] = failed.get((name, method), 0) + 1
                continue
            seconds = time.perf_counter() - began
            rows.setdefault((name, method), []).append(
                _figures(made, broken, volume, outside, resolution, seconds)
            )
    print(
        f"{'shell':16}{'method':16}{'closed':>10}{'volume, %':>16}{'outside, cells':>16}"
        f"{'colour':>8}{'s':>7}"
    )
    for (name, method), found in rows.items():
        table = np.array(found)
        good, volume, middle, farthest, color, seconds = table.T
        of = len(found) + failed.get((name, method), 0)
        print(
            f"{name:16}{method:16}{int(good.sum()):5}/{of:<4}"
            f"{np.median(volume):8.2f}{volume.max():8.1f}"
            f"{np.median(middle):8.2f}{np.median(farthest):8.1f}"
            f"{np.nanmean(color) if np.isfinite(color).any() else np.nan:8.3f}{seconds.mean():7.1f}"
        )


def _cases(assets: Path, count: int) -> Iterator[Case]:
    """Yield broken shells: their name, the mesh, the true volume and the true outside."""
    for shape in (trimesh.creation.icosphere(5), trimesh.creation.box().subdivide().subdivide()):
        mesh = Mesh(torch.tensor(shape.vertices).float(), torch.tensor(shape.faces).long())
        yield from _broken(replace(mesh, vertex_colors=(mesh.vertices + 1) / 2))
    objects, rng, found = ObjectFile(assets), np.random.default_rng(SEED), 0
    for i in rng.permutation(len(objects)):
        mesh = object_of(objects, int(i))
        mesh = mesh and merge_vertices(mesh)
        if mesh is None or _body(mesh) is None:
            continue
        yield from _broken(mesh)
        found += 1
        if found == count:
            break


def _broken(mesh: Mesh) -> Iterator[Case]:
    """Yield a body with each kind of damage."""
    body = _body(mesh)
    assert body is not None
    rng = np.random.default_rng(SEED)
    corners = mesh.vertices[mesh.faces]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    at_vertices = torch.zeros_like(mesh.vertices)
    for k in range(3):
        at_vertices.index_add_(0, mesh.faces[:, k], normals)
    inward = torch.nn.functional.normalize(at_vertices, dim=1)
    extent = float((mesh.vertices.amax(dim=0) - mesh.vertices.amin(dim=0)).amax())
    inner = replace(mesh, vertices=mesh.vertices - WALL * extent * inward)
    turned = replace(inner, faces=inner.faces.flip(1))
    kept = torch.from_numpy(rng.random(len(mesh.faces)) > GONE)
    moved = mesh.vertices + torch.tensor([SHIFT * extent, 0.0, 0.0])
    second = replace(mesh, vertices=moved)
    both = body + body.translate([SHIFT * extent, 0.0, 0.0])
    within = _body(inner)
    # In bodies thinner than two walls, the inner shell would protrude.
    if within is not None and (within - body).volume() < 1e-6 * body.volume():
        yield "doubled", _together(mesh, turned), body.volume(), mesh
        yield "nested", _together(mesh, inner), body.volume(), mesh
    yield "5 % gone", drop_unused(replace(mesh, faces=mesh.faces[kept])), body.volume(), mesh
    union = both.to_mesh()
    outside = Mesh(
        torch.tensor(union.vert_properties[:, :3]).float(), torch.tensor(union.tri_verts).long()
    )
    yield "intersecting", _together(mesh, second), both.volume(), outside


def _together(one: Mesh, other: Mesh) -> Mesh:
    assert one.vertex_colors is not None
    assert other.vertex_colors is not None
    return Mesh(
        torch.cat([one.vertices, other.vertices]),
        torch.cat([one.faces, other.faces + len(one.vertices)]),
        torch.cat([one.vertex_colors, other.vertex_colors]),
    )


def _body(mesh: Mesh) -> manifold3d.Manifold | None:
    """Convert a mesh to a manifold3d body; return None if it is not closed."""
    shape = bare_shape(mesh)
    if not len(shape.faces):
        return None
    own = manifold3d.Mesh(shape.vertices.numpy(), shape.faces.numpy().astype(np.uint32))
    body = manifold3d.Manifold(own)
    return body if body.status() == manifold3d.Error.NoError and body.volume() > 1e-3 else None


def _figures(
    made: Mesh, broken: Mesh, volume: float, outside: Mesh, resolution: int, seconds: float
) -> tuple[float, ...]:
    """Return one row of the results.

    Values: closed (1 or 0), volume error in percent, median and 99th percentile of the distance
    from the outside in cells, colour error, seconds.
    """
    extent = float((broken.vertices.amax(dim=0) - broken.vertices.amin(dim=0)).amax())
    shape = trimesh.Trimesh(outside.vertices.numpy(), outside.faces.numpy(), process=False)
    points, _ = trimesh.sample.sample_surface(shape, SAMPLES, seed=SEED)
    cells = _distance(made, points) / (extent / resolution)
    colors = float("nan")
    if made.vertex_colors is not None and outside.vertex_colors is not None:
        places = torch.from_numpy(points).float()
        near, weights = nearest_points(made, places)
        shown = surface_colors(made, made.faces[near], weights)
        triangle, own = nearest_points(outside, places)
        colors = float((shown - surface_colors(outside, outside.faces[triangle], own)).abs().mean())
    return (
        float(_body(made) is not None),
        100 * abs(made.volume() / volume - 1),
        float(np.median(cells)),
        float(np.quantile(cells, 0.99)),
        colors,
        seconds,
    )


def _distance(mesh: Mesh, points: Floats) -> Floats:
    triangle, weights = nearest_points(mesh, torch.from_numpy(points).float())
    nearest = (mesh.vertices[mesh.faces[triangle]] * weights[..., None]).sum(dim=1)
    found: Floats = np.linalg.norm(nearest.double().numpy() - points, axis=1)
    return found


def _by_pymeshfix(mesh: Mesh) -> Mesh:
    import pymeshfix

    shape = bare_shape(mesh)
    vertices, faces = pymeshfix.clean_from_arrays(shape.vertices.numpy(), shape.faces.numpy())
    return Mesh(torch.tensor(vertices).float(), torch.tensor(faces).long())


def _by_voxels(mesh: Mesh, resolution: int) -> Mesh:
    shape = trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy())
    pitch = float(shape.extents.max()) / resolution
    filled = shape.voxelized(pitch).fill()
    surface = filled.marching_cubes.apply_transform(filled.transform)
    return Mesh(torch.tensor(surface.vertices).float(), torch.tensor(surface.faces).long())
