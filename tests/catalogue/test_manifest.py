from __future__ import annotations

import builtins
import json

import pytest

from pipelines.catalogue.manifest import JSON_LINES, PARQUET, Manifest, Row
from pipelines.catalogue.sheet import write_sheet
from pipelines.errors import EnvironmentProblem, InvalidInput

GOOD = Row(
    "a",
    "a.png",
    "done",
    "f00",
    "ab" * 32,
    ("a/a.obj", "a/a-preview.png"),
    seed=2**55,
    model="photo",
    triangles=1200,
    watertight=True,
    volume=0.5,
    size=(1.0, 2.0, 0.5),
    seconds={"triplane": 0.25, "surface": 1.5},
    peak_memory=2**29,
    licenses={"photo": "Apache-2.0"},
    print={"thinnest_wall": None, "bed_contact": 2.5, "fits": True},
)
BAD = Row("<b>", "b.png", "failed", "f00", error_kind="InvalidInput", error="It is <small>.")


def test_manifest_keeps_the_last_row_of_an_id(tmp_path):
    manifest = Manifest(tmp_path)
    for row in (BAD, GOOD, Row("<b>", "b.png", "done", "f01")):
        manifest.add(row)
    again = Manifest(tmp_path)
    assert again.rows == manifest.rows == {"a": GOOD, "<b>": Row("<b>", "b.png", "done", "f01")}
    assert again.rows["a"].in_all == 1.75


def test_manifest_ignores_a_row_that_was_cut_off(tmp_path):
    Manifest(tmp_path).add(GOOD)
    with (tmp_path / JSON_LINES).open("a") as file:
        file.write('{"id": "b", "pict')
    again = Manifest(tmp_path)
    assert again.rows == {"a": GOOD}
    again.add(BAD)
    assert Manifest(tmp_path).rows == {"a": GOOD, "<b>": BAD}


@pytest.mark.parametrize("line", ["no json", "[1]", '{"id": "a"}', '{"outputs": [], "size": []}'])
def test_manifest_that_is_damaged_raises(tmp_path, line):
    (tmp_path / JSON_LINES).write_text(f"{line}\n")
    with pytest.raises(InvalidInput, match=r"Line 1 of .* is not a catalogue's row"):
        Manifest(tmp_path)


def test_add_to_a_full_disk_raises(tmp_path):
    manifest = Manifest(tmp_path)
    (tmp_path / JSON_LINES).mkdir()
    with pytest.raises(EnvironmentProblem, match=r"could not write .* run the same command"):
        manifest.add(GOOD)
    assert manifest.rows == {}


def test_finish_writes_all_rows_as_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    manifest = Manifest(tmp_path)
    manifest.add(BAD)
    manifest.add(GOOD)
    assert manifest.finish(["a", "missing", "<b>"]) == [GOOD, BAD]
    good, bad = parquet.read_table(tmp_path / PARQUET).to_pylist()
    assert good["seconds"] == [("triplane", 0.25), ("surface", 1.5)]
    assert good["licenses"] == [("photo", "Apache-2.0")]
    assert good["print"] == [("thinnest_wall", None), ("bed_contact", 2.5), ("fits", 1.0)]
    assert (good["outputs"], good["seed"]) == (["a/a.obj", "a/a-preview.png"], 2**55)
    assert (bad["id"], bad["error"], bad["size"]) == ("<b>", "It is <small>.", [])
    assert list(good) == list(bad)
    assert set(good) == set(json.loads((tmp_path / JSON_LINES).read_text().splitlines()[0]))


def test_finish_without_pyarrow_returns_the_rows(tmp_path, monkeypatch):
    manifest, really = Manifest(tmp_path), builtins.__import__

    def no_pyarrow(name, *rest, **more):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return really(name, *rest, **more)

    manifest.add(GOOD)
    monkeypatch.setattr(builtins, "__import__", no_pyarrow)
    assert manifest.finish(["a"]) == [GOOD]
    assert not (tmp_path / PARQUET).exists()


def test_manifest_keeps_names_that_are_not_unicode(tmp_path):
    row = Row("caf\udce9", "/caf\udce9.png", "failed", "f", error="caf\udce9 is no image.")
    manifest = Manifest(tmp_path)
    manifest.add(row)
    manifest.add(GOOD)
    assert Manifest(tmp_path).rows == {row.id: row, "a": GOOD}
    assert manifest.finish([row.id, "a"]) == [row, GOOD]
    assert r"caf\udce9" in write_sheet([row], tmp_path).read_text(encoding="utf-8")
    parquet = pytest.importorskip("pyarrow.parquet")
    assert parquet.read_table(tmp_path / PARQUET).to_pylist()[0]["id"] == r"caf\udce9"
