"""Wrong masks get a message that names the mistake."""

from __future__ import annotations

import pytest
import torch
from server import PromptServer

from pipelines.errors import InvalidInput, NothingInImage

IMAGE = torch.rand(1, 96, 128, 3)
WHITE = torch.ones(1, 96, 128, 3)


def _disc(height: int = 96, width: int = 128) -> torch.Tensor:
    """Return a mask (1, H, W) of a disc in the middle."""
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    return ((x**2 + y**2) < 0.5).float()[None]


@pytest.mark.parametrize("node", ["RemoveBackground", "FrameForeground"])
@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        pytest.param(1 - _disc(), InvalidInput, "looks inverted.*Invert Mask", id="load-image"),
        pytest.param(torch.zeros(1, 64, 64), NothingInImage, "without transparency", id="opaque"),
        pytest.param(_disc(96, 96), InvalidInput, "aspect ratios differ", id="other-aspect"),
    ],
)
def test_masks_of_refuses_masks_of_other_images(nodes, node, mask, error, message):
    rest = {"RemoveBackground": ("auto", 0.05, mask), "FrameForeground": (mask, 0.85, 64, "white")}
    with pytest.raises(error, match=message):
        getattr(nodes, node).execute(WHITE, *rest[node])


def test_remove_background_of_an_object_that_fills_its_frame_shows_a_note(nodes):
    _, mask = nodes.RemoveBackground.execute(IMAGE, "auto", 0.05, 1 - _disc()).args
    torch.testing.assert_close(mask, 1 - _disc())
    assert "Unless the object is a frame" in PromptServer.instance.texts[-1][1]


def test_remove_background_of_a_mask_of_1_everywhere_shows_a_note(nodes):
    nodes.RemoveBackground.execute(IMAGE, "auto", 0.05, torch.ones(1, 64, 64))
    assert "1 everywhere" in PromptServer.instance.texts[-1][1]


@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(_disc(), id="same-size"),
        pytest.param(_disc(48, 64), id="half-size"),
        pytest.param(_disc(49, 65), id="rounded"),
        pytest.param(_disc().roll(40, dims=2), id="touches-a-border"),
    ],
)
def test_remove_background_of_an_objects_mask_shows_no_note(nodes, mask):
    nodes.RemoveBackground.execute(IMAGE, "auto", 0.05, mask)
    assert not PromptServer.instance.texts
