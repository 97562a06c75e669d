"""Catalogues that version 0.2.0 wrote are resumed: nothing is made again."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from pipelines.catalogue.items import Item
from pipelines.catalogue.manifest import JSON_LINES
from pipelines.catalogue.recipe import SETTINGS
from pipelines.catalogue.run import SEED
from pipelines.cli.catalogue import main

from ..tiny_models import MODEL
from .conftest import recipe

WRITTEN = Path(__file__).parent / "written_by_0_2_0"
FINGERPRINTS = [
    json.loads(line) for line in (WRITTEN / "fingerprints.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize(
    "written", FINGERPRINTS, ids=lambda w: " ".join([*w["arguments"], *w["columns"]]) or "plain"
)
def test_fingerprints_are_those_of_0_2_0(written):
    item = Item("cups/a", "/p/a.png", tuple(sorted(written["columns"].items())))
    task = recipe(*written["arguments"]).task(item, "a")
    assert (task.seed, task.fingerprint) == (written["seed"], written["fingerprint"])


def test_fingerprint_ignores_a_changed_default(monkeypatch):
    item = Item("a", "/p/a.png")
    before = recipe().task(item, "a").fingerprint
    assert recipe("--resolution", "200").task(item, "a").fingerprint != before
    of_the_next_version = dataclasses.replace(SETTINGS["resolution"], default=200)
    monkeypatch.setitem(SETTINGS, "resolution", of_the_next_version)
    assert recipe("--resolution", "200").task(item, "a").fingerprint == before


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("photo", ["list.csv", "--previews", "--max-faces", "400"]),
        (
            "views",
            [
                "images",
                "--model",
                MODEL,
                *["--steps", "2", "--dtype", "float32", "--format", "ply"],
            ],
        ),
    ],
)
def test_catalogue_of_0_2_0_is_resumed_without_work(tmp_path, capsys, run, words):
    shutil.copytree(WRITTEN / "images", tmp_path / "images")
    shutil.copy(WRITTEN / "list.csv", tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    written = (WRITTEN / run / JSON_LINES).read_text().replace("FOLDER", str(tmp_path))
    (out / JSON_LINES).write_text(written)
    if (seed := WRITTEN / run / "seed.txt").exists():
        shutil.copy(seed, out / SEED)
    for row in map(json.loads, written.splitlines()):
        for output in row["outputs"]:
            (out / output).parent.mkdir(exist_ok=True)
            (out / output).touch()
    source, *options = words
    main([str(tmp_path / source), "-o", str(out), "--resolution", "32", *options])
    count = len(written.splitlines())
    assert f"{count} of them in earlier runs" in capsys.readouterr().out
    assert (out / JSON_LINES).read_text() == written
