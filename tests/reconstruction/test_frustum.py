"""Frustum volumes compared with analytic shapes, and the embedded model on photographs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.cameras import cameras_around
from pipelines.fields.frustum_volume import FrustumVolume
from pipelines.fields.point_grid import PointGrid
from pipelines.image_to_3d import ImageTo3D
from pipelines.images.background import remove_background
from pipelines.images.reading import read_image
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.report import report
from pipelines.meshes.texture import TextureLayout, texture_from_images
from pipelines.reconstruction.frustum import FrustumConfig, blurred, outline_colors
from pipelines.reconstruction.reconstruct import reconstruct
from pipelines.rendering.render_field import render_field
from pipelines.rendering.render_mesh import render_mesh
from pipelines.result import Result
from pipelines.settings import SurfaceSettings
from pipelines.surface.extraction import extract_mesh

FOV, HALF_DEPTH, BINS, SIDE = 40.0, 0.85, 48, 64
DISTANCE = 0.5 / math.tan(math.radians(FOV / 2))


def _frustum_points() -> Tensor:
    """Return camera coordinates (BINS, SIDE, SIDE, 3) of the volume's cells, in image sides."""
    line = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    w = (torch.arange(BINS) + 0.5) / BINS * 2 - 1
    w, v, u = torch.meshgrid(w, line, line, indexing="ij")
    z = -w * HALF_DEPTH
    near = (DISTANCE - z) / DISTANCE / 2
    return torch.stack([u * near, -v * near, z], dim=-1)


def _volume(inside, elevation: float = 0.0, pixels: int = 256) -> FrustumVolume:
    """Return the volume and exact mask of a solid: `inside` is positive at camera points in it."""
    occupancy = (inside(_frustum_points()) * 60).clamp(-4, 4)[None, None]
    line = (torch.arange(pixels) + 0.5) / pixels * 2 - 1
    v, u = torch.meshgrid(line, line, indexing="ij")
    mask = torch.zeros(pixels, pixels)
    for w in torch.linspace(-1, 1, 161):
        z = -w * HALF_DEPTH
        near = (DISTANCE - z) / DISTANCE / 2
        points = torch.stack([u * near, -v * near, z.expand_as(u)], dim=-1)
        mask = torch.maximum(mask, (inside(points) > 0).float())
    image = torch.tensor([0.9, 0.2, 0.1]).view(1, 3, 1, 1).expand(1, 3, pixels, pixels)
    color = torch.logit(torch.tensor([0.1, 0.2, 0.9])).view(1, 3, 1, 1, 1).expand(1, 3, 6, 64, 64)
    return FrustumVolume.of(
        occupancy,
        color,
        image,
        mask[None, None],
        elevation_deg=elevation,
        fov_y_deg=FOV,
        half_depth=HALF_DEPTH,
    )


def _ball(points: Tensor) -> Tensor:
    return 0.3 - points.norm(dim=-1)


def test_frustum_volume_of_a_ball_is_a_centred_ball():
    mesh = extract_mesh(_volume(_ball), SurfaceSettings(resolution=96))
    assert report(mesh).watertight
    size = mesh.vertices.amax(dim=0) - mesh.vertices.amin(dim=0)
    assert float(size.amax()) == pytest.approx(1.9, abs=0.06)
    assert float(size.amin()) == pytest.approx(float(size.amax()), rel=0.06)
    middle = (mesh.vertices.amax(dim=0) + mesh.vertices.amin(dim=0)) / 2
    assert middle.tolist() == pytest.approx([0, 0, 0], abs=0.05)
    assert mesh.volume() == pytest.approx(math.pi / 6 * float(size.prod()), rel=0.08)


@pytest.mark.parametrize("elevation", [0.0, 30.0, -10.0])
def test_frustum_volume_of_an_upright_rod_is_upright_at_any_elevation(elevation):
    e = math.radians(elevation)
    up = torch.tensor([0.0, math.cos(e), math.sin(e)])  # the world's up in the camera's axes

    def rod(points: Tensor) -> Tensor:
        along = points @ up
        across = (points - along[..., None] * up).norm(dim=-1)
        return torch.minimum(0.07 - across, 0.3 - along.abs())

    mesh = extract_mesh(_volume(rod, elevation), SurfaceSettings(resolution=96))
    size = mesh.vertices.amax(dim=0) - mesh.vertices.amin(dim=0)
    assert float(size[2]) == pytest.approx(1.9, abs=0.1)
    assert float(size[:2].amax()) < 0.65


def test_frustum_volume_keeps_right_and_front():
    def two(points: Tensor) -> Tensor:
        large = 0.2 - points.norm(dim=-1)
        right = 0.08 - (points - torch.tensor([0.25, 0.0, 0.0])).norm(dim=-1)
        front = 0.08 - (points - torch.tensor([0.0, 0.0, 0.25])).norm(dim=-1)
        return torch.stack([large, right, front]).amax(dim=0)

    volume = _volume(two)
    unit = volume.scale
    center = volume.center
    places = torch.tensor([[0.0, 0.25, 0.0], [0.0, -0.25, 0.0], [0.25, 0.0, 0.0], [-0.25, 0, 0]])
    inside = volume.values((places - center) * unit, 100) > 0
    assert inside.tolist() == [True, False, True, False], "right of the image is +y, front is +x"


def test_frustum_volume_outline_is_as_sharp_as_the_image():
    """The mask, four times as fine as the volume, bounds a volume that is too wide."""
    fat = _volume(lambda points: 0.4 - points.norm(dim=-1))
    volume = replace(_volume(_ball), occupancy=fat.occupancy)
    rows = volume.scale * torch.linspace(0.25, 0.36, 111)
    points = torch.stack([torch.zeros(111), rows, torch.zeros(111)], dim=1)
    edge = float((rows[volume.values(points - volume.center * volume.scale, 50) > 0]).amax())
    silhouette = 0.3 / math.sqrt(1 - (0.3 / DISTANCE) ** 2)  # a ball's outline in perspective
    assert edge / volume.scale == pytest.approx(silhouette, abs=1 / 200)


def test_frustum_volume_has_the_images_colours_on_the_cameras_side_only():
    mesh = extract_mesh(_volume(_ball), SurfaceSettings(resolution=64))
    front, back = mesh.vertices[:, 0] > 0.5, mesh.vertices[:, 0] < -0.3
    assert mesh.vertex_colors[front].mean(dim=0).tolist() == pytest.approx(
        [0.9, 0.2, 0.1], abs=0.02
    )
    assert mesh.vertex_colors[back].mean(dim=0).tolist() == pytest.approx([0.1, 0.2, 0.9], abs=0.02)


def test_frustum_volume_does_not_smear_the_images_colours_along_rays():
    """The side of the solid consists of rays along the outline."""

    def swept_disc(points: Tensor) -> Tensor:
        x, y, z = points.unbind(dim=-1)
        radius = (x**2 + y**2).sqrt() * DISTANCE / (DISTANCE - z)
        return torch.minimum(0.3 - radius, 0.3 - z.abs())

    mesh = extract_mesh(_volume(swept_disc), SurfaceSettings(resolution=64))
    behind = mesh.vertices[:, 0] < 0.3
    assert int(behind.sum()) > 1000
    blue = torch.tensor([0.1, 0.2, 0.9])
    assert float((mesh.vertex_colors[behind] - blue).abs().max()) < 0.02


def test_frustum_volume_is_nearly_a_distance_where_depth_is_limited():
    """Next to the outline the limit is so steep that its own values would make steps."""
    ball = _volume(_ball)
    volume = FrustumVolume.of(
        torch.full_like(ball.occupancy, 4.0),
        ball.raw_color,
        ball.image,
        (ball.outline > 0).float(),
        uncertain=torch.full((1, 1, SIDE, SIDE), 0.1),
        elevation_deg=0.0,
        fov_y_deg=FOV,
        half_depth=HALF_DEPTH,
    )
    surface = extract_mesh(volume, SurfaceSettings(resolution=128)).vertices
    step = 0.004
    beside = surface + step * torch.cat([torch.eye(3), -torch.eye(3)])[:, None]
    forward, backward = volume.values(beside.view(-1, 3), 1 << 16).view(2, 3, -1)
    slope = ((forward - backward) / (2 * step)).norm(dim=0)
    expected = 0.5 * SIDE / volume.scale  # half a unit per pixel of the volume
    assert float(slope.quantile(0.99)) < 5 * expected, "it would be 45 times as steep"


def test_frustum_volume_from_its_camera_looks_like_the_image():
    frame = render_field(_volume(_ball), cameras_around([0.0], [0.0], 4.0, 30.0), 32)
    assert frame.rgb[0, :, 16, 16].tolist() == pytest.approx([0.9, 0.2, 0.1], abs=0.02)


def test_frustum_volume_keeps_the_width_of_thin_parts():
    """The part is half a cell wide, and the model predicts white around it with certainty."""
    torch.manual_seed(0)
    model = FrustumConfig(image_size=64, layers=1).build().eval().requires_grad_(False)

    def answers(images, masks):
        occupancy = torch.full((len(images), 1, 48, 32, 32), -9.0)
        occupancy[:, :, 22:26, :, 15] = -1.0
        occupancy[:, :, 22:26, :, 16] = -1.0
        color = torch.zeros(len(images), 3, 6, 32, 32)
        return occupancy, color, torch.zeros(len(images), 1)

    model.forward = answers
    mask = torch.zeros(1, 1, 256, 256)
    mask[..., 16:240, 126:130] = 1
    field = reconstruct(model, torch.ones(1, 3, 256, 256), masks=mask)
    x = torch.linspace(-0.1, 0.1, 801)
    middle = torch.stack([torch.zeros_like(x), x, torch.zeros_like(x)], dim=1)
    inside = field.values(middle, 1000) > 0
    width = float(inside.float().mean()) * 0.2 / field.scale * 256
    assert width == pytest.approx(4, abs=1.2), "pixels"
    height = torch.linspace(-0.99, 0.99, 801)
    along = torch.stack([torch.zeros_like(x), torch.zeros_like(x), height], dim=1)
    assert float((field.values(along, 1000) > 0).float().mean()) > 0.93, "unbroken"


def test_blurred_smooths_along_all_three_axes_and_keeps_the_sum():
    logits = torch.zeros(1, 12, 12, 12)
    logits[0, 5, 6, 7] = 1
    taps = torch.tensor([1.0, 4, 6, 4, 1]) / 16
    expected = torch.zeros(12, 12, 12)
    expected[3:8, 4:9, 5:10] = taps[:, None, None] * taps[:, None] * taps
    torch.testing.assert_close(blurred(logits)[0], expected)


def test_blurred_keeps_constants_at_the_borders():
    torch.testing.assert_close(blurred(torch.ones(2, 6, 5, 5)), torch.ones(2, 6, 5, 5))


def _disc(radius: float) -> Tensor:
    line = torch.arange(128) + 0.5 - 64
    distance = (line**2 + line[:, None] ** 2).sqrt()
    return (radius + 0.5 - distance).clamp(0, 1)[None, None]


def test_outline_colours_continue_the_rim_over_the_whole_image():
    """A red disc with a blue middle: neither the blue nor the white background is left."""
    red, blue = torch.tensor([0.8, 0.1, 0.1]), torch.tensor([0.1, 0.1, 0.8])
    mask, middle = _disc(50), _disc(30)
    shown = red.view(1, 3, 1, 1) * (1 - middle) + blue.view(1, 3, 1, 1) * middle
    found = outline_colors(shown * mask + 1 - mask, mask)
    assert found.shape == (1, 3, 64, 64)
    torch.testing.assert_close(found, red.view(1, 3, 1, 1).expand_as(found), atol=0.02, rtol=0)


def test_outline_colours_change_from_one_side_to_the_other():
    mask = _disc(50)
    left = (torch.arange(128) < 64).float().expand(1, 1, 128, 128)
    shown = torch.cat([left, 1 - left, torch.zeros_like(left)], dim=1)
    red = outline_colors(shown * mask + 1 - mask, mask)[0, 0, 32, 9:-9]
    assert float(red[0]) > 0.95
    assert float(red[-1]) < 0.05
    assert bool((red.diff() < 0.01).all()), "it falls everywhere"


def test_outline_colours_of_a_thin_part_are_its_own():
    """Nothing of the white around a stick three pixels wide is left, even beside it."""
    mask = torch.zeros(1, 1, 128, 128)
    mask[..., 10:118, 63:66] = 1
    red = torch.tensor([0.8, 0.1, 0.1]).view(1, 3, 1, 1)
    found = outline_colors(red * mask + 1 - mask, mask)[..., 10:54, 28:36]
    torch.testing.assert_close(found, red.expand_as(found), atol=0.02, rtol=0)


def test_outline_colours_of_an_empty_mask_are_finite():
    found = outline_colors(torch.ones(1, 3, 128, 128), torch.zeros(1, 1, 128, 128))
    assert bool(found.isfinite().all())


def test_point_grid_evaluates_each_point_once():
    x, y, z = torch.linspace(0, 1, 5), torch.linspace(2, 3, 6), torch.linspace(4, 5, 7)
    grid = PointGrid(lambda p: p @ torch.tensor([1.0, 10.0, 100.0]), x, y, z)
    volume = grid.volume(50)
    assert volume.shape == grid.shape == (5, 6, 7)
    assert float(volume[2, 3, 4]) == pytest.approx(float(x[2] + 10 * y[3] + 100 * z[4]), rel=1e-6)
    index = torch.tensor([[1, 2, 3], [4, 5, 6]])
    torch.testing.assert_close(grid.at(index, 1)[:, 0], volume[index.unbind(1)])


def test_frustum_model_of_a_mirrored_image_gives_the_mirrored_volume():
    torch.manual_seed(0)
    model = FrustumConfig(image_size=64, layers=1).build().eval().requires_grad_(False)
    y, x = torch.meshgrid(torch.arange(80.0), torch.arange(80.0), indexing="ij")
    mask = (((x - 30) / 20) ** 2 + ((y - 40) / 30) ** 2 < 1).float()[None, None]
    image = torch.rand(1, 3, 80, 80) * mask + 1 - mask
    one, other = (
        reconstruct(model, own, masks=its)
        for own, its in ((image, mask), (image.flip(-1), mask.flip(-1)))
    )
    torch.testing.assert_close(one.occupancy, other.occupancy.flip(-1), atol=1e-4, rtol=0)
    assert one.elevation_deg == pytest.approx(other.elevation_deg, abs=1e-3)
    mesh = extract_mesh(one, SurfaceSettings(resolution=48))
    assert len(mesh.faces) > 100
    moved = one.to("cpu").values(torch.rand(9, 3), 4)
    assert moved.shape == (9,)


@pytest.fixture(scope="module")
def cup() -> Result:
    image = read_image(Path(__file__).parents[2] / "workflows" / "cup.png")
    return ImageTo3D.load(device="cpu")(image)


def test_photo_model_makes_one_closed_object_with_the_images_outline(cup):
    assert report(cup.mesh).watertight
    assert report(cup.mesh).components == 1
    assert cup.views is None
    shape, radius = cup.mesh.center_for_camera(FOV)
    drawn = render_mesh(shape, cameras_around([0.0], [cup.field.elevation_deg], radius, FOV), 128)[
        :, :1
    ]
    mask = remove_background(cup.photo.framed, "plain")

    def boxed(solid: Tensor) -> Tensor:
        rows, columns = solid.any(dim=1).nonzero()[:, 0], solid.any(dim=0).nonzero()[:, 0]
        box = solid[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].float()[None, None]
        return F.interpolate(box, size=(64, 64), mode="area") > 0.5

    ours, theirs = boxed(drawn[0, 0] < 0.999), boxed(mask[0, 0] > 0.5)
    assert float((ours & theirs).sum() / (ours | theirs).sum()) > 0.9


def test_photo_model_camera_sees_the_mesh_where_the_photograph_has_it(cup):
    (shots,) = cup.layers()
    assert shots.masks is not None
    black = Mesh(cup.mesh.vertices, cup.mesh.faces, torch.zeros_like(cup.mesh.vertices))
    drawn = render_mesh(black, shots.cameras, 256, shaded=False)[0, 0] < 0.5
    mask = F.interpolate(shots.masks, size=(256, 256), mode="area")[0, 0] > 0.5
    assert float((drawn & mask).sum() / (drawn | mask).sum()) > 0.93
    assert cup.layers("views") == []


def test_photo_model_front_has_the_photographs_colours(cup):
    seen = render_field(cup.field, cameras_around([0.0], [cup.field.elevation_deg], 4.0, 30.0), 64)
    red, green, blue = (seen.rgb[0, i][seen.weight[0, 0] > 0.9].mean() for i in range(3))
    assert float(red) > float(green) > float(blue)
    assert float(red) > 0.45


def test_photo_model_texture_has_the_photographs_colours(cup):
    painted = texture_from_images(cup.mesh, [], TextureLayout(512, 3000), field=cup.field)
    assert painted.texture is not None
    assert float((painted.texture[..., 0] - painted.texture[..., 2]).mean()) > 0.1
