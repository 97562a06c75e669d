"""Platforms without a wheel of libigl: the default chain runs, and the rest names the remedy."""

from __future__ import annotations

import sys

import pytest
import torch

from pipelines.errors import EnvironmentProblem
from pipelines.meshes.cleaning import clean
from pipelines.meshes.color_transfer import nearest_points
from pipelines.meshes.decimation import decimate
from pipelines.meshes.io import load_mesh, save_mesh
from pipelines.meshes.report import report
from pipelines.meshes.solid import make_solid
from pipelines.settings import SurfaceSettings
from pipelines.surface.extraction import extract_mesh

from ..sample_fields import AnalyticField
from ..shapes import ball


@pytest.fixture(autouse=True)
def _no_libigl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "igl", None)


def test_default_chain_runs_without_libigl(tmp_path):
    sphere = AnalyticField(lambda points: 0.5 - points.norm(dim=-1))
    mesh = extract_mesh(sphere, SurfaceSettings(resolution=32))
    save_mesh(mesh, tmp_path / "mesh.obj")
    assert report(load_mesh(tmp_path / "mesh.obj")).watertight


def test_clean_repairs_without_libigl():
    assert report(clean(ball(), min_part_share=0.5, hole_edges=8, smoothing=1)).watertight


def test_decimate_reduces_shapes_without_libigl():
    shape = ball()
    assert len(decimate(type(shape)(shape.vertices, shape.faces), 500).faces) <= 500


@pytest.mark.parametrize(
    "work",
    [
        lambda mesh: make_solid(mesh),
        lambda mesh: decimate(mesh, 500),
        lambda mesh: nearest_points(mesh, torch.zeros(1, 3)),
    ],
    ids=["make_solid", "decimate with colours", "nearest_points"],
)
def test_features_that_need_libigl_name_the_remedy(work):
    with pytest.raises(EnvironmentProblem, match="pip install libigl"):
        work(ball())
