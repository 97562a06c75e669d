"""Reconstruct with TripoSG, run with the small golden model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from server import PromptServer

from ..conftest import GOLDEN
from ..golden_report.triposg import lay_out
from ..sample_fields import AnalyticField
from .inputs import red_box


@pytest.fixture
def triposg(nodes, comfyui, tmp_path, monkeypatch) -> Any:
    lay_out(GOLDEN, tmp_path)
    monkeypatch.setattr(nodes.host, "models_dirs", lambda: [tmp_path])
    return nodes.LoadReconstructionModel.execute("triposg", "float32")[0]


def test_reconstruct_triposg_makes_a_field_of_each_image(nodes, triposg):
    framed = nodes.FrameForeground.execute(red_box(), torch.ones(1, 96, 128), 0.85, 128, "#ffffff")
    two = [torch.cat([part, part]) for part in framed.args[:2]]
    fields = nodes.ReconstructTripoSG.execute(triposg, *two, 5, 2, 7.0, 1.0, 512)[0]
    again = nodes.ReconstructTripoSG.execute(triposg, *framed.args[:2], 6, 2, 7.0, 1.0, 512)[0]
    points = torch.rand(20, 3)
    first, second, same = (field.values(points, 100) for field in (*fields, *again))
    torch.testing.assert_close(second, same)
    assert not torch.equal(first, second)


def test_render_orbit_of_a_field_without_colours_shows_a_note(nodes):
    field = AnalyticField(lambda points: 0.5 - points.norm(dim=-1), lambda _: None)
    frames = nodes.RenderOrbit.execute([field], 1, 20.0, 4.0, 32)[0]
    assert bool((frames.amax(dim=-1) == frames.amin(dim=-1)).all())
    assert "no colours, so the frames are grey" in PromptServer.instance.texts[-1][1]


def test_reconstruct_refuses_models_of_the_other_node(nodes, triposg, managed):
    image, mask = torch.ones(1, 64, 64, 3), torch.ones(1, 64, 64)
    with pytest.raises(Exception, match="needs the model triposg"):
        nodes.ReconstructTripoSG.execute(managed[1], image, mask, 5, 2, 7.0, 1.0, 512)
    with pytest.raises(Exception, match="Reconstruct with TripoSG"):
        nodes.Reconstruct.execute(triposg, image, mask=mask)
