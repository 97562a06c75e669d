"""The command `catalogue` from images to a catalogue, with the embedded model."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trimesh
from PIL import Image

from pipelines import job
from pipelines.catalogue.manifest import Manifest
from pipelines.catalogue.recipe import Task
from pipelines.catalogue.run import Outcome
from pipelines.catalogue.work import UNFINISHED, State, Work
from pipelines.cli import catalogue as command
from pipelines.cli.catalogue import main

from ..tiny_models import MODEL
from .conftest import items, recipe

ROOT = Path(__file__).parents[2]
QUICK = ["--resolution", "32", "--device", "cpu"]
_OF_THE_MOMENT = {"seconds", "peak_memory", "worker"}


def _facts(folder: Path) -> dict[str, dict]:
    """Return the manifest's rows with the files' contents, without values that vary by run."""
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    return {
        row["id"]: {k: v for k, v in row.items() if k not in _OF_THE_MOMENT}
        | {"files": [(folder / o).read_bytes() for o in row["outputs"]]}
        for row in rows
    }


def _made(recipe, folder, picture, *, id="a", sides=(), parts=("prepare", "reconstruct", "finish")):
    """Run parts of the work on one image in this process; return the item's state."""
    from pipelines.catalogue.items import Item

    (folder / UNFINISHED).mkdir(parents=True, exist_ok=True)
    task = recipe.task(Item(id, str(picture), sides=tuple(sides)), id)
    return Work(recipe, folder, parts, device="cpu")(State(task))


def test_catalogue_row_describes_the_mesh_of_its_image(tmp_path, images):
    picture = images(1) / "disc-0.png"
    made = recipe(
        *QUICK[:2], "--format", "glb", "--previews", "--views", "--size", "80", "--pivot", "bottom"
    )
    row = _made(made, tmp_path / "out", picture).row
    assert (row.status, row.error, row.model, row.watertight) == ("done", "", "photo", True)
    assert row.outputs == ("a/a.glb", "a/a-framed.png", "a/a-preview.png")
    mesh = trimesh.load(tmp_path / "out" / "a" / "a.glb", force="mesh")
    assert max(mesh.extents) == pytest.approx(80, abs=1e-3) == max(row.size)
    assert mesh.bounds[0][1] == pytest.approx(0, abs=1e-4)  # y is up in files
    assert (len(mesh.faces), row.volume) == (row.triangles, pytest.approx(mesh.volume, rel=1e-3))
    assert set(row.seconds) == {
        *("reading", "background", "framing", "triplane", "surface", "finishing", "files")
    }
    assert row.peak_memory > 2**26
    assert list((tmp_path / "out" / UNFINISHED).iterdir()) == []


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        (None, "UnreadableImage", "There is no file"),
        (b"no picture", "UnreadableImage", "cannot be read as an image"),
        ("empty", "NothingInImage", ""),
        ("small", "InvalidInput", "8 x 8 pixels"),
    ],
)
def test_catalogue_row_of_an_invalid_image_has_the_error(tmp_path, content, kind, said):
    path = tmp_path / "p.png"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        Image.new("RGBA", (8, 8) if content == "small" else (64, 64)).save(path)
    row = _made(recipe(), tmp_path / "out", path, parts=("prepare", "finish")).row
    assert (row.status, row.error_kind, row.outputs) == ("failed", kind, ())
    assert said in row.error
    assert bool(row.picture_sha256) == (content is not None)


def test_catalogue_reads_images_at_file_urls(tmp_path, images):
    picture = images(1) / "disc-0.png"
    local = _made(recipe(*QUICK[:2]), tmp_path / "one", picture).row
    remote = _made(recipe(*QUICK[:2]), tmp_path / "two", f"file://{picture}").row
    assert (remote.status, remote.picture_sha256) == ("done", local.picture_sha256)
    gone = _made(recipe(), tmp_path / "two", f"file://{picture}.gone", parts=("prepare",)).row
    assert "disc-0.png.gone: FileNotFoundError" in gone.error


def test_catalogue_reads_images_at_web_urls(tmp_path, images):
    import functools
    import http.server
    import threading

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

    served = functools.partial(Quiet, directory=str(images(1)))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), served) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        good = _made(recipe(*QUICK[:2]), tmp_path / "out", f"{address}/disc-0.png").row
        gone = _made(recipe(), tmp_path / "out", f"{address}/x.png", parts=("prepare",)).row
        server.shutdown()
    assert good.status == "done"
    assert f"{address}/x.png: HTTP 404" in gone.error


def test_catalogue_failed_write_leaves_no_file(tmp_path, images, monkeypatch):
    picture, out = images(1) / "disc-0.png", tmp_path / "out"
    made = recipe(*QUICK[:2])
    _made(made, out, picture)
    before = (out / "a" / "a.obj").read_bytes()

    def fails(result, settings, folder, name, **options):
        (folder / "a.obj").write_text("half")
        raise RuntimeError("can't allocate memory")

    monkeypatch.setattr(job, "finish", fails)
    row = _made(made, out, picture).row
    assert row.error.startswith("There was not enough memory: try fewer --workers")
    assert (out / "a" / "a.obj").read_bytes() == before
    assert [p.name for p in sorted(out.iterdir())] == [UNFINISHED, "a"]


def test_catalogue_refuses_a_folder_that_a_machine_lacks(tmp_path):
    from pipelines.errors import EnvironmentProblem

    with pytest.raises(EnvironmentProblem, match=r"does not exist on .*: with -o"):
        Work(recipe(), tmp_path / "nowhere")


def test_catalogue_views_do_not_depend_on_the_order(tmp_path, images, models_dir):
    folder = images(2)
    model = ["--model", MODEL, "--models-dir", str(models_dir)]
    made = recipe(*model, "--steps", "2", "--seed", "3", *QUICK[:2])
    one = _made(made, tmp_path / "one", folder / "disc-0.png").row
    _made(made, tmp_path / "two", folder / "disc-1.png", id="b")
    two = _made(made, tmp_path / "two", folder / "disc-0.png").row
    assert one.seed == two.seed > 0
    files = [(tmp_path / n / "a" / "a.obj").read_bytes() for n in ("one", "two")]
    assert files[0] == files[1]


def test_catalogue_makes_one_mesh_from_photographs_of_several_sides(tmp_path, images, models_dir):
    one, other = sorted(images(2).iterdir())
    words = ["--model", MODEL, "--steps", "1", "--seed", "5", "--models-dir", str(models_dir)]
    made = recipe(*QUICK[:2], *words, "--dtype", "float32", "--tries", "2", "--save-views")
    row = _made(made, tmp_path / "out", one, sides=[("back", str(other))]).row
    assert (row.error, row.status) == ("", "done")
    assert sum("-view-" in output for output in row.outputs) == 4
    missing = _made(made, tmp_path / "out", one, sides=[("back", "/nowhere.png")]).row
    assert missing.error == "There is no file /nowhere.png."


def test_catalogue_resumes_after_it_was_killed(tmp_path, images):
    """Files and rows must equal those of a run without interruption and with one worker."""
    folder = images(7)
    (folder / "broken.png").write_text("no image")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([str(folder), "-o", str(whole), *QUICK, "--workers", "1"]) == 1
    command = [sys.executable, "-m", "pipelines", "catalogue", str(folder), "-o", str(cut), *QUICK]
    process = subprocess.Popen([*command, "--workers", "2"], cwd=ROOT)
    manifest, until = cut / "manifest.jsonl", time.monotonic() + 120
    while not manifest.exists() or manifest.read_text().count("\n") < 2:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    seen = Manifest(cut).rows
    assert 2 <= len(seen) < 8
    for mesh in cut.glob("*/*.obj"):  # no file is partial
        assert len(trimesh.load(mesh, process=False).faces) > 100
    time.sleep(1)  # the workers end after their parent
    assert main([str(folder), "-o", str(cut), *QUICK, "--workers", "2"]) == 1
    assert _facts(cut) == _facts(whole)
    assert not (cut / UNFINISHED).exists()
    parquet = pytest.importorskip("pyarrow.parquet")
    tables = [parquet.read_table(out / "manifest.parquet").to_pylist() for out in (whole, cut)]
    without = [[{k: r[k] for k in r if k not in _OF_THE_MOMENT} for r in t] for t in tables]
    assert without[0] == without[1]
    assert (
        main([str(folder), "-o", str(cut), *QUICK]) == 1
    )  # nothing left to do, but one item failed


@pytest.fixture
def stubbed(monkeypatch):
    """Return a function that replaces the run by one that returns, or raises, a given outcome."""

    def set_to(outcome):
        def run(options, settings):
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        monkeypatch.setattr(command, "_run", run)

    return set_to


@pytest.mark.parametrize(
    ("outcome", "code", "said"),
    [
        (Outcome(2, 0, 1, None, Path("index.html")), 0, "2 done, 0 failed, 1 of them"),
        (Outcome(2, 1, 0, None, Path("index.html")), 1, "2 done, 1 failed"),
        (Outcome(2, 0, 0, "20 failed", Path("index.html")), 1, "stopped: 20 failed"),
        (KeyboardInterrupt(), 130, "resumes the run"),
    ],
)
def test_catalogue_exit_code_follows_the_outcome(stubbed, capsys, outcome, code, said):
    stubbed(outcome)
    assert main(["pictures", "-o", "out"]) == code
    printed = capsys.readouterr()
    assert said in printed.out + printed.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--seed", "3"], 2, "photo has no random sampling"),
        (["--item-timeout", "0"], 2, "must be a number between 1 and"),
        (["--device", "gpu"], 2, "must be auto, cuda, cuda:1"),
        (["--device", "cuda:99"], 1, "has no cuda:99 device"),
    ],
)
def test_catalogue_with_invalid_arguments_prints_one_sentence(
    tmp_path, images, capsys, words, code, said
):
    arguments = [str(images(1)), "-o", str(tmp_path / "out"), *words]
    if code == 2:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
    else:
        assert main(arguments) == code
    assert said in capsys.readouterr().err


def test_catalogue_without_a_terminal_prints_lines_of_progress(capsys, monkeypatch):
    from pipelines.catalogue.manifest import Row

    shown = command._Progress(3)
    for row in (Row("a", "", "done", ""), Row("b", "", "failed", ""), Row("c", "", "done", "")):
        shown.count(row)
    shown.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("3 of 3 ended, 1 failed, ")
    assert lines[-1].endswith("per minute, 0:00:00 left")
    assert len(lines) == 1


def test_catalogue_warns_of_columns_that_are_not_settings(tmp_path, images, capsys):
    folder = images(1)
    (folder / "list.csv").write_text("picture,motif\ndisc-0.png,x\nbad.png,y\n")
    arguments = [str(folder / "list.csv"), "-o", str(tmp_path / "out"), *QUICK, "--workers", "1"]
    assert main(arguments) == 1
    assert "skipped columns that are not settings: motif" in capsys.readouterr().err
    assert {r.id: r.status for r in Manifest(tmp_path / "out").rows.values()} == {
        "disc-0": "done",
        "bad": "failed",
    }


def test_catalogue_tasks_are_small():
    """A catalogue of a million items keeps all tasks in memory."""
    import pickle

    task = recipe().task(items(["a-name-as-catalogues-have-them"])[0], "a")
    assert isinstance(task, Task)
    assert len(pickle.dumps(State(task))) < 1000
