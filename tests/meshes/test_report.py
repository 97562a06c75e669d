from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trimesh

from pipelines.meshes.report import report

from ..shapes import ball, to_mesh

CASES = Path(__file__).parents[1] / "data" / "cases"


def test_report_measures_a_mesh():
    both = trimesh.util.concatenate(
        [
            trimesh.creation.box((1, 2, 3)),
            trimesh.creation.box((1, 1, 1)).apply_translation([5, 0, 0]),
        ]
    )
    found = report(to_mesh(both))
    assert (found.triangles, found.vertices, found.components, found.watertight) == (
        24,
        16,
        2,
        True,
    )
    assert found.volume == pytest.approx(7)
    assert found.size == pytest.approx((6, 2, 3))
    assert "24 triangles, 16 vertices, 2 part(s), watertight" in str(found)
    assert not report(replace(ball(), faces=ball().faces[1:])).watertight
