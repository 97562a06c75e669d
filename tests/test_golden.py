"""The report passes on the golden arrays, and fails where it must."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from tests.golden_report import GROUPS, main, report

from .conftest import GOLDEN


@pytest.mark.parametrize("group", GROUPS)
def test_every_array_of_a_group_agrees(tmp_path, group):
    for name in GROUPS[group]:
        shutil.copy(GOLDEN / name, tmp_path)
    if group == "mesh model":
        shutil.copy(GOLDEN / "instant_mesh_tiny_all_inside.npz", tmp_path)
    rows, problems = report(tmp_path)
    assert not problems
    assert rows
    assert [r for r in rows if not r.passed] == []


def test_a_changed_number_fails(tmp_path):
    arrays = dict(np.load(GOLDEN / "cameras.npz"))
    arrays["orbit_120_r4_e20"] = arrays["orbit_120_r4_e20"] + 1e-4
    np.savez(tmp_path / "cameras.npz", **arrays)
    assert main([str(tmp_path)]) == 1


def test_an_incomplete_group_fails(tmp_path):
    shutil.copy(GOLDEN / "instant_mesh_tiny.npz", tmp_path)
    _, problems = report(tmp_path)
    assert problems
    assert "incomplete" in problems[0]


def test_an_empty_folder_fails(tmp_path):
    assert main([str(tmp_path)]) == 1
    assert main([]) == 2
