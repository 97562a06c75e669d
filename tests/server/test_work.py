"""Jobs in a worker, with the embedded models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipelines import animations
from pipelines.errors import InvalidInput, NothingInImage
from pipelines.meshes.io import load_mesh
from pipelines.server import work
from pipelines.server.protocol import CameraAngles, JobRequest
from pipelines.server.work import Maker, job_settings
from pipelines.settings import LoadSettings

from ..tiny_models import MODEL

CUP = Path(__file__).parents[2] / "workflows" / "cup.png"
SMALL = {"resolution": 32, "remove_bg": True}


@pytest.fixture(scope="module")
def maker(models_dir: Path) -> Maker:
    return Maker(LoadSettings(device="cpu", models_dir=models_dir))


def _views(folder: Path, count: int, size: tuple[int, int] = (128, 128)) -> list[Path]:
    paths = [folder / f"view-{i}.png" for i in range(count)]
    with Image.open(CUP) as image:
        for path in paths:
            image.convert("RGBA").resize(size).save(path)
    return paths


@pytest.mark.parametrize("remove_bg", [True, False])
@pytest.mark.parametrize("kind", ["obj", "glb", "stl", "ply"])
def test_server_worker_writes_every_format(maker, tmp_path, kind, remove_bg):
    stages = []
    settings = JobRequest(resolution=32, output_format=kind, remove_bg=remove_bg)
    names = maker(settings, 5, [CUP], tmp_path, lambda *stage: stages.append(stage[0]))
    assert names == [f"{tmp_path.name}.{kind}"]
    assert load_mesh(tmp_path / names[0]).volume() > 0.01
    assert "surface" in stages
    assert (tmp_path / work.PREVIEW).exists()


def test_job_settings_without_remove_bg_keep_the_objects_position():
    opaque, cut_out = torch.ones(1, 4, 32, 32), torch.zeros(1, 4, 32, 32)
    settings = JobRequest(foreground_ratio=0.5)
    for image, method in ((opaque, "plain"), (cut_out, "alpha")):
        kept = job_settings(settings, 5, [image])
        assert (kept.remove_bg, kept.foreground_ratio) == (method, None)
    removed = job_settings(JobRequest(foreground_ratio=0.5, remove_bg=True), 5, [opaque])
    assert (removed.remove_bg, removed.foreground_ratio) == ("auto", 0.5)


def test_server_worker_textured_obj_has_three_files_and_a_video(maker, tmp_path, monkeypatch):
    monkeypatch.setattr(animations, "VIDEO_FRAMES", 3)
    monkeypatch.setattr(animations, "VIDEO_SIZE", 64)
    settings = JobRequest(**SMALL, texture=512, max_faces=1500, render=True)
    names = maker(settings, 5, [CUP], tmp_path, lambda *_: None)
    assert names == [f"{tmp_path.name}.{kind}" for kind in ("obj", "mtl", "png", "mp4")]
    mesh = load_mesh(tmp_path / f"{tmp_path.name}.obj")
    assert mesh.texture is not None
    assert len(mesh.faces) <= 1500
    assert (tmp_path / f"{tmp_path.name}.mp4").read_bytes()[4:8] == b"ftyp"


def test_server_worker_makes_meshes_of_views_with_and_without_cameras(maker, tmp_path):
    settings = JobRequest(model_id=MODEL, resolution=32)
    six = maker(settings, 5, _views(tmp_path, 6), tmp_path, lambda *_: None)
    assert load_mesh(tmp_path / six[0]).volume() > 0
    angles = [CameraAngles(azimuth=a, elevation=10) for a in (0, 90, 180, 270)]
    with_cameras = settings.model_copy(
        update={"cameras": angles, "remove_bg": True, "texture": 512}
    )
    maker(with_cameras, 5, _views(tmp_path, 4, (160, 120)), tmp_path, lambda *_: None)
    assert load_mesh(tmp_path / f"{tmp_path.name}.obj").texture is not None
    with pytest.raises(InvalidInput, match="must be square"):
        maker(settings, 5, _views(tmp_path, 6, (160, 120)), tmp_path, lambda *_: None)


def test_server_worker_of_photographs_applies_settings_that_modelslab_lacks(maker, tmp_path):
    settings = JobRequest(
        model_id=MODEL, resolution=32, steps=1, sides=["front", 180], elevation=10, tries=2, size=9
    )
    (name,) = maker(settings, 5, _views(tmp_path, 2, (160, 120)), tmp_path, lambda *_: None)
    report = json.loads((tmp_path / work.REPORT).read_text())
    assert max(report["mesh"]["size"]) == pytest.approx(9, abs=1e-4)
    assert [one["seed"] for one in report["tries"]] == [5, 6]
    assert max(load_mesh(tmp_path / name).vertices.abs().amax(dim=0)) < 9


@pytest.mark.parametrize(
    ("fields", "count", "message"),
    [
        ({}, 6, "takes one image without cameras"),
        ({"steps": 4}, 1, "leave out steps"),
        ({"model_id": "triposg", "texture_from": "triplane"}, 1, "no colours of its own"),
        ({"model_id": MODEL, "sides": ["front", "top"]}, 2, "A side must be front"),
        ({"model_id": MODEL, "sides": [0, 90, 180, 270], "tries": 2}, 4, "leave out tries"),
        ({"printer": "large"}, 1, "printer must be width x depth x height"),
        ({"quads": 400, "max_faces": 100}, 1, "leave out max_faces"),
    ],
    ids=str,
)
def test_check_refuses_unsupported_requests(fields, count, message):
    with pytest.raises(InvalidInput, match=message):
        work.check(JobRequest(**fields), count)


def test_server_worker_of_a_one_image_model_refuses_several(maker, tmp_path):
    with pytest.raises(InvalidInput, match="takes one image without cameras"):
        maker(JobRequest(**SMALL), 5, _views(tmp_path, 6), tmp_path, lambda *_: None)


def test_server_worker_of_an_empty_image_raises(maker, tmp_path):
    Image.new("RGBA", (64, 64)).save(tmp_path / "empty.png")
    with pytest.raises(NothingInImage):
        maker(JobRequest(**SMALL), 5, [tmp_path / "empty.png"], tmp_path, lambda *_: None)
