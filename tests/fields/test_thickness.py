"""Thickness of uncertain rays, and limits of depth."""

from __future__ import annotations

import pytest
import torch

from pipelines.fields.thickness import depth_limit, expected_thickness, local_radius, smooth_within


def _disc(size: int, radius: float) -> torch.Tensor:
    line = (torch.arange(size) + 0.5) / size - 0.5
    return ((line**2 + line[:, None] ** 2).sqrt() < radius).float()[None, None]


def test_expected_thickness_of_an_uncertain_ray_is_its_expected_length():
    """Thirty bins with a probability of 0.2 are six expected bins, times the gain of 1.2."""
    ramp = torch.linspace(0, 0.2, 30)
    logits = torch.full((1, 48, 8, 8), -9.0)
    logits[:, 9:39] = (torch.logit(torch.tensor(0.2)) + ramp - 0.1)[None, :, None, None]
    shifted, uncertain = expected_thickness(logits, torch.ones(1, 1, 8, 8))
    solid = shifted > 0
    assert solid.sum(dim=1).float().mean() == pytest.approx(7.2, abs=1)
    assert bool(solid[:, 38].all()), "the likeliest bins are solid"
    assert float(uncertain.amin()) > 0.99


def test_expected_thickness_keeps_confident_rays():
    logits = torch.full((1, 48, 8, 8), -8.0)
    logits[:, 10:30] = 8.0
    shifted, uncertain = expected_thickness(logits, torch.ones(1, 1, 8, 8))
    torch.testing.assert_close(shifted, logits, atol=2e-3, rtol=0)
    assert float(uncertain.amax()) < 1e-3


@pytest.mark.parametrize(("logit", "change"), [(-1.0, 0.4), (6.0, 1.0)])
def test_expected_thickness_makes_neighbouring_rays_agree_if_they_are_uncertain(logit, change):
    """Every second ray is most likely solid four bins nearer than the others."""
    bins = torch.arange(48.0)
    logits = torch.empty(1, 48, 8, 8)
    for columns, middle in ((slice(0, None, 2), 18), (slice(1, None, 2), 22)):
        logits[..., columns] = (logit - 0.2 * (bins - middle).abs())[None, :, None, None]
    shifted, _ = expected_thickness(logits, torch.ones(1, 1, 8, 8))
    first = (shifted > 0).float().argmax(dim=1)
    assert float((first[..., 1::2] - first[..., ::2]).float().mean()) <= 4 * change


def test_expected_thickness_fills_each_ray_of_the_mask_only():
    logits = torch.full((1, 8, 4, 6), -3.0)
    logits[0, 5] = -1.0
    coverage = torch.zeros(1, 1, 4, 6)
    coverage[..., :1] = 1
    shifted, _ = expected_thickness(logits, coverage)
    assert bool((shifted[..., :2].amax(dim=1) > 0).all()), "rays beside the mask are filled too"
    assert bool((shifted[0, :, :, 0].argmax(dim=0) == 5).all())
    torch.testing.assert_close(shifted[..., 2:], logits[..., 2:])


def test_expected_thickness_of_a_ray_beside_likelier_ones_is_not_empty():
    logits = torch.full((1, 8, 6, 6), -9.0)
    logits[0, 5:7] = 0.5
    logits[0, 5:7, 3, 3] = -2.0
    shifted, _ = expected_thickness(logits, torch.ones(1, 1, 6, 6))
    assert bool((shifted[0, 5:7] > 0).all())


def test_smooth_within_ignores_the_background():
    values = torch.zeros(1, 2, 6, 6)
    values[..., 3:] = 1000.0
    coverage = torch.zeros(1, 1, 6, 6)
    coverage[..., :3] = 1
    smooth = smooth_within(values, coverage)
    assert float(smooth[..., :3].amax()) < 2
    assert float(smooth_within(torch.ones(1, 2, 6, 6), coverage).sub(1).abs().amax()) < 1e-5


@pytest.mark.parametrize("radius", [0.1, 0.3])
def test_local_radius_of_a_disc_is_its_radius(radius):
    found = local_radius(_disc(256, radius))
    assert float(found[0, 0, 64, 64]) == pytest.approx(radius, abs=0.015)


def test_local_radius_of_a_stick_beside_a_disc_is_half_its_width():
    mask = _disc(256, 0.2)
    mask[..., 123:133, :] = 1
    found = local_radius(mask)[0, 0]
    assert float(found[64, 8]) == pytest.approx(5 / 256, abs=0.01)
    assert float(found[64, 64]) == pytest.approx(0.2, abs=0.02)


def test_depth_limit_of_uncertain_parts_is_a_multiple_of_their_width():
    stick = torch.zeros(1, 1, 256, 256)
    stick[..., 122:134] = 1
    column = (torch.arange(256) + 0.5) / 256
    outline = (6 / 256 - (column - 0.5).abs()).expand(1, 1, 256, 256)
    uncertain, confident = (
        depth_limit(stick, outline, torch.full((1, 1, 64, 64), share))[0, 0, 128]
        for share in (1.0, 0.0)
    )
    assert 0.02 < float(uncertain[128]) < 3 * 6 / 256
    assert float(confident[128]) > 2 * float(uncertain[128])


def test_depth_limit_of_an_uncertain_disc_falls_toward_its_outline():
    mask = _disc(256, 0.3)
    line = (torch.arange(256) + 0.5) / 256 - 0.5
    outline = (0.3 - (line**2 + line[:, None] ** 2).sqrt())[None, None]
    limit = depth_limit(mask, outline, torch.ones(1, 1, 64, 64))[0, 0, 128]
    assert float(limit[128]) == pytest.approx(2.2 * 0.3, rel=0.1)
    assert float(limit[52]) < 0.15
    assert bool((limit[54:120].diff() > 0).all())
