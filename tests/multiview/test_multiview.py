from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipelines.errors import InvalidInput
from pipelines.multiview.generation import on_white
from pipelines.multiview.image_transform import ImageTransform
from pipelines.multiview.sampling import sample_views
from pipelines.multiview.schedulers import SCHEDULERS
from pipelines.settings import ViewSettings


@pytest.fixture
def image() -> torch.Tensor:
    image = torch.ones(1, 3, 96, 96)
    image[:, 1:, 24:72, 24:72] = 0.1
    return image


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_generate_views_repeats_with_the_seed(tiny, image, scheduler):
    first, again, other = (
        sample_views(
            tiny.multiview, image, ViewSettings(steps=3, scheduler=scheduler, seed=s)
        ).views
        for s in (5, 5, 6)
    )
    assert first.shape == (6, 3, tiny.multiview.view_size, tiny.multiview.view_size)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=1e-3)
    assert 0 <= float(first.min()) <= float(first.max()) <= 1


def test_generate_views_of_seed_0_draws_a_seed_that_repeats(tiny, image):
    drawn = sample_views(tiny.multiview, image, ViewSettings(steps=1, seed=0))
    assert drawn.seed > 0
    assert torch.equal(
        sample_views(tiny.multiview, image, ViewSettings(steps=1, seed=drawn.seed)).views,
        drawn.views,
    )


def test_generate_views_reports_each_step_with_a_preview(tiny, image):
    calls = []
    sample_views(
        tiny.multiview,
        image,
        ViewSettings(steps=3, seed=1),
        progress=lambda *c: calls.append((*c[:2], c[2].shape)),
    )
    side = tiny.multiview.view_size // 8
    assert calls == [(n, 3, (1, 3, 3 * side, 2 * side)) for n in (1, 2, 3)]


def test_generate_views_stops_where_progress_raises(tiny, image):
    class Stop(Exception):
        pass

    steps = []

    def stop(done, total, preview=None):
        steps.append(done)
        raise Stop

    with pytest.raises(Stop):
        sample_views(tiny.multiview, image, ViewSettings(steps=50, seed=1), progress=stop)
    assert steps == [1]
    sample_views(tiny.multiview, image, ViewSettings(steps=1, seed=1))


def test_generated_grid_has_the_views_row_by_row(tiny, image):
    result = sample_views(tiny.multiview, image, ViewSettings(steps=1, seed=1))
    size = tiny.multiview.view_size
    torch.testing.assert_close(result.grid[0, :, size : 2 * size, :size], result.views[2])


def test_generated_views_are_cut_row_by_row(tiny, image, monkeypatch):
    """The stand-in for the VAE returns six squares of different greys, row by row."""
    size = tiny.multiview.view_size
    greys = torch.tensor([[0.1, 0.25], [0.4, 0.55], [0.7, 0.85]])
    drawn = greys.repeat_interleave(size, 0).repeat_interleave(size, 1).expand(1, 3, -1, -1)
    pixels = (drawn - 0.5) * 2 / (0.8 / 0.5)  # undoes the scale of the model's pixels
    monkeypatch.setattr(type(tiny.multiview.vae), "decode", lambda *_, **__: (pixels,))
    views = sample_views(tiny.multiview, image, ViewSettings(steps=1, seed=1)).views
    assert views.mean(dim=(1, 2, 3)).tolist() == pytest.approx(
        [0.1, 0.25, 0.4, 0.55, 0.7, 0.85], abs=1e-4
    )
    assert float(views.std(dim=(1, 2, 3)).amax()) < 1e-4


def test_generate_views_without_guidance_runs_no_negative_half(tiny, image):
    batches = []
    hook = tiny.multiview.unet.register_forward_pre_hook(
        lambda module, arguments: batches.append(len(arguments[0]))
    )
    sample_views(tiny.multiview, image, ViewSettings(steps=1, guidance=1.0, seed=1))
    sample_views(tiny.multiview, image, ViewSettings(steps=1, guidance=2.0, seed=1))
    hook.remove()
    assert batches == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("image", "arguments"),
    [
        (torch.rand(1, 2, 32, 32), {}),
        (torch.rand(2, 3, 32, 32), {}),
        (torch.rand(3, 32, 32), {}),
        (torch.full((1, 3, 32, 32), float("nan")), {}),
        (torch.rand(1, 3, 32, 32), {"steps": 0}),
        (torch.rand(1, 3, 32, 32), {"guidance": float("inf")}),
        (torch.rand(1, 3, 32, 32), {"scheduler": "magic"}),
    ],
)
def test_generate_views_refuses_invalid_input(tiny, image, arguments):
    with pytest.raises(InvalidInput):
        sample_views(tiny.multiview, image, ViewSettings(**arguments))


def test_transform_of_a_wide_image_keeps_its_middle():
    transform = ImageTransform(size=32, crop=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    image = torch.zeros(1, 3, 50, 150)
    image[..., 50:100] = 1.0
    pixels = transform(image)
    assert pixels.shape == (1, 3, 32, 32)
    torch.testing.assert_close(pixels[0, :, 16, 16], torch.ones(3))


def test_generated_grey_views_become_white():
    views = torch.full((2, 3, 64, 64), 127 / 255)
    views[:, 0, 20:40, 20:40] = 0.9
    white = on_white(views)
    torch.testing.assert_close(white[:, :, 0, 0], torch.ones(2, 3))
    torch.testing.assert_close(white[:, :, 30, 30], views[:, :, 30, 30])


def test_generate_views_offloaded_moves_one_part_at_a_time(tiny, image, monkeypatch):
    parts = {id(getattr(tiny.multiview, name)): name for name in ("unet", "vae", "vision_encoder")}
    moves = []
    move = torch.nn.Module.to

    def recording(module, device):
        moves.append((parts[id(module)], str(device)))
        return move(module, device)

    expected = sample_views(tiny.multiview, image, ViewSettings(steps=2, seed=4)).views
    monkeypatch.setattr(torch.nn.Module, "to", recording)
    # diffusers' models override `to`.
    for part in (tiny.multiview.unet, tiny.multiview.vae):
        monkeypatch.setattr(type(part), "to", recording)
    device = torch.device("cpu", 0)  # named differently from host memory
    found = sample_views(
        replace(tiny.multiview, device=device, offload=True), image, ViewSettings(steps=2, seed=4)
    ).views
    assert torch.equal(found, expected)
    assert moves == [
        (part, where)
        for part in ("vae", "vision_encoder", "unet", "vae")
        for where in ("cpu:0", "cpu")
    ]
