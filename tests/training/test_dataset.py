from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from training import dataset
from training.dataset import ANYWHERE, NEAR
from training.objects import write_object_file
from training.photographs import Paint, photographs
from training.shapes import Shape
from training.views import CONFIG, Views, framed_views

from .conftest import soup_of


def test_dataset_inside_is_what_no_camera_sees(photographed_ball):
    inside = np.unpackbits(photographed_ball["inside"])[: NEAR + ANYWHERE].astype(bool)
    distance = np.linalg.norm(photographed_ball["points"].astype(float), axis=1)
    assert inside[distance < 0.44].all()
    assert not inside[distance > 0.48].any()


def test_surface_normals_point_outward(photographed_ball):
    surface = photographed_ball["surface"].astype(float)
    normals = photographed_ball["normal"] / 127
    cosine = (normals * surface).sum(axis=1) / np.linalg.norm(surface, axis=1)
    assert cosine.min() > 0.97


def test_normals_of_sheets_are_unknown():
    sheet = soup_of(trimesh.Trimesh([[0, 0, 0.0], [0.5, 0, 0], [0, 0.5, 0]], [[0, 1, 2]]))
    _, _, normals = Shape.of(*sheet).sample_surface(50, np.random.default_rng(0))
    assert not normals.any()


def test_dataset_images_are_framed_with_first_hits_on_the_ball(photographed_ball):
    made = photographed_ball
    for image, mask, first, camera in zip(
        made["image"], made["mask"], made["first"], made["camera"], strict=True
    ):
        rows, columns = (mask > 127).any(axis=1).nonzero()[0], (mask > 127).any(axis=0).nonzero()[0]
        for line in (rows, columns):
            assert 0.8 * 128 - 1 <= len(line) <= 0.95 * 128 + 1
            assert line[0] >= 2
            assert line[-1] <= 125
        assert (image[mask == 0] == 255).all()
        views = Views(torch.from_numpy(camera[None]))
        middle = views.frustum(views.axes[:, 2:] * 0)[0, 0]
        column, row = ((middle[:2] + 1) / 2 * 64).long().tolist()
        near = views.frustum(views.axes[:, 2:] * 0.45)[0, 0]
        assert float(first[row, column]) == pytest.approx(float(near[2]), abs=0.03)
        assert (first[[0, 0, -1, -1], [0, -1, 0, -1]] > 1.5).all(), "corners are background"


def test_dataset_thin_pole_is_not_cut_off():
    pole = trimesh.creation.box([0.004, 0.004, 0.99])
    mesh = trimesh.util.concatenate([pole, trimesh.creation.icosphere(2, 0.1)])
    shape = Shape.of(*soup_of(mesh))
    views = framed_views(shape, 8, np.random.default_rng(0))
    places = views.frustum(torch.from_numpy(shape.vertices)[None])[..., :2]
    assert float(places.abs().amax()) < 1
    spans = (places.amax(dim=1) - places.amin(dim=1)).amax(dim=1) / 2
    assert ((spans > 0.799) & (spans < 0.951)).all()


def test_lenses_span_20_to_70_mm(ball):
    shape = Shape.of(*ball)
    fov = framed_views(shape, 200, np.random.default_rng(0)).numbers[:, 2]
    assert float(fov.amin()) < 18
    assert float(fov.amax()) > 48


def test_edges_flatter_than_the_crease_angle_are_shaded_smoothly(ball):
    smooth, flat = (Shape.of(*ball, crease_deg=crease) for crease in (40, 0))
    outward = smooth.corners / np.linalg.norm(smooth.corners, axis=2, keepdims=True)
    sign = np.sign((smooth.normals * outward[:, 0]).sum(axis=1))[:, None, None]
    assert (sign * smooth.corner_normals * outward).sum(axis=2).min() > 0.999
    assert (sign * flat.corner_normals * outward).sum(axis=2).min() < 0.997


def test_corners_of_a_box_stay_sharp():
    shape = Shape.of(*soup_of(trimesh.creation.box([0.8, 0.8, 0.8])), crease_deg=40)
    np.testing.assert_allclose(shape.corner_normals, shape.normals[:, None].repeat(3, 1), atol=1e-9)


def test_dataset_lamp_lights_the_side_it_shines_on():
    """Shadows and shading are smooth on a ball, and no image is black or blank."""
    shape, rng = Shape.of(*soup_of(trimesh.creation.icosphere(3, 0.5))), np.random.default_rng(1)
    views = framed_views(shape, 6, rng)
    images, masks, _ = photographs(shape, Paint(rng), views, rng)
    solid = masks == 255
    for image, inside in zip(images, solid, strict=True):
        assert 20 < image[inside].mean() < 235
        assert image[inside].std() > 4


def test_frustum_and_world_places_are_inverse():
    numbers = torch.tensor([[30.0, 20, 40, 0.1, -0.2, 0.3, 0.9], [200.0, -10, 25, 0, 0, 0, 1.2]])
    views, generator = Views(numbers), torch.Generator().manual_seed(0)
    points = torch.rand(2, 50, 3, generator=generator) - 0.5
    assert torch.allclose(views.world(views.frustum(points)), points, atol=1e-5)


def test_dataset_command_makes_missing_files_only(tmp_path, ball, monkeypatch):
    write_object_file(tmp_path / "objects_some.npz", [("one", ball), ("two", ball)])
    cache = tmp_path / "cache"
    arguments = [
        str(cache),
        str(tmp_path / "objects_some.npz"),
        "--images",
        "1",
        "--processes",
        "1",
    ]
    few = ["--deformed", "0", "--joined", "0", "--smooth", "0", "--procedural", "0"]
    monkeypatch.setattr("sys.argv", ["dataset", *arguments, *few])
    dataset.main()
    files = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert sorted(files) == ["some-00000.npz", "some-00001.npz"]
    with np.load(cache / "some-00000.npz") as held_out, np.load(cache / "some-00001.npz") as other:
        assert "corners" in held_out.files
        assert "corners" not in other.files
        assert held_out["image"].shape == (1, CONFIG.image_size, CONFIG.image_size, 3)
    dataset.main()
    assert files == {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
