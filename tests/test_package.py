"""Files that pip installs, and examples of README and docstrings."""

from __future__ import annotations

import doctest
import importlib
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pipelines
from pipelines.images import read_image
from pipelines.meshes.io import save_mesh

ROOT = Path(__file__).parents[1]
MODULES = [m.name for m in pkgutil.walk_packages(pipelines.__path__, "pipelines.")]


def test_pyproject_lists_every_package():
    tomllib = pytest.importorskip("tomllib")
    said = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {str(p.parent.relative_to(ROOT)) for p in (ROOT / "pipelines").rglob("__init__.py")}
    assert sorted(said) == sorted(
        folder.replace("/", ".").replace("pipelines", "image_to_3d", 1) for folder in there
    )


def test_examples_in_docstrings_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    tried = 0
    for name in MODULES:
        if name.endswith(("__main__", "native_process", "mesh_io", "pictures")):
            continue
        if ".modelslab" in name:
            continue
        result = doctest.testmod(importlib.import_module(name))
        assert not result.failed, name
        tried += result.attempted
    assert tried >= 10


def test_deprecated_modules_warn_and_still_export_the_old_names():
    with pytest.warns(DeprecationWarning, match=r"meshes\.io"):
        from pipelines.mesh_io import save_mesh as old_save_mesh
    with pytest.warns(DeprecationWarning, match=r"images\.read_image"):
        from pipelines.pictures import read_picture

    assert old_save_mesh is save_mesh
    assert read_picture is read_image


def test_readme_python_example_writes_a_mesh(tmp_path, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "workflows" / "demo.png", tmp_path / "photo.jpg")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", example], check=True, env=environment)
    assert (tmp_path / "photo.obj").read_text().startswith("v ")


def test_version_and_registry_id_are_the_same_everywhere():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == pipelines.__version__
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert next(h for h in headings if h != "Unreleased") == pipelines.__version__
    for path in (ROOT / "workflows").glob("*.json"):
        for node in json.loads(path.read_text())["nodes"]:
            own = node["type"].startswith("ImageTo3D_")
            assert not own or node["properties"]["cnr_id"] == project["name"]
