from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from scipy import ndimage

from pipelines.errors import EmptySurface, InvalidInput
from pipelines.fields.near_surface import sample_near_surface, stride_for
from pipelines.reconstruction.reconstruct import reconstruct
from pipelines.settings import SurfaceSettings
from pipelines.surface.extraction import extract_mesh, extract_surface, surface_memory
from pipelines.surface.flexicubes import (
    CORNERS,
    EDGES,
    CubeGrid,
    _tables,
    close_boundary,
    flexicubes,
    has_surface,
)
from training.primitives import Primitive

from ..sample_fields import (
    SHAPES,
    AnalyticField,
    analytic_grid,
    density_of,
    half_inside,
    random_triplane,
    raw_density,
    sphere,
)
from ..tiny_models import VIEW_SIZE, ball_model


def _values(function, grid: CubeGrid) -> torch.Tensor:
    return function(torch.stack(torch.meshgrid(*(grid.axis,) * 3, indexing="ij"), dim=-1))


def test_flexicubes_tables_follow_the_rule():
    groups, counts, doubtful = _tables()
    assert int((doubtful >= 0).sum()) == 36
    assert int(counts.max()) == 4
    for case in range(256):
        crossed = [bool(case >> a & 1) != bool(case >> b & 1) for a, b in EDGES]
        assert [g >= 0 for g in groups[case].tolist()] == crossed
    single_corner = groups[1]
    assert {EDGES[e] for e in range(12) if single_corner[e] >= 0} == {(0, 1), (0, 4), (2, 0)}
    assert all(
        sum(abs(p - q) for p, q in zip(CORNERS[a], CORNERS[b], strict=True)) == 1 for a, b in EDGES
    )


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("resolution", [32, 64, 128])
def test_flexicubes_of_known_shapes_have_the_right_euler_number_and_volume(name, resolution):
    function, euler, volume = SHAPES[name]
    grid = CubeGrid(resolution, 2.1)
    vertices, faces = flexicubes(_values(function, grid), grid, 10_000)
    mesh = trimesh.Trimesh(vertices.numpy(), faces.numpy(), process=False)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.euler_number == euler
    assert mesh.volume == pytest.approx(volume, rel=0.01)
    assert function(vertices).abs().max() < 2.1 / resolution


def test_flexicubes_of_random_fields_are_closed_if_their_boundary_is():
    grid = CubeGrid(20, 2.1)
    values = close_boundary(torch.randn(21, 21, 21, generator=torch.Generator().manual_seed(3)))
    vertices, faces = flexicubes(values, grid, 700)
    edges = np.sort(faces.numpy()[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    _, counts = np.unique(edges, axis=0, return_counts=True)
    assert (counts % 2 == 0).all()  # no border
    assert trimesh.Trimesh(vertices.numpy(), faces.numpy(), process=False).volume > 0


def test_flexicubes_weights_move_vertices_and_chunks_do_not():
    grid = CubeGrid(24, 2.1)
    values = _values(sphere, grid)
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(24**3, 21, generator=generator)

    def weights(cube: torch.Tensor) -> torch.Tensor:
        return table[(cube[:, 0] * 24 + cube[:, 1]) * 24 + cube[:, 2]]

    plain = flexicubes(values, grid, 10**6)
    whole, chunked = (flexicubes(values, grid, size, weights=weights) for size in (10**6, 7))
    assert not torch.allclose(plain[0], whole[0], atol=1e-3)
    torch.testing.assert_close(whole[0], chunked[0], atol=1e-6, rtol=0)
    assert torch.equal(whole[1], chunked[1])


def test_flexicubes_of_empty_fields_have_no_triangles():
    grid = CubeGrid(8, 2.1)
    with pytest.raises(EmptySurface):
        flexicubes(torch.full((9, 9, 9), -1.0), grid, 100)
    inside = torch.full((9, 9, 9), 2.0)
    assert not has_surface(inside)
    assert has_surface(_values(sphere, grid))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("layer", "expected"), [(0, False), (1, True), (-2, True), (-1, False)])
def test_has_surface_ignores_the_outermost_layer(axis, layer, expected):
    for outside, inside in ((-1.0, 1.0), (-1.0, 0.0), (1.0, -1.0)):
        values = torch.full((9, 9, 9), outside)
        values.select(axis, layer)[4, 4] = inside
        assert has_surface(values) == expected


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("points", [33, 62, 129])
def test_refinement_gives_the_surface_of_the_whole_grid(name, points):
    function = SHAPES[name][0]
    axis = torch.linspace(-1, 1, points)
    grid = analytic_grid(function, axis)
    dense, refined = (sample_near_surface(grid, 0.0, stride, 5000) for stride in (1, 4))
    assert torch.equal(dense > 0, refined > 0)
    # At both ends of each crossed edge the values are exact, so the surface is the same.
    for axis_number in range(3):
        crossed = (dense > 0).int().diff(dim=axis_number) != 0
        low = [slice(None)] * 3
        low[axis_number] = slice(0, -1)
        assert torch.equal(dense[tuple(low)][crossed], refined[tuple(low)][crossed])


LEGS = [
    Primitive("cone", (0.045, 0.03, 0.3), (x, y, -0.3)) for x in (-0.6, 0.6) for y in (-0.5, 0.5)
]
THINGS = {
    "table": [Primitive("box", (0.7, 0.6, 0.045), (0, 0, 0)), *LEGS],
    "lamp": [
        Primitive("cone", (0.04, 0.04, 0.7), (0, 0, 0)),
        Primitive("cone", (0.4, 0.25, 0.2), (0, 0, 0.8)),
    ],
    "rings": [Primitive("torus", (0.5, 0.05, 0), (0, 0, z)) for z in (-0.5, 0, 0.5)],
    "snowman": [Primitive("ellipsoid", (0.5 - z / 3,) * 3, (0, 0, z)) for z in (-0.4, 0.2, 0.6)],
}


@pytest.mark.parametrize("name", THINGS)
def test_refinement_keeps_thin_parts(name):
    def level(points: torch.Tensor) -> torch.Tensor:
        flat = points.reshape(-1, 3)
        parts = torch.stack([part.outside_distance(flat) for part in THINGS[name]])
        return -parts.amin(dim=0).view(points.shape[:-1])

    axis = torch.linspace(-1.05, 1.05, 97)
    grid = analytic_grid(level, axis)
    stride = stride_for(float(axis[1] - axis[0]), 2 / 32)
    assert stride > 1
    dense, refined = (sample_near_surface(grid, 0.0, s, 100_000) for s in (1, stride))
    assert torch.equal(dense > 0, refined > 0)


def test_refinement_follows_parts_thinner_than_a_block():
    spacing = 2 / 96

    def ball_with_wire_and_crack(points: torch.Tensor) -> torch.Tensor:
        x, y, z = points.unbind(dim=-1)
        ball = 0.4 - points.norm(dim=-1)
        slanted = torch.stack([0.2 + z / 2, torch.full_like(z, 0.01)], dim=-1)
        wire = (0.75 * spacing - (torch.stack([x, y], dim=-1) - slanted).norm(dim=-1)).minimum(
            0.9 - z.abs()
        )
        crack = (x - 0.013).abs() - 0.75 * spacing  # cuts the ball in two
        # Clamp values far from the surface, so that they give no hint of it.
        return torch.maximum(ball.minimum(crack), wire).clamp(-spacing, spacing)

    grid = analytic_grid(ball_with_wire_and_crack, torch.linspace(-1, 1, 97))
    dense, refined = (sample_near_surface(grid, 0.0, stride, 5000) for stride in (1, 4))
    assert torch.equal(dense > 0, refined > 0)


def test_exact_extraction_finds_a_speck_between_coarse_points():
    def speck(points: torch.Tensor) -> torch.Tensor:
        ball = 0.3 - (points - 0.5).norm(dim=-1)
        # The speck is two cells away from the coarse points along each axis.
        far = 0.02 - (points + 0.5 + 2 * 2 / 96).norm(dim=-1)
        return torch.maximum(ball, far).clamp_min(-0.05)

    grid = analytic_grid(speck, torch.linspace(-1, 1, 97))
    dense, refined = (sample_near_surface(grid, 0.0, stride, 5000) > 0 for stride in (1, 4))
    lone = dense & ~refined
    assert 0 < int(lone.sum()) < 10
    assert torch.equal(dense & ~lone, refined)


def test_refinement_of_many_random_fields_misses_only_specks():
    axis = torch.linspace(-1, 1, 65)
    for seed in range(20):
        triplane = random_triplane("mesh", seed)
        grid = triplane.values_on_grid(axis, axis, axis)
        dense = sample_near_surface(grid, 0.0, 1, 10**6)
        level = float(dense.flatten()[::7].quantile(0.8)) + 1e-5  # no point lies exactly on it
        refined = sample_near_surface(grid, level, stride_for(2 / 64, triplane.detail), 10**6)
        missed = ((dense > level) != (refined > level)).numpy()
        # Missed parts are specks: thinner than two cells of the second finest grid.
        assert not ndimage.binary_erosion(missed, np.ones((3, 3, 3))).any(), f"seed {seed}"
        assert missed.sum() < 20


@pytest.mark.parametrize("surface", ["mesh", "nerf"])
def test_refinement_with_a_stride_of_8_loses_nothing_more(surface):
    axis = torch.linspace(-1, 1, 129)
    triplane = random_triplane(surface, 3)
    assert stride_for(2 / 128, triplane.detail) == 8
    grid = triplane.values_on_grid(axis, axis, axis)
    level = float(triplane.values(torch.rand(4000, 3) * 2 - 1, 4000).quantile(0.8))
    coarse, fine = (sample_near_surface(grid, level, stride, 10**6) for stride in (8, 4))
    assert torch.equal(coarse > level, fine > level)


def test_refinement_evaluates_a_fraction_of_the_grid():
    counted = 0

    def counting(points: torch.Tensor) -> torch.Tensor:
        nonlocal counted
        counted += points[..., 0].numel()
        return sphere(points)

    sample_near_surface(analytic_grid(counting, torch.linspace(-1, 1, 129)), 0.0, 4, 10_000)
    assert counted < 0.35 * 129**3


@pytest.mark.parametrize("surface", ["mesh", "nerf"])
def test_extract_mesh_in_chunks_or_refined_has_the_same_vertices(surface):
    triplane, threshold = half_inside(random_triplane(surface))
    settings = SurfaceSettings(resolution=40, threshold=threshold, chunk_size=100_000, exact=True)
    first = extract_surface(triplane, settings)
    for other in ({"chunk_size": 1000}, {"chunk_size": 3000, "exact": False}):
        vertices, faces = extract_surface(triplane, settings.model_copy(update=other))
        assert torch.equal(faces, first[1])
        torch.testing.assert_close(vertices, first[0], atol=1e-5, rtol=0)
    assert trimesh.Trimesh(first[0].numpy(), first[1].numpy(), process=False).volume > 0


def _box_field(half: tuple[float, float, float], kind: str) -> AnalyticField:
    """Return a box as a signed distance, or as a raw density that is high inside."""

    def level(points: torch.Tensor) -> torch.Tensor:
        q = points.abs() - torch.tensor(half)
        distance = -(q.clamp_min(0).norm(dim=-1) + q.amax(dim=-1).clamp_max(0))
        return distance if kind == "signed_distance" else 200 * distance + raw_density(10.0)

    return AnalyticField(level, kind=kind)


@pytest.mark.parametrize(("kind", "ends"), [("signed_distance", 1.05), ("density", 1.0)])
@pytest.mark.parametrize("closed", [True, False])
def test_extract_mesh_of_a_surface_beyond_the_grid_ends_at_its_border(kind, ends, closed):
    """A bar along x that is longer than the grid ends within a cell of the grid's border.

    There it is closed or open, as requested.
    """
    resolution = 40
    vertices, faces = extract_surface(
        _box_field((9.0, 0.35, 0.5), kind), SurfaceSettings(resolution=resolution), closed=closed
    )
    mesh = trimesh.Trimesh(vertices.numpy(), faces.numpy(), process=False)
    cell = 2 * ends / resolution
    assert mesh.is_watertight == closed
    low, high = mesh.bounds
    assert ends - 1.6 * cell < high[0] <= ends + 1e-6
    assert -ends - 1e-6 <= low[0] < -ends + 1.6 * cell
    assert high[1:] == pytest.approx([0.35, 0.5], abs=cell)
    assert low[1:] == pytest.approx([-0.35, -0.5], abs=cell)
    if closed:
        assert mesh.volume == pytest.approx(2 * ends * 0.7 * 1.0, rel=0.15)


def test_extract_mesh_of_a_density_lies_at_the_threshold():
    """For a raw density that falls linearly along z, the surface is a plane.

    It lies where softplus(raw - 1) equals the threshold.
    """

    def slope(points: torch.Tensor) -> torch.Tensor:
        return 20 - 30 * points[..., 2]

    field = AnalyticField(slope, kind="density")
    for threshold in (5.0, 10.0):
        vertices, _ = extract_surface(
            field, SurfaceSettings(resolution=64, threshold=threshold), closed=False
        )
        expected = (20 - raw_density(threshold)) / 30
        assert vertices[:, 2].tolist() == pytest.approx([expected] * len(vertices), abs=1e-3)
        assert vertices[:, 0].amin() == pytest.approx(-1.0)
        assert vertices[:, 1].amax() == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["signed_distance", "density"])
def test_extract_mesh_keeps_the_order_of_axes(kind):
    vertices, faces = extract_surface(
        _box_field((0.3, 0.5, 0.8), kind), SurfaceSettings(resolution=64)
    )
    assert (vertices.amax(dim=0) - vertices.amin(dim=0)).tolist() == pytest.approx(
        [0.6, 1.0, 1.6], abs=0.05
    )
    assert trimesh.Trimesh(vertices.numpy(), faces.numpy(), process=False).volume > 0


def test_surface_memory_grows_with_resolution_and_chunk_size():
    assert surface_memory(512) > 3 * surface_memory(256) > 6 * surface_memory(128)
    assert surface_memory(64, 2**20) > surface_memory(64, 2**10)


def test_extract_mesh_refuses_numbers_out_of_range():
    triplane = random_triplane("nerf")
    for bad in ({"resolution": 0}, {"resolution": 10000}, {"chunk_size": 0}, {"threshold": 0.0}):
        with pytest.raises(InvalidInput):
            extract_surface(triplane, SurfaceSettings(**bad))
    with pytest.raises(EmptySurface, match="no object"):
        extract_surface(triplane, SurfaceSettings(resolution=32, threshold=1e5))


@pytest.mark.parametrize("everywhere", [1.0, -1.0])
def test_extract_mesh_of_an_empty_signed_distance_is_an_error(everywhere):
    model = ball_model()
    with torch.no_grad():
        model.synthesizer["decoder"].net_sdf[-1].bias.fill_(everywhere * 9)
    triplane = reconstruct(model, torch.rand(6, 3, VIEW_SIZE, VIEW_SIZE))
    with pytest.raises(EmptySurface, match="The image shows no object"):
        extract_surface(triplane, SurfaceSettings(resolution=32))


def test_raw_density_inverts_density():
    for density in (0.01, 1.0, 10.0, 1000.0):
        assert float(
            density_of(torch.tensor(raw_density(density), dtype=torch.float64))
        ) == pytest.approx(density, rel=1e-9)


def test_extract_mesh_of_grid_values_of_0_is_closed_and_oriented():
    """The sides of a box lie on points of the grid, so whole layers of values are 0."""
    grid = CubeGrid(16, 2.0)

    def octahedron(points: torch.Tensor) -> torch.Tensor:
        return 0.5 - points.abs().sum(dim=-1)

    values = _values(octahedron, grid)
    assert int((values == 0).sum()) > 60
    for signed in (values, values.clamp(-0.25, 0.25)):
        vertices, faces = flexicubes(signed, grid, 10_000)
        mesh = trimesh.Trimesh(vertices.numpy(), faces.numpy(), process=False)
        assert mesh.is_watertight
        assert mesh.is_winding_consistent
        assert mesh.volume == pytest.approx(4 / 3 * 0.5**3, rel=0.03)


def _two_balls(points: torch.Tensor) -> torch.Tensor:
    small = 0.15 - (points - 0.75).norm(dim=-1)
    return torch.maximum(0.5 - points.norm(dim=-1), small)


def test_extract_mesh_has_the_fields_colours_and_no_floaters():
    field = AnalyticField(_two_balls, lambda points: points + 0.5)
    mesh = extract_mesh(field, SurfaceSettings(resolution=48))
    assert float(mesh.vertices.norm(dim=1).amax()) < 0.55
    torch.testing.assert_close(mesh.vertex_colors, (mesh.vertices + 0.5).clamp(0, 1))
    both = extract_mesh(field, SurfaceSettings(resolution=48, min_part_share=0.0, colors=False))
    assert both.vertex_colors is None
    assert float(both.vertices.amax()) > 0.85
