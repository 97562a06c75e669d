"""Test the registry's archive in a fresh ComfyUI."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path

import pytest
import trimesh

from .server import PACK, find_comfyui, start_server

ID = "image-to-3d"  # the folder's name where the registry's archive is unpacked
TEMPLATE = "1 Photo - picture to OBJ"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_comfyui() is None:
        pytest.skip("no ComfyUI at COMFYUI_PATH or ~/comfy/ComfyUI")
    subprocess.run(["make", "archive"], cwd=PACK, check=True, capture_output=True)
    folder = tmp_path_factory.mktemp("archive") / ID
    with zipfile.ZipFile(PACK / "out" / "node.zip") as archive:
        archive.extractall(folder)
    return folder


def test_the_archive_holds_what_runs_and_nothing_else(unpacked: Path):
    there = {path.name for path in unpacked.iterdir()}
    assert there >= {
        "__init__.py",
        "nodes",
        "pipelines",
        "subgraphs",
        "web",
        "locales",
        "workflows",
    }
    assert not there & {"tests", "training", "benchmarks", "docs", "Makefile", ".github", ".ci"}
    size = sum(path.stat().st_size for path in unpacked.rglob("*") if path.is_file())
    assert size < 70_000_000, "61 MB, of which the embedded models are 58"


def test_the_first_template_runs_from_the_archive(unpacked: Path, tmp_path: Path):
    with start_server(tmp_path, pack=unpacked, name=ID) as server:
        assert TEMPLATE in server.http.get("/workflow_templates").json()[ID]
        graph = json.loads((unpacked / "workflows" / "api" / f"{TEMPLATE}.json").read_text())
        run = server.run(graph)
        assert run.error is None
        (path,) = server.output.rglob("*.obj")
        assert trimesh.load(path, process=False).is_watertight
