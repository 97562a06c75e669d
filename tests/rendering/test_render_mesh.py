"""Rendered meshes and the rasterizer, compared with analytic results."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest
import torch
import trimesh
from torch.nn import functional as F

from pipelines.cameras import Cameras, cameras_around
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.rasterization import visible_triangles
from pipelines.rendering.render_mesh import preview_sheet, render_mesh

from ..shapes import l_shape


def _ball(
    radius: float, center: tuple[float, float, float], color: tuple[float, float, float]
) -> Mesh:
    ball = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    vertices = torch.tensor(ball.vertices, dtype=torch.float32) + torch.tensor(center)
    return Mesh(vertices, torch.tensor(ball.faces), torch.tensor(color).expand(len(vertices), 3))


def test_render_mesh_of_a_ball_has_the_right_area_and_place():
    image = render_mesh(
        _ball(0.5, (0.0, 0.0, 0.0), (1, 0, 0)), cameras_around([0.0], [0.0], 4.0, 30.0), 200
    )[0]
    covered = (image[1] < 0.9).float()
    focal = 200 * 0.5 / torch.tan(torch.deg2rad(torch.tensor(15.0)))
    radius = focal * 0.5 / (4.0**2 - 0.5**2) ** 0.5
    assert float(covered.sum()) == pytest.approx(float(torch.pi * radius**2), rel=0.02)
    assert float((covered.sum(dim=0) * torch.arange(200)).sum() / covered.sum()) == pytest.approx(
        99.5, abs=0.5
    )


def test_render_mesh_from_the_front_has_plus_y_at_the_right_and_hides_the_back():
    camera = cameras_around([0.0], [0.0], 4.0, 30.0)
    right = render_mesh(_ball(0.2, (0.0, 0.5, 0.0), (0, 1, 0)), camera, 100)[0]
    assert float((right[0] < 0.9).float().sum(dim=0)[:50].sum()) == 0
    front, back = _ball(0.3, (0.5, 0.0, 0.0), (1, 0, 0)), _ball(0.3, (-0.5, 0.0, 0.0), (0, 0, 1))
    both = Mesh(
        torch.cat([back.vertices, front.vertices]),
        torch.cat([back.faces, front.faces + len(back.vertices)]),
        torch.cat([back.vertex_colors, front.vertex_colors]),
    )
    middle = render_mesh(both, camera, 100)[0, :, 50, 50]
    assert middle[0] > 0.9
    assert middle[2] < 0.1


def test_preview_sheet_shows_front_side_and_back_from_above():
    box = trimesh.creation.box((1, 1, 1))
    faces = torch.tensor(box.faces)
    vertices = torch.tensor(box.vertices, dtype=torch.float32)[faces].reshape(-1, 3)
    # +x red, -x green, +y blue, -y yellow, +z white, -z black
    colors = {
        (1, 0, 0): (1, 0, 0),
        (-1, 0, 0): (0, 1, 0),
        (0, 1, 0): (0, 0, 1),
        (0, -1, 0): (1, 1, 0),
        (0, 0, 1): (1, 1, 1),
        (0, 0, -1): (0, 0, 0),
    }
    own = torch.tensor(
        [colors[tuple(n)] for n in box.face_normals.round().astype(int).tolist()],
        dtype=torch.float32,
    ).repeat_interleave(3, dim=0)
    (sheet,) = preview_sheet(Mesh(vertices, torch.arange(36).view(-1, 3), own), 96)
    assert sheet.shape == (3, 96, 288)
    parts = [sheet[:, :, i * 96 : (i + 1) * 96] for i in range(3)]

    def share(part: torch.Tensor, color: tuple[int, int, int]) -> float:
        lit = part / part.amax(dim=0, keepdim=True).clamp_min(1e-3)
        return float(
            ((lit - torch.tensor(color)[:, None, None]).abs().amax(dim=0) < 0.1).float().mean()
        )

    front, side, back = parts
    # From azimuth 20, more of the front is visible than of +y.
    assert share(front, (1, 0, 0)) > share(front, (0, 0, 1)) > 0.02
    assert share(side, (0, 0, 1)) > share(side, (0, 1, 0)) > 0.02
    assert share(back, (0, 1, 0)) > share(back, (1, 1, 0)) > 0.02
    for part in parts:
        assert float((part.amax(dim=0) < 0.05).float().mean()) == 0, (
            "the black underside is not seen"
        )
        grey = (part.amax(dim=0) - part.amin(dim=0) < 0.02) & (part.amax(dim=0) < 0.95)
        assert float(grey.float().mean()) > 0.02, "the white top is visible, shaded"


def _square(distance: float, low: float, high: float) -> tuple[Mesh, Cameras]:
    """Return a square in the plane x = 0 and a camera facing it; red follows y, green follows z."""
    corners = torch.tensor([[0.0, low, low], [0, high, low], [0, high, high], [0, low, high]])
    mesh = Mesh(
        corners,
        torch.tensor([[0, 1, 2], [0, 2, 3]]),
        torch.cat([corners[:, 1:], torch.zeros(4, 1)], dim=1).clamp(0, 1),
    )
    return mesh, cameras_around([0.0], [0.0], distance, 60.0)


@pytest.mark.parametrize("textured", [False, True])
def test_render_mesh_pixels_have_the_colours_of_their_centres(textured):
    mesh, camera = _square(2.0, 0.0, 1.0)
    if textured:
        column, row = torch.meshgrid(
            (torch.arange(256) + 0.5) / 256, 1 - (torch.arange(256) + 0.5) / 256, indexing="xy"
        )
        mesh = replace(
            mesh,
            vertex_colors=None,
            uvs=mesh.vertices[:, 1:].contiguous(),
            texture=torch.stack([column, row, 0 * row], dim=-1),
        )
    size = 64
    image = render_mesh(mesh, camera, size)[0]
    half = 2.0 * math.tan(math.radians(30))
    # Coordinates of the pixels' centres on the square.
    place = ((torch.arange(size) + 0.5) / size * 2 - 1) * half
    inside = (place > 0.05) & (place < 0.95)
    y, z = place[None].expand(size, size), -place[:, None].expand(size, size)
    chosen = inside[None] & inside.flip(0)[:, None]
    origin = torch.tensor([2.0, 0, 0])
    # The light is at the camera.
    toward = F.normalize(origin - mesh.vertices[mesh.faces].mean(dim=1), dim=1)[:, 0]
    shade = torch.where(z < y, 0.55 + 0.45 * toward[0], 0.55 + 0.45 * toward[1])
    off_diagonal = chosen & ((z - y).abs() > 0.05)
    torch.testing.assert_close(image[0][off_diagonal], (y * shade)[off_diagonal], atol=2e-3, rtol=0)
    torch.testing.assert_close(image[1][off_diagonal], (z * shade)[off_diagonal], atol=2e-3, rtol=0)


@pytest.mark.parametrize("edge", [0.1, 0.37, 0.5, 0.81])
def test_render_mesh_places_edges_to_a_quarter_of_a_pixel(edge):
    """A pixel has 2 x 2 samples: its value is the share of them inside the mesh."""
    half = math.tan(math.radians(30)) * 2
    side = edge * half
    image = render_mesh(_square(2.0, -side, side)[0], cameras_around([0.0], [0.0], 2.0, 60.0), 40)[
        0
    ]
    covered = (1 - image[2]).sum() / (1 - image[2]).amax()
    fine = (torch.arange(80) + 0.5) / 80 * 2 - 1
    assert float(covered) == pytest.approx(float((fine.abs() <= edge).sum() ** 2) / 4, rel=1e-4)


def test_render_mesh_hides_triangles_behind_the_camera_and_darkens_back_faces():
    mesh, camera = _square(2.0, -0.5, 0.5)
    behind = replace(mesh, vertices=mesh.vertices + torch.tensor([5.0, 0, 0]))
    assert float(render_mesh(behind, camera, 16).amin()) == 1.0
    turned = render_mesh(
        replace(mesh, faces=mesh.faces.flip(1), vertex_colors=torch.ones(4, 3)), camera, 16
    )
    assert float(turned[0, :, 8, 8].amax()) == pytest.approx(0.2)
    grey = render_mesh(replace(mesh, vertex_colors=None), camera, 16)
    assert float(grey[0, 0, 8, 8]) == pytest.approx(0.7, abs=0.02)


def test_visible_triangles_are_the_nearest_with_their_own_coordinates():
    generator = torch.Generator().manual_seed(0)
    screen = torch.rand(60, 3, 3, generator=generator) * torch.tensor(
        [24.0, 24.0, 1.0]
    ) + torch.tensor([0, 0, 0.1])
    nearest = {
        p: (t, w)
        for p, t, w in zip(
            *(found.tolist() for found in visible_triangles(screen, 24)), strict=True
        )
    }
    for pixel in range(24 * 24):
        p = torch.tensor([pixel % 24, pixel // 24], dtype=torch.float32)
        a, b, c = (screen[:, i, :2] for i in range(3))
        cross = lambda u, v: u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]  # noqa: E731
        whole = cross(b - a, c - a)
        w = (
            torch.stack([cross(b - p, c - p), cross(c - p, a - p), cross(a - p, b - p)], dim=1)
            / whole[:, None]
        )
        inside = (w >= 0).all(dim=1)
        closeness = torch.where(inside, (w * screen[..., 2]).sum(dim=1), torch.tensor(-1.0))
        if not bool(inside.any()):
            assert pixel not in nearest
            continue
        triangle, barycentric = nearest[pixel]
        assert triangle == int(closeness.argmax())
        assert barycentric == pytest.approx(w[triangle].tolist(), abs=1e-4)


def test_visible_triangles_at_a_shared_edge_are_one_of_both():
    corners = torch.tensor([[0.0, 0, 1], [64, 0, 1], [64, 64, 1], [0, 64, 1]])
    screen = corners[torch.tensor([[0, 1, 2], [0, 2, 3]])]
    for _ in range(5):
        pixel, triangle, barycentric = visible_triangles(screen, 64)
        assert len(pixel) == 64 * 64
        place = (
            corners[torch.tensor([[0, 1, 2], [0, 2, 3]])][triangle][..., :2]
            * barycentric[..., None]
        ).sum(dim=1)
        row, column = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
        torch.testing.assert_close(
            place, torch.stack([column, row], dim=-1).view(-1, 2), atol=1e-3, rtol=0
        )


def test_render_mesh_principal_point_moves_the_image_along_its_axis():
    ball = _ball(0.3, (0.0, 0.0, 0.0), (1, 0, 0))
    cameras = cameras_around([0.0], [0.0], 4.0, 30.0)
    cameras.intrinsics_normalized[0, 0, 2] += 0.25
    cameras.intrinsics_normalized[0, 1, 2] -= 0.125
    covered = (render_mesh(ball, cameras, 64)[0, 1] < 0.9).nonzero().float().mean(dim=0)
    assert covered.tolist() == pytest.approx([31.5 - 8, 31.5 + 16], abs=0.3)


def test_visible_triangles_take_time_with_covered_pixels():
    """Needles are a pixel wide; the squares around them would cover a billion pixels."""
    corners = torch.rand(1000, 1, 2, generator=torch.Generator().manual_seed(0)) * 1024
    tips = torch.tensor([[0.0, 0.0], [1024.0, 1000.0], [1.0, 2.0]]) + 0 * corners
    screen = torch.cat([tips + corners / 1024, torch.ones(1000, 3, 1)], dim=-1)
    began = time.perf_counter()
    _, _, weights = visible_triangles(screen, 1024)
    assert time.perf_counter() - began < 10
    assert 1000 < len(weights) < 10_000
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(len(weights)), atol=1e-3, rtol=0)


def test_preview_sheet_shows_a_mesh_of_any_size_and_place():
    mesh = l_shape()
    moved = replace(mesh, vertices=mesh.vertices * 80 + 30)
    sheet = preview_sheet(mesh, 48)
    assert (preview_sheet(moved, 48) - sheet).abs().mean() < 1e-3
    assert (sheet < 0.9).any(dim=1).float().mean() > 0.05
