"""The report that compares golden arrays: it passes on them, and fails on changed ones."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from pipelines.surface.flexicubes import CubeGrid, flexicubes

from .conftest import GOLDEN
from .golden_report.__main__ import GROUPS, main, report
from .golden_report.comparison import Ties, compare_meshes


@pytest.mark.parametrize("group", GROUPS)
def test_report_of_a_complete_group_passes(tmp_path, group):
    for name in GROUPS[group]:
        shutil.copy(GOLDEN / name, tmp_path)
    if group == "mesh model":
        shutil.copy(GOLDEN / "instant_mesh_tiny_all_inside.npz", tmp_path)
    rows, problems = report(tmp_path)
    assert not problems
    assert rows
    assert [r for r in rows if not r.passed] == []


def test_report_of_a_changed_number_fails(tmp_path):
    arrays = dict(np.load(GOLDEN / "cameras.npz"))
    arrays["orbit_120_r4_e20"] = arrays["orbit_120_r4_e20"] + 1e-4
    np.savez(tmp_path / "cameras.npz", **arrays)
    assert main([str(tmp_path)]) == 1


def test_report_of_an_incomplete_group_fails(tmp_path):
    shutil.copy(GOLDEN / "instant_mesh_tiny.npz", tmp_path)
    _, problems = report(tmp_path)
    assert problems
    assert "incomplete" in problems[0]


def test_report_of_an_empty_folder_fails(tmp_path):
    assert main([str(tmp_path)]) == 1
    assert main([]) == 2


def _plane(level: float) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Return FlexiCubes' mesh of a plane at x = 0.03 with one changed value, and the values."""
    grid = CubeGrid(8, 2.0)
    values = (0.03 - grid.axis)[:, None, None].expand(9, 9, 9).clone()
    values[4, 4, 4] = level
    return (*flexicubes(values, grid, 1000), values.numpy())


def test_compare_meshes_ignores_differences_only_near_ties():
    inside, outside = _plane(2e-5), _plane(-2e-5)
    axis = CubeGrid(8, 2.0).axis.numpy()
    golden = (outside[0].numpy(), outside[1].numpy())
    ties = Ties.of(outside[2], 0.0, 1e-4, axis)
    assert len(ties.points) == 1
    rows, _ = compare_meshes("plane", inside[0], inside[1], *golden, 1e-4, ties=ties)
    assert all(row.passed for row in rows)
    assert "left out" in rows[0].note
    rows, _ = compare_meshes("plane", inside[0], inside[1], *golden, 1e-4)
    assert not all(row.passed for row in rows)
    moved = inside[0] + torch.tensor([2e-4, 0, 0])
    rows, _ = compare_meshes("plane", moved, inside[1], *golden, 1e-4, ties=ties)
    assert not rows[1].passed, "a tie excuses no difference elsewhere"


def test_golden_report_imports_no_private_names():
    text = "".join(path.read_text() for path in (GOLDEN.parent / "golden_report").glob("*.py"))
    imported = [line for line in text.splitlines() if line.startswith("from pipelines")]
    assert imported
    assert not [line for line in imported if "import _" in line or ", _" in line]
