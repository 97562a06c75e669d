"""One job, as the command line, the catalogue and the server run it."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipelines import finishing, job
from pipelines.cameras import cameras_around
from pipelines.errors import InvalidInput, UnreadableImage
from pipelines.image_to_3d import ImageTo3D
from pipelines.job import Runner, finish, prepare, reconstruct, run
from pipelines.meshes.io import load_mesh
from pipelines.multiview.photographs import Viewpoints
from pipelines.result import JobResult, Result
from pipelines.settings import (
    JobSettings,
    LoadSettings,
    OutputSettings,
    SurfaceSettings,
    ViewSettings,
)

from .sample_fields import AnalyticField
from .shapes import ball
from .tiny_models import MODEL

CUP = Path(__file__).parents[1] / "workflows" / "cup.png"
COARSE = SurfaceSettings(resolution=32)
QUICK = JobSettings(model=MODEL, views=ViewSettings(steps=1, seed=3), surface=COARSE)


def _output(**values: object) -> JobSettings:
    return QUICK.model_copy(update={"output": OutputSettings(**values)})


def _seeded(seed: int) -> JobSettings:
    return QUICK.model_copy(update={"views": ViewSettings(steps=1, seed=seed)})


@pytest.fixture(scope="module")
def photo() -> ImageTo3D:
    return job.load(JobSettings(), LoadSettings(device="cpu"))


def test_run_returns_files_and_statistics(tiny, image_path, tmp_path):
    result = run(tiny, [image_path], QUICK, tmp_path, "disc")
    assert (result.exception, result.error, result.seed) == (None, "", 3)
    assert list(result.files) == [tmp_path / "disc.obj"]
    assert result.report is not None
    assert result.report.triangles == len(load_mesh(tmp_path / "disc.obj").faces)
    assert set(result.seconds) == {
        *("reading", "background", "framing", "views", "triplane", "surface", "finishing", "files")
    }


def test_summary_is_json_with_licenses_and_measurements(tiny, image_path, tmp_path):
    result = run(tiny, [image_path], QUICK, tmp_path, "disc")
    summary = json.loads(json.dumps(result.summary()))
    assert summary["files"] == [str(tmp_path / "disc.obj")]
    assert summary["mesh"]["triangles"] == result.report.triangles
    assert summary["licenses"] == {
        MODEL: "Apache-2.0",
        "zero123plus-instantmesh": "CC-BY-NC-4.0 (U-Net: Apache-2.0)",
    }
    assert (summary["seed"], summary["error"]) == (3, "")


def test_run_with_quads_does_not_decimate_for_the_texture(tiny, image_path, tmp_path, monkeypatch):
    limits = []

    def texture(mesh, layers, layout, **_):
        limits.append(layout.max_faces)
        return mesh

    monkeypatch.setattr(finishing, "texture_from_images", texture)
    monkeypatch.setattr(finishing, "remesh_quads", lambda mesh, *_: replace(mesh, paired=True))
    run(
        tiny,
        [image_path],
        _output(quads=400, texture=512, texture_from="triplane"),
        tmp_path,
        "disc",
    )
    assert limits == [0]


@pytest.mark.parametrize(
    ("output", "printing"),
    [
        ({}, False),
        ({"format": "3mf"}, True),
        ({"printer": "9x9x9"}, True),
        ({"orient": True}, True),
    ],
    ids=str,
)
def test_run_with_print_settings_reports_printability(tiny, image_path, tmp_path, output, printing):
    found = run(tiny, [image_path], _output(**output), tmp_path, "disc").summary()["mesh"]["print"]
    assert (found is not None) is printing
    assert not printing or found["fits"] is (True if "printer" in output else None)


def test_run_with_a_missing_file_returns_the_error(tiny, tmp_path):
    result = run(tiny, [tmp_path / "none.png"], QUICK, tmp_path, "none")
    assert isinstance(result.exception, UnreadableImage)
    assert result.error == f"There is no file {tmp_path / 'none.png'}."
    assert (result.files, result.report) == ((), None)


def test_run_with_an_unexpected_error_names_its_class(tiny, image_path, tmp_path):
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero")

    result = run(tiny, [image_path], QUICK, tmp_path, "disc", progress=fail)
    assert result.error == "ZeroDivisionError: by zero"


def test_run_raises_keyboard_interrupts(tiny, image_path, tmp_path):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tiny, [image_path], QUICK, tmp_path, "disc", progress=interrupt)


def test_run_reports_the_stages_in_order(tiny, image_path, tmp_path):
    stages: list[str] = []
    settings = _output(orbit=2)
    run(
        tiny, [image_path], settings, tmp_path, "a", progress=lambda *_, stage: stages.append(stage)
    )
    assert list(dict.fromkeys(stages)) == [
        *("background", "framing", "views", "triplane", "surface", "orbit")
    ]


@pytest.mark.parametrize("stage", ["decimation", "texture"])
def test_finish_stops_if_progress_raises(tmp_path, stage):
    def stop(*_, stage: str) -> None:
        raise InterruptedError(stage)

    field = AnalyticField(lambda points: 0.5 - points.norm(dim=-1))
    result = Result(ball(), field, None, None, 0, {})
    output = OutputSettings(max_faces=500) if stage == "decimation" else OutputSettings(texture=512)
    with pytest.raises(InterruptedError, match=stage):
        finish(result, output, tmp_path, "ball", progress=stop)


def test_stages_with_pickled_results_write_what_run_writes(tiny, image_path, tmp_path):
    prepared = pickle.loads(pickle.dumps(prepare([image_path], QUICK)))
    result = pickle.loads(pickle.dumps(reconstruct(tiny, prepared, QUICK)))
    parts = finish(result, QUICK.output, tmp_path, "parts")
    whole = run(tiny, [image_path], QUICK, tmp_path, "whole")
    assert parts.seconds.keys() == whole.seconds.keys()
    assert parts.files[0].read_bytes() == whole.files[0].read_bytes()


def test_run_of_images_with_cameras_writes_mesh_and_views(tiny, image_path, tmp_path):
    cameras = cameras_around([0.0, 90.0, 180.0, 270.0], [10.0] * 4, 4.0, 30.0)
    settings = _output(texture=512, save_views=True)
    result = run(tiny, [image_path] * 4, settings, tmp_path, "a", cameras=cameras)
    assert result.error == ""
    names = [path.relative_to(tmp_path).as_posix() for path in result.files]
    assert names[:3] == ["a/a.obj", "a/a.mtl", "a/a.png"]
    assert names[3:] == [f"a-view-{i}.png" for i in range(4)]


def test_run_with_several_tries_keeps_the_best_and_reports_all(
    tiny, image_path, tmp_path, monkeypatch
):
    overlaps = iter([0.5, 0.9])
    monkeypatch.setattr(Result, "outline_overlap", lambda *_: next(overlaps))
    settings = QUICK.model_copy(update={"views": ViewSettings(steps=1, seed=3, tries=2)})
    result = run(tiny, [image_path], settings, tmp_path, "a")
    assert [one.seed for one in result.tries] == [3, 4]
    assert result.seed == 4
    assert [one["total"] for one in result.summary()["tries"]] == [
        one.score.total for one in result.tries
    ]
    alone = run(tiny, [image_path], _seeded(4), tmp_path, "b")
    assert result.files[0].read_bytes() == alone.files[0].read_bytes()


def test_run_of_photographs_with_several_tries_keeps_the_best(tiny, image_path, tmp_path):
    settings = QUICK.model_copy(update={"views": ViewSettings(steps=1, seed=3, tries=2)})
    cameras = Viewpoints((0.0, 180.0))
    result = run(tiny, [image_path] * 2, settings, tmp_path, "a", cameras=cameras)
    scores = {one.seed: one.score for one in result.tries}
    assert (result.error, list(scores)) == ("", [3, 4])
    assert all(0 < score.outline < 1 for score in scores.values())
    assert result.seed == max(scores, key=lambda seed: scores[seed].total)


@pytest.mark.parametrize(
    ("count", "cameras"),
    [(6, None), (4, Viewpoints((0.0, 90.0, 180.0, 270.0)))],
    ids=["own views", "photographs of all sides"],
)
def test_prepare_refuses_tries_if_no_views_are_generated(image_path, count, cameras):
    settings = QUICK.model_copy(update={"views": ViewSettings(steps=1, tries=2)})
    with pytest.raises(InvalidInput, match="no views are generated: leave out tries"):
        prepare([image_path] * count, settings, cameras=cameras)


def test_run_of_two_photographs_generates_the_other_views(tiny, image_path, tmp_path):
    settings = _output(texture=512, save_views=True)
    viewpoints = Viewpoints((0.0, 180.0))
    result = run(tiny, [image_path] * 2, settings, tmp_path, "a", cameras=viewpoints)
    assert (result.error, result.seed) == ("", 3)
    assert [path.name for path in result.files if "view" in path.name] == [
        f"a-view-{i}.png" for i in range(4)
    ]


def test_load_for_photographs_of_all_sides_skips_the_multiview_model(
    models_dir, image_path, tmp_path
):
    viewpoints = Viewpoints((0.0, 90.0, 180.0, 270.0), 15.0)
    loading = LoadSettings(device="cpu", dtype="float32", models_dir=models_dir)
    chain = job.load(QUICK, loading, viewpoints)
    assert chain.multiview is None
    result = run(chain, [image_path] * 4, QUICK, tmp_path, "a", cameras=viewpoints)
    assert (result.error, result.seed, list(result.licenses)) == ("", 0, [MODEL])
    missing = run(chain, [image_path], QUICK, tmp_path, "b", cameras=Viewpoints((0.0,)))
    assert "Some sides are missing" in missing.error


def test_reconstruct_of_pickled_photographs_layers_them_over_the_views(tiny, image_path):
    prepared = prepare([image_path] * 2, QUICK, cameras=Viewpoints((0.0, 90.0)))
    result = reconstruct(tiny, pickle.loads(pickle.dumps(prepared)), QUICK)
    views, photographs = result.layers()
    assert (len(views.images), len(photographs.images)) == (4, 2)
    assert photographs.images.shape[-1] == 200, "the photographs keep their resolution"
    assert result.layers("views") == [result.views]


def test_run_of_photographs_with_a_one_image_model_fails(photo, image_path, tmp_path):
    viewpoints = Viewpoints((0.0, 90.0))
    result = run(photo, [image_path] * 2, JobSettings(), tmp_path, "a", cameras=viewpoints)
    assert "photo takes one image without cameras, got 2" in result.error


def test_run_of_several_images_with_a_one_image_model_fails(photo, image_path, tmp_path):
    result = run(photo, [image_path] * 2, JobSettings(), tmp_path, "a")
    assert "photo takes one image without cameras, got 2" in result.error


def test_run_limits_the_texture_to_the_detail_of_its_images(
    tiny, image_path, tmp_path, monkeypatch
):
    sizes: list[int] = []

    def texture(mesh, layers, layout, **_):
        sizes.append(layout.size)
        return mesh

    monkeypatch.setattr(finishing, "texture_from_images", texture)
    for source in ("views", "triplane"):
        run(tiny, [image_path], _output(texture=4096, texture_from=source), tmp_path, source)
    assert sizes[0] <= 1024, "views of 64 pixels fill no more"
    assert sizes[1] == 4096


@pytest.mark.parametrize("ratio", [0.85, None])
def test_prepare_without_a_foreground_ratio_keeps_the_objects_size(tmp_path, ratio):
    image = Image.new("RGB", (100, 100), "white")
    image.paste("red", (40, 40, 60, 60))
    image.save(tmp_path / "small.png")
    settings = JobSettings(remove_bg="plain", foreground_ratio=ratio)
    framed = prepare([tmp_path / "small.png"], settings).content
    covered = float((framed.framed_mask > 0.5).float().mean()) ** 0.5
    assert covered == pytest.approx(0.2 if ratio is None else ratio, abs=0.03)


def test_prepare_refuses_views_that_are_not_square(tmp_path):
    wide = torch.rand(1, 4, 32, 48)
    settings = QUICK.model_copy(update={"foreground_ratio": None, "remove_bg": "alpha"})
    with pytest.raises(InvalidInput, match="must be square unless"):
        prepare([wide] * 6, settings)


@pytest.mark.parametrize(
    "settings",
    [
        JobSettings(model="triposr", views=ViewSettings(seed=3)),
        JobSettings(model="photo", views_model="zero123plus"),
    ],
    ids=["seed", "views_model"],
)
def test_check_refuses_settings_that_the_model_does_not_use(settings):
    with pytest.raises(InvalidInput, match=r"(has no random sampling|uses no views): leave out"):
        job.check(settings)


def test_check_refuses_a_printer_without_a_volume():
    with pytest.raises(InvalidInput, match="width x depth x height"):
        job.check(JobSettings(output=OutputSettings(printer="220x0x250")))


def test_check_with_license_commercial_refuses_models_that_forbid_it():
    for model in ("photo", "triposr", "triposg"):
        job.check(JobSettings(model=model, license="commercial"))
    with pytest.raises(InvalidInput, match=r"CC-BY-NC.*choose one of photo, triposr, triposg, or"):
        job.check(JobSettings(model=MODEL, license="commercial"))


@pytest.mark.parametrize(
    ("views_model", "texture_from", "says"),
    [
        (None, "triplane", "no colours of its own: set texture_from to pictures or views"),
        ("zero123plus", "pictures", "leave out views_model"),
    ],
)
def test_check_of_triposg_refuses_colours_without_a_source(views_model, texture_from, says):
    def settings(views_model: str | None, texture_from: str, **others: str) -> JobSettings:
        output = OutputSettings(texture_from=texture_from)
        return JobSettings(model="triposg", views_model=views_model, output=output, **others)

    with pytest.raises(InvalidInput, match=says):
        job.check(settings(views_model, texture_from))
    job.check(settings("zero123plus", "views"))
    job.check(settings(None, "pictures", license="commercial"))
    with pytest.raises(InvalidInput, match="forbid commercial use"):
        job.check(settings(None, "views", license="commercial"))


def test_run_escapes_a_title_that_is_not_unicode(photo, tmp_path):
    name, settings = "b\udce9", JobSettings(surface=COARSE)
    result = run(photo, [CUP], settings, tmp_path, name, title=name)
    assert result.error == ""
    assert b"b\\udce9" in result.files[0].read_bytes()


@pytest.mark.parametrize(
    ("second", "count"),
    [
        (JobSettings(model="triposg", surface=COARSE), 1),
        (JobSettings(model="photo"), 2),
        (JobSettings(model="triposg", output=OutputSettings(texture=512, texture_from="views")), 2),
    ],
    ids=["same", "model", "views model"],
)
def test_runner_loads_only_when_the_models_differ(tmp_path, monkeypatch, second, count):
    loaded = []
    monkeypatch.setattr(job, "load", lambda settings, loading: loaded.append(settings) or "chain")
    monkeypatch.setattr(job, "run", lambda *_, **__: JobResult())
    runner = Runner(LoadSettings(), "use less.")
    for settings in (JobSettings(model="triposg"), second):
        runner([CUP], None, settings, tmp_path, "cup", "", lambda *_: None)
    assert len(loaded) == count
