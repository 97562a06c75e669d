from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import trimesh
from PIL import Image

from pipelines import animations, finishing, job
from pipelines.cli import main
from pipelines.cli.inputs import find_images
from pipelines.cli.make import make_parser, without_collecting
from pipelines.cli.parsing import INTERRUPTED
from pipelines.devices import memory_explained
from pipelines.errors import EnvironmentProblem, InvalidInput
from pipelines.meshes import camera_fit
from pipelines.meshes.io import load_mesh

from ..tiny_models import MODEL, VIEWS_MODEL


@pytest.fixture(autouse=True)
def _small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orbits and previews of a few pixels; their content is tested elsewhere."""
    monkeypatch.setattr(animations, "ORBIT_SIZE", 32)
    monkeypatch.setattr(finishing, "PREVIEW_SIZE", 64)


ROOT = Path(__file__).parents[2]
CUP = ROOT / "workflows" / "cup.png"
QUICK = ["--model", MODEL, "--steps", "2", "--seed", "7", "--resolution", "32", "--device", "cpu"]


@pytest.fixture(autouse=True, scope="module")
def _tiny_models(models_dir: Path) -> None:
    QUICK.extend(["--dtype", "float32", "--models-dir", str(models_dir)])


def test_make_writes_an_obj_with_all_extras(image_path, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([str(image_path), "-o", str(out), *QUICK, "--save-views", "--orbit", "3"]) == 0
    mesh = trimesh.load(out / "disc.obj", process=False)
    assert mesh.is_watertight
    assert mesh.volume > 0
    with (
        Image.open(out / "disc-preview.png") as preview,
        Image.open(out / "disc-orbit.webp") as orbit,
    ):
        assert preview.size == (3 * 64, 64)
        assert orbit.n_frames == 3
    assert sorted(p.name for p in out.glob("disc-view-*.png")) == [
        f"disc-view-{i}.png" for i in range(6)
    ]
    printed = capsys.readouterr().out
    for word in ("views", "surface", "seed  7", "triangles", "disc.obj", "GiB"):
        assert word in printed


def test_make_json_prints_one_line_for_each_image(image_path, tmp_path, capsys):
    missing = tmp_path / "damaged.png"
    missing.write_bytes(b"no image")
    words = [str(image_path), str(missing), "-o", str(tmp_path / "out"), *QUICK, "--json"]
    assert main(words) == 1
    good, bad = map(json.loads, capsys.readouterr().out.splitlines())
    assert (good["image"], good["seed"], good["error"]) == (str(image_path), 7, "")
    assert good["licenses"][MODEL] == "Apache-2.0"
    assert good["mesh"]["watertight"] is True
    assert bad["mesh"] is None
    assert "damaged.png" in bad["error"]


def test_make_with_photographs_of_other_sides_makes_one_mesh(image_path, tmp_path, capsys):
    words = ["--image-left", str(image_path), "--image-at", "180", str(image_path)]
    assert main([str(image_path), "-o", str(tmp_path), *QUICK, *words, "--elevation", "10"]) == 0
    assert load_mesh(tmp_path / "disc.obj").volume() > 0
    assert "seed  7" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--image-left", "none.png"], "none.png"),
        (["--image-at", "x", "{}"], "A side must be front, left, back, right or an azimuth in"),
        (["--image-at", "0", "{}"], "Photographs must be from different sides"),
        (
            ["--image-back", "{}", "--elevation", "90"],
            "--elevation: must be a number between -80 and 80",
        ),
        (["{}", "--image-back", "{}"], "need one IMAGE, the object's front, got 2"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_make_refuses_invalid_photographs_before_loading(
    words, message, image_path, capsys, monkeypatch
):
    monkeypatch.setattr(job, "load", pytest.fail)
    with pytest.raises(SystemExit):
        main([str(image_path), *(word.format(image_path) for word in words), *QUICK])
    assert message in capsys.readouterr().err


def test_make_with_a_seed_repeats_its_result_with_and_without_offload(image_path, tmp_path):
    for name, more in (("a", []), ("b", ["--offload"])):
        assert main([str(image_path), "-o", str(tmp_path / name), *QUICK, *more]) == 0
    assert (tmp_path / "a/disc.obj").read_bytes() == (tmp_path / "b/disc.obj").read_bytes()


def test_make_with_max_faces_and_texture_applies_both(image_path, tmp_path, capsys):
    pytest.importorskip("xatlas", reason="xatlas has no wheel for this platform")
    assert (
        main(
            [str(image_path), "-o", str(tmp_path), *QUICK, "--max-faces", "300", "--texture", "512"]
        )
        == 0
    )
    assert {p.name for p in (tmp_path / "disc").iterdir()} == {"disc.obj", "disc.mtl", "disc.png"}
    mesh = trimesh.load(tmp_path / "disc" / "disc.obj", force="mesh", process=False)
    assert len(mesh.faces) <= 300
    assert f"triangles  {len(mesh.faces)}" in capsys.readouterr().out
    assert mesh.visual.material.image.size == (512, 512)


@pytest.mark.parametrize("source", ["triplane", "views", "pictures"])
def test_make_texture_from_uses_the_given_source(image_path, tmp_path, monkeypatch, source):
    painted = {"triplane": 0, "views": 6, "pictures": 7}[source]
    seen = []

    def of_images(mesh, layers, layout, **_):
        seen.extend(camera for shots in layers for camera in shots.cameras.c2w)
        assert layout.size <= (1024 if layers else 4096), (
            "views of 64 pixels and an image of 160 have no more detail"
        )
        return mesh

    monkeypatch.setattr(finishing, "texture_from_images", of_images)
    monkeypatch.setattr(camera_fit, "LEAST_OVERLAP", 0.0)
    options = ["--texture", "4096", "--texture-from", source, "--format", "glb"]
    assert main([str(image_path), "-o", str(tmp_path), *QUICK, *options]) == 0
    assert len(seen) == painted


def test_make_skips_a_photograph_that_does_not_fit_with_a_warning(
    image_path, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(camera_fit, "LEAST_OVERLAP", 1.0)
    monkeypatch.setattr(
        finishing, "texture_from_images", lambda mesh, layers, *_, **__: seen.extend(layers) or mesh
    )
    seen = []
    assert main([str(image_path), "-o", str(tmp_path), *QUICK, "--texture", "512"]) == 0
    assert len(seen) == 1
    assert "left out" in caplog.text


@pytest.mark.parametrize("suffix", ["glb", "ply", "stl", "3mf"])
def test_make_writes_each_format(image_path, tmp_path, suffix):
    assert main([str(image_path), "-o", str(tmp_path), *QUICK, "--format", suffix]) == 0
    assert trimesh.load(tmp_path / f"disc.{suffix}", force="mesh").volume > 0


def test_make_continues_after_an_invalid_image(image_path, tmp_path, capsys):
    fake = tmp_path / "aaa.png"
    fake.write_text("text")
    assert main([str(fake), str(image_path), "-o", str(tmp_path / "out"), *QUICK]) == 1
    assert (tmp_path / "out/disc.obj").exists()
    assert "aaa.png cannot be read as an image" in capsys.readouterr().err


def test_make_keeps_files_of_others_and_ignores_its_own_results(image_path, tmp_path, capsys):
    folder = image_path.parent
    with Image.open(image_path) as image:
        image.resize((50, 40)).save(folder / "disc-preview.png")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert main([str(image_path), "-o", str(folder), *QUICK]) == 0
    made = {p.name for p in folder.iterdir()} - before.keys()
    assert made == {"disc-2.obj", "disc-2-preview.png"}
    assert main([str(folder), "-o", str(folder), *QUICK]) == 0
    assert {p.name for p in find_images([str(folder)])} == {"disc.png", "disc-preview.png"}
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert "disc-3.obj" in capsys.readouterr().out


def test_make_replaces_earlier_results_only_if_asked(image_path, tmp_path):
    out = tmp_path / "out"
    for options, names in (
        ([], ["disc.obj"]),
        ([], ["disc-2.obj", "disc.obj"]),
        (["--overwrite"], ["disc-2.obj", "disc.obj"]),
    ):
        assert main([str(image_path), "-o", str(out), *QUICK, *options]) == 0
        assert sorted(p.name for p in out.glob("*.obj")) == names


def test_find_images_ignores_orbits_of_earlier_runs(image_path, tmp_path):
    assert main([str(image_path), "-o", str(tmp_path / "out"), *QUICK, "--orbit", "2"]) == 0
    assert {p.suffix for p in (tmp_path / "out").iterdir()} >= {".webp", ".png"}
    with pytest.raises(InvalidInput, match="holds no image"):
        find_images([str(tmp_path / "out")])


def test_make_of_a_folder_continues_after_errors_and_lists_them(
    image_path, tmp_path, capsys, monkeypatch
):
    for name in ("a.png", "b.png", "c.png"):
        (image_path.parent / name).write_bytes(image_path.read_bytes())
    real = job.read_image

    def read(path: Path) -> torch.Tensor:
        if path.name in ("a.png", "c.png"):
            raise KeyError("an unexpected problem")
        return real(path)

    monkeypatch.setattr(job, "read_image", read)
    assert main([str(image_path.parent), "-o", str(tmp_path / "out"), *QUICK]) == 1
    assert sorted(p.name for p in (tmp_path / "out").glob("*.obj")) == ["b.obj", "disc.obj"]
    error = capsys.readouterr().err
    assert "2 of 4 images failed:" in error
    assert error.split("images failed:")[1].count("an unexpected problem") == 2
    assert "Traceback" not in error


@pytest.mark.parametrize("name", ["photo-AttributeError.jpg", "photo-error.jpg"])
def test_make_reads_images_with_odd_exif_tags(tmp_path, name):
    case = Path(__file__).parents[1] / "data" / "cases" / "exif-odd-tag"
    assert (
        main(
            [
                str(case / name),
                str(case / "zz-next.png"),
                "-o",
                str(tmp_path),
                *QUICK,
                "--remove-bg",
                "none",
            ]
        )
        == 0
    )
    assert len(list(tmp_path.glob("*.obj"))) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--resolution", "0"],
        ["--resolution", "10000"],
        ["--steps", "none"],
        ["--guidance", "nan"],
        ["--model", "huge"],
        ["--unknown"],
        ["--texture-format", "webp"],
        ["--license", "commercial", "--model", MODEL],
    ],
)
def test_make_with_invalid_arguments_exits_2_with_one_line(image_path, tmp_path, capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main([str(image_path), "-o", str(tmp_path / "out"), *arguments])
    assert caught.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_make_of_missing_files_and_empty_folders_exits_2(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for path in ("empty", "nowhere.png"):
        with pytest.raises(SystemExit) as caught:
            main([str(tmp_path / path)])
        assert caught.value.code == 2
    assert "holds no image" in capsys.readouterr().err


def test_make_with_an_unwritable_output_fails_before_the_work(image_path, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main([str(image_path), "-o", str(tmp_path / "file"), *QUICK]) == 1
    error = capsys.readouterr().err
    assert "Nothing can be written" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    "option", [("--seed", "3"), ("--steps", "5"), ("--views-model", VIEWS_MODEL)]
)
def test_make_refuses_view_options_for_a_one_image_model(image_path, tmp_path, capsys, option):
    with pytest.raises(SystemExit):
        main([str(image_path), "-o", str(tmp_path / "out"), "--model", "triposr", *option])
    reason = "uses no views" if option[0] == "--views-model" else "has no random sampling"
    assert f"triposr {reason}: leave out" in capsys.readouterr().err


def test_doctor_prints_versions_devices_and_models_without_secrets(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("MODELSLAB_API_KEY", "a-secret")
    weights = tmp_path / "InstantMesh" / "instant_mesh_large.ckpt"
    weights.parent.mkdir()
    weights.touch()
    assert main(["doctor", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for word in (
        torch.__version__.split("+")[0],
        "threads",
        str(weights),
        "embedded",
        "not downloaded",
    ):
        assert word in printed
    assert "a-secret" not in printed


def test_make_interrupted_leaves_no_partial_file(image_path, tmp_path, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(finishing, "preview_sheet", interrupt)
    assert main([str(image_path), "-o", str(tmp_path / "out"), *QUICK]) == INTERRUPTED
    assert set(os.listdir(tmp_path / "out")) <= {"disc.obj"}


def test_make_out_of_memory_prints_one_sentence(image_path, tmp_path, capsys, monkeypatch):
    # An allocation that exceeds the memory of any machine.
    monkeypatch.setattr(finishing, "save_mesh", lambda *_, **__: torch.empty(10**16))
    assert main([str(image_path), "-o", str(tmp_path / "out"), *QUICK]) == 1
    error = capsys.readouterr().err
    assert "There was not enough memory: try --offload" in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("MPS backend out of memory"),
        MemoryError(),
    ],
)
def test_memory_explained_converts_out_of_memory_errors(error):
    with (
        pytest.raises(EnvironmentProblem, match="not enough memory: buy more"),
        memory_explained("buy more."),
    ):
        raise error


def test_memory_explained_keeps_other_errors():
    with pytest.raises(RuntimeError, match="shapes"), memory_explained("buy more."):
        raise RuntimeError("shapes do not fit")


def test_make_without_an_object_prints_one_sentence(tmp_path, capsys):
    Image.new("RGB", (64, 64), "white").save(tmp_path / "blank.png")
    assert main([str(tmp_path / "blank.png"), "-o", str(tmp_path / "out"), *QUICK]) == 1
    assert "The mask holds no object" in capsys.readouterr().err


@pytest.mark.parametrize("ending", [[], ["--help"]], ids=["run", "help"])
def test_make_survives_a_closed_pipe(tmp_path, ending):
    """`| head -1` closes the pipe after the first line."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "pipelines", "make", str(CUP), "-o", str(tmp_path)]
    options = ["--model", "photo", "--resolution", "32", "--device", "cpu", *ending]
    done = subprocess.run(
        [*command, *options], cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "cup.obj").exists() == (not ending)


def test_make_escapes_a_name_that_the_console_cannot_print(tmp_path):
    """Code pages of Windows lack Cyrillic, for example."""
    names = ["a \u041a\u0440\u0443\u0436\u043a\u0430.png", "b.png"]
    for name in names:
        shutil.copy(CUP, tmp_path / name)
    command = [sys.executable, "-m", "pipelines", str(tmp_path), "-o", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "--model", "photo", "--resolution", "32", "--device", "cpu"],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"a \\u041a\\u0440" in done.stdout
    assert len(list((tmp_path / "out").glob("*.obj"))) == 2


def test_make_accepts_deprecated_flags_with_a_warning(capsys):
    options = make_parser().parse_args(["x.png", "--views", "--no-half-copy"])
    assert options.save_views
    error = capsys.readouterr().err
    assert "warning: --views is deprecated: use --save-views" in error
    assert "warning: --no-half-copy has no effect" in error


_UNUSED = (
    *("torch._dynamo", "torchvision", "diffusers", "transformers", "rembg", "onnxruntime"),
    *("huggingface_hub", "httpx", "trimesh", "igl", "xatlas", "matplotlib", "pandas", "fsspec"),
    *("sympy", "torch._inductor", "torch.onnx", "skimage", "scipy.spatial", "scipy.optimize"),
    "PIL.PdfImagePlugin",
)


@pytest.mark.parametrize("resolution", [None, 32], ids=["import", "run"])
def test_make_photo_imports_only_what_it_needs(tmp_path, resolution):
    """Importing one of these takes up to a second, in a run of two seconds."""
    words = ["--model", "photo", "--resolution", str(resolution), "--device", "cpu"]
    code = "import sys, pipelines.job\nfrom pipelines.cli import main\n"
    if resolution:
        code += f"assert main({[str(CUP), '-o', str(tmp_path), *words]!r}) == 0\n"
    heavy = _UNUSED if resolution else (*_UNUSED, "scipy")
    code += f"sys.exit(', '.join(n for n in {heavy!r} if n in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "NUMBA_DISABLE_JIT"])
def test_command_line_keeps_variables_that_the_user_set(name, monkeypatch, capsys):
    monkeypatch.setenv(name, "mine")
    main(["--help"])
    assert os.environ[name] == "mine"
    monkeypatch.delenv(name)
    main(["--help"])
    assert os.environ[name] in ("PASSIVE", "1")


def test_without_collecting_enables_collection_after_a_failed_import(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    collecting = []

    @without_collecting()
    def import_fails() -> None:
        collecting.append(gc.isenabled())
        raise ImportError

    with pytest.raises(ImportError):
        import_fails()
    assert [*collecting, gc.isenabled()] == [False, True]
