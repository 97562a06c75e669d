"""From images to framed images: Remove Background and Frame Foreground."""

from __future__ import annotations

import folder_paths
import pytest
import torch
from comfy import utils
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import EnvironmentProblem, InvalidInput
from pipelines.images import background
from pipelines.images.framing import frame_foreground
from pipelines.settings import Settings

from .inputs import red_box


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_remove_background_puts_the_object_on_white(nodes, channels):
    image = (
        red_box()[..., :channels]
        if channels < 4
        else torch.cat([red_box(), torch.ones(1, 96, 128, 1)], dim=-1)
    )
    if channels == 1:
        image = red_box()[..., 1:2]
    cut, mask = nodes.RemoveBackground.execute(image, "plain", 0.05).args
    assert cut.shape == (1, 96, 128, 3)
    assert float(mask[0, 40, 60]) == 1.0
    assert float(mask[0, 2, 2]) == 0.0
    torch.testing.assert_close(cut[0, 2, 2], torch.ones(3))
    torch.testing.assert_close(cut[0, 40, 60], image[0, 40, 60, :3].expand(3))
    assert utils.bars[-1].steps[-1][:2] == (1, 1)


def test_remove_background_resizes_own_masks_and_applies_the_threshold(nodes):
    own = torch.full((1, 48, 64), 0.5)
    own[:, :24] = 0.04
    cut, mask = nodes.RemoveBackground.execute(red_box(), "auto", 0.05, own).args
    assert mask.shape == (1, 96, 128)
    assert float(mask[0, 10, 10]) == 0.0
    assert float(mask[0, 80, 10]) == 0.5
    assert cut.shape == (1, 96, 128, 3)
    with pytest.raises(InvalidInput, match="3 masks and 1 images"):
        nodes.RemoveBackground.execute(red_box(), "auto", 0.05, own.expand(3, -1, -1))


@pytest.mark.parametrize("method", ["auto", "u2net"])
@pytest.mark.parametrize("place", ["rembg/u2net.onnx", "rembg/models/u2net/u2net.onnx"])
def test_remove_background_finds_a_model_in_a_second_folder(
    nodes, tmp_path, monkeypatch, method, place
):
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no network")

    # rembg would download a damaged file again, and wait a minute without a network.
    monkeypatch.setattr("pooch.retrieve", no_network)
    file = tmp_path / place
    file.parent.mkdir(parents=True)
    file.write_bytes(b"damaged")
    folder_paths.add_model_folder_path("rembg", str(tmp_path / "rembg"))
    assert nodes.host.background_dir(method) == tmp_path / "rembg"
    with pytest.raises(EnvironmentProblem) as caught:
        nodes.RemoveBackground.execute(torch.rand(1, 64, 64, 3), method, 0.05)
    assert str(file) in str(caught.value)


def test_remove_background_frees_its_model(nodes, monkeypatch):
    monkeypatch.setattr(
        background, "_model_mask", lambda rgb, *_: background._session("silueta", None, "cpu")
    )
    monkeypatch.setattr(background, "is_reachable", lambda url: True)
    monkeypatch.setattr("rembg.new_session", lambda *_, **__: torch.ones(1, 64, 64))
    nodes.RemoveBackground.execute(torch.rand(1, 64, 64, 3), "silueta", 0.05)
    assert background._session.cache_info().currsize == 0


def test_frame_foreground_scales_to_the_ratio_on_the_background(nodes):
    mask = (red_box()[..., 1] < 0.5).float()
    framed, framed_mask = nodes.FrameForeground.execute(red_box(), mask, 0.5, 64, "#00ff00").args
    assert framed.shape == (1, 64, 64, 3)
    assert framed_mask.shape == (1, 64, 64)
    torch.testing.assert_close(framed[0, 1, 1], torch.tensor([0.0, 1.0, 0.0]))
    assert int((framed_mask[0, 32] > 0.5).sum()) == pytest.approx(32, abs=1)


@st.composite
def _soft_images(draw: st.DrawFn) -> torch.Tensor:
    """Draw images (4, H, W) with straight alpha: a soft-edged grey disc on any colours."""
    size = draw(st.integers(48, 80))
    softness = draw(st.floats(0.5, 12.0))
    radius = draw(st.floats(0.2, 0.45)) * size
    darkness = draw(st.floats(0.0, 1.0))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    alpha = ((radius - ((x - size / 2) ** 2 + (y - size / 2) ** 2).sqrt()) / softness + 0.5).clamp(
        0, 1
    )
    rgb = torch.rand(3, size, size, generator=generator) * darkness
    return torch.cat([rgb, alpha[None]])


@settings(max_examples=15)
@given(image=_soft_images())
@pytest.mark.parametrize("method", ["auto", "alpha", "plain"])
def test_graph_frames_as_the_library_does(nodes, method, image):
    graph = nodes.RemoveBackground.execute(
        image.permute(1, 2, 0)[None], method, Settings().alpha_threshold
    )
    framed, framed_mask = nodes.FrameForeground.execute(*graph.args, 0.85, 512, "#ffffff").args
    masks = background.remove_background(image[None], method, threshold=Settings().alpha_threshold)
    expected, expected_mask = frame_foreground(image[None, :3], masks)
    torch.testing.assert_close(framed.permute(0, 3, 1, 2), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(framed_mask[:, None], expected_mask, atol=1e-5, rtol=0)
