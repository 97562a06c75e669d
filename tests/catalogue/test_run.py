"""Runs with an engine in the test's process; see `makers.stub` for what each item does."""

from __future__ import annotations

import shutil
from collections import namedtuple

import pytest
from filelock import FileLock

from pipelines.catalogue.items import Item
from pipelines.catalogue.manifest import JSON_LINES, Manifest
from pipelines.catalogue.run import LOCK, SEED, opened, run, seed_of_run, to_do
from pipelines.catalogue.work import UNFINISHED, State
from pipelines.errors import EnvironmentProblem, InvalidInput

from .conftest import items, recipe
from .makers import stub


def _run(folder, of, made=None, *, retry_failed=False, stop_after=0, twice=False):
    """Run a catalogue; return its outcome and the ids of the processed items."""
    made = made or recipe()
    with opened(folder) as manifest:
        tasks = to_do(of, made, manifest, retry_failed=retry_failed)
        work = stub(folder)

        def engine(tasks):
            for task in tasks:
                for _ in range(1 + twice):
                    yield work(State(task)).row

        told = []
        outcome = run(of, tasks, engine, manifest, told.append, stop_after=stop_after)
    return outcome, [row.id for row in told]


def test_run_again_processes_only_unfinished_items(tmp_path):
    of = items(["a", "bad-1", "b"])
    outcome, ids = _run(tmp_path / "out", of)
    assert (outcome.done, outcome.failed, outcome.skipped) == (2, 1, 0)
    assert ids == ["a", "bad-1", "b"]
    outcome, ids = _run(tmp_path / "out", [*of, *items(["c"])])
    assert (outcome.done, outcome.failed, outcome.skipped, ids) == (3, 1, 3, ["c"])
    assert _run(tmp_path / "out", of, retry_failed=True)[1] == ["bad-1"]
    (tmp_path / "out" / "a" / "mesh.obj").unlink()
    assert _run(tmp_path / "out", of)[1] == ["a"]


def test_run_with_a_changed_setting_repeats_its_items(tmp_path):
    of = items(["a", "b"])
    _run(tmp_path, of)
    changed = [of[0], Item("b", of[1].picture, (("resolution", "64"),))]
    assert _run(tmp_path, changed)[1] == ["b"]
    assert _run(tmp_path, changed)[1] == []
    assert _run(tmp_path, changed, recipe("--format", "glb"))[1] == ["a", "b"]
    assert _run(tmp_path, [Item("a", "/other.png"), of[1]], recipe("--format", "glb"))[1] == [
        "a",
        "b",
    ]


def test_to_do_with_a_changed_image_includes_its_item(tmp_path, images):
    folder = images(1)
    path = folder / "disc-0.png"
    with opened(tmp_path / "out") as manifest:
        (task,) = to_do([Item("a", str(path))], recipe(), manifest)
        row = stub(tmp_path / "out")(State(task)).row
        from dataclasses import replace

        from pipelines.files import sha256

        manifest.add(replace(row, picture_sha256=sha256(path)))
        assert to_do([Item("a", str(path))], recipe(), manifest) == []
        path.write_bytes(path.read_bytes() + b"more")
        assert to_do([Item("a", str(path))], recipe(), manifest) == [task]


def test_run_stops_after_failures_in_a_row(tmp_path):
    of = items(["bad-1", "a", "bad-2", "bad-3", "b"])
    outcome, ids = _run(tmp_path, of, stop_after=2)
    assert ids == ["bad-1", "a", "bad-2", "bad-3"]
    assert "2 items in a row failed, the last with: There is no object." in outcome.stopped
    outcome, ids = _run(tmp_path, of, stop_after=2)
    assert (ids, outcome.stopped, outcome.failed) == (["b"], None, 3)


def test_run_counts_a_repeated_row_once(tmp_path):
    outcome, ids = _run(tmp_path, items(["a", "b"]), twice=True)
    assert (outcome.done, ids) == (2, ["a", "b"])
    assert len((tmp_path / JSON_LINES).read_text().splitlines()) == 2


def test_run_with_a_failing_engine_keeps_finished_rows(tmp_path):
    of, made = items(["a", "b"]), recipe()
    with opened(tmp_path) as manifest:

        def engine(tasks):
            yield stub(tmp_path)(State(tasks[0])).row
            raise EnvironmentProblem("The cluster gave up.")

        tasks = to_do(of, made, manifest)
        with pytest.raises(EnvironmentProblem, match="gave up"):
            run(of, tasks, engine, manifest, lambda row: None)
    assert Manifest(tmp_path).rows["a"].status == "done"
    assert "1 done, 0 failed" in (tmp_path / "index.html").read_text()


def test_to_do_of_large_catalogues_uses_shards_and_keeps_folders(tmp_path):
    made = recipe()
    many = items([f"i{n}" for n in range(1001)])
    with opened(tmp_path) as manifest:
        tasks = to_do(many, made, manifest)
        assert all(task.folder[2:] == f"/{task.item.id}" for task in tasks)
        assert len({task.folder[:2] for task in tasks}) > 200
        manifest.add(stub(tmp_path)(State(tasks[0])).row)
        (again,) = to_do(many[:1], recipe("--exact"), manifest)
        assert again.folder == tasks[0].folder


def test_opened_refuses_unusable_folders(tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.doc").touch()
    (tmp_path / "own" / ".DS_Store").touch()
    with (
        pytest.raises(InvalidInput, match=r"holds other files \(thesis.doc\)"),
        opened(tmp_path / "own"),
    ):
        pass
    (tmp_path / "own" / "thesis.doc").unlink()
    _run(tmp_path / "own", items(["a"]))
    _run(tmp_path / "one", items(["a"]))
    with pytest.raises(InvalidInput, match="holds another catalogue with 1 items"):
        _run(tmp_path / "one", items(["b"]))
    with (
        FileLock(tmp_path / "one" / LOCK),
        pytest.raises(EnvironmentProblem, match="Another run is using"),
    ):
        _run(tmp_path / "one", items(["a"]))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(9e9, 9e9, 2**20))
    with pytest.raises(EnvironmentProblem, match="Only 1 MiB are free"):
        _run(tmp_path / "one", items(["a"]))


def test_opened_removes_unfinished_files(tmp_path):
    left = tmp_path / UNFINISHED / "tmpx" / "a"
    left.mkdir(parents=True)
    (left / "a.obj").write_text("v 0")
    with opened(tmp_path):
        assert list((tmp_path / UNFINISHED).iterdir()) == []
    assert not (tmp_path / UNFINISHED).exists()


def test_seed_of_run_is_drawn_once(tmp_path):
    drawn = seed_of_run(tmp_path, 0)
    assert drawn > 0
    assert seed_of_run(tmp_path, 0) == drawn
    assert seed_of_run(tmp_path, 7) == 7
    assert seed_of_run(tmp_path, 0) == 7
    (tmp_path / SEED).write_text("")
    with pytest.raises(InvalidInput, match="does not contain a number: remove it, or give --seed"):
        seed_of_run(tmp_path, 0)
    assert seed_of_run(tmp_path, 9) == 9
