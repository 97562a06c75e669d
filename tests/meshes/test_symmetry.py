"""Mirror planes of shapes whose symmetry is known, and what their mirror images show."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import trimesh

from pipelines.cameras import cameras_around
from pipelines.meshes import symmetry
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.projection import PosedImages, SurfacePoints, projected_colors
from pipelines.meshes.symmetry import MirrorPlane, mirror_planes, mirrored, with_mirror_image
from pipelines.rendering.render_mesh import render_mesh

from ..shapes import l_shape, to_mesh

_TURN_DEG = 35.0


def _turned_ellipsoid(symmetric: bool = True) -> Mesh:
    """Longer along an axis at 35 degrees, moved, in colours that its mirror image shares or not."""
    ball = trimesh.creation.icosphere(subdivisions=3)
    long, wide, high = torch.tensor(ball.vertices, dtype=torch.float32).unbind(dim=1)
    across = wide.abs() if symmetric else (wide > 0).float()
    colors = torch.stack([across, high / 2 + 0.5, long / 2 + 0.5], dim=1)
    cos, sin = math.cos(math.radians(_TURN_DEG)), math.sin(math.radians(_TURN_DEG))
    x, y = 0.9 * long + 0.2 * high, 0.5 * wide
    vertices = torch.stack([cos * x - sin * y + 0.1, sin * x + cos * y, 0.6 * high], dim=1)
    return Mesh(vertices, torch.tensor(ball.faces), colors)


def _photograph(mesh: Mesh) -> PosedImages:
    camera = cameras_around([0.0], [10.0], 4.0, 40.0)
    image = render_mesh(mesh, camera, 128, shaded=False)
    black = replace(mesh, vertex_colors=torch.zeros_like(mesh.vertices))
    mask = 1 - render_mesh(black, camera, 128, shaded=False)[:, :1]
    return PosedImages(image, camera, mask)


def test_mirror_planes_of_a_turned_ellipsoid_begin_with_its_own():
    first, *others = mirror_planes(_turned_ellipsoid())
    angle = math.degrees(math.atan2(float(first.normal[1]), float(first.normal[0]))) % 180
    assert angle == pytest.approx(90 + _TURN_DEG, abs=1.6)
    assert first.offset == pytest.approx(0.1 * float(first.normal[0]), abs=0.02)
    assert first.overlap > 0.99
    assert all(plane.distance > first.distance for plane in others)


def test_mirror_planes_of_an_asymmetric_shape_overlap_little():
    lying = replace(l_shape(), vertices=l_shape().vertices[:, [2, 1, 0]])
    assert all(plane.overlap < symmetry._MIN_OVERLAP for plane in mirror_planes(lying))


def test_mirrored_images_show_the_mirrored_mesh():
    mesh, plane = l_shape(), MirrorPlane(torch.tensor([0.6, 0.8, 0.0]), 0.3, 1.0, 0.0)
    camera = cameras_around([20.0], [15.0], 5.0, 40.0)
    images = mirrored(PosedImages(render_mesh(mesh, camera, 64), camera), plane)
    far = 2 * ((mesh.vertices @ plane.normal) - plane.offset)
    other = Mesh(
        mesh.vertices - far[:, None] * plane.normal, mesh.faces.flip(1), mesh.vertex_colors
    )
    again = render_mesh(other, images.cameras, 64)
    assert float((again - images.images).abs().mean()) < 0.01
    assert float((again - render_mesh(mesh, camera, 64)).abs().mean()) > 0.01


def test_mirror_image_shows_the_hidden_side_and_leaves_the_seen_side():
    mesh = _turned_ellipsoid()
    photograph = _photograph(mesh)
    both = with_mirror_image(mesh, photograph)
    assert both.fallback is not None
    corner = torch.full((len(mesh.vertices),), -1)
    corner[mesh.faces.reshape(-1)] = torch.arange(mesh.faces.numel())
    points = SurfacePoints(corner // 3, torch.nn.functional.one_hot(corner % 3, 3).float())
    plain, better = (projected_colors(mesh, points, [layer], None) for layer in (photograph, both))
    error, now = ((c - mesh.vertex_colors).abs().mean(dim=1) for c in (plain, better))
    seen, also_seen = (symmetry.seen_colors(mesh, layer)[1] for layer in (photograph, both))
    gained = (seen == 0) & (also_seen > 0.9)
    assert int(gained.sum()) > 100
    assert float(now[gained].mean()) < 0.01 < 0.05 < float(error[gained].mean())
    assert torch.equal(plain[seen == 1], better[seen == 1])


@pytest.mark.parametrize(
    "mesh",
    [
        _turned_ellipsoid(symmetric=False),
        replace(l_shape(), vertices=l_shape().vertices[:, [2, 1, 0]]),
    ],
    ids=["colours", "shape"],
)
def test_photograph_of_an_asymmetric_object_gets_no_mirror_image(mesh):
    assert with_mirror_image(mesh, _photograph(mesh)).fallback is None


def test_mirror_image_must_share_a_part_with_the_photograph(monkeypatch):
    box = trimesh.creation.box((0.4, 1, 1)).subdivide().subdivide()
    grey = replace(to_mesh(box), vertex_colors=torch.full((len(box.vertices), 3), 0.5))
    plane = MirrorPlane(torch.tensor([1.0, 0, 0]), 0.0, 1.0, 0.0)
    monkeypatch.setattr(symmetry, "mirror_planes", lambda mesh: [plane])
    assert with_mirror_image(grey, _photograph(grey)).fallback is None
