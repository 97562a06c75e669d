"""Colours in sRGB, in linear light and as text."""

from __future__ import annotations

import pytest
import torch
from skimage.color import rgb2lab

from pipelines.errors import InvalidInput
from pipelines.images.colors import multiplied, parse_color, to_lab, to_linear, to_srgb


@pytest.mark.parametrize(
    ("srgb", "linear"),
    [(0.0, 0.0), (0.04, 0.0030960), (0.5, 0.2140411), (0.735357, 0.5), (1.0, 1.0)],
)
def test_to_linear_and_to_srgb_are_inverse(srgb, linear):
    """Expected values are computed by hand with the formulas of IEC 61966-2-1."""
    found = to_linear(torch.tensor(srgb, dtype=torch.float64))
    assert float(found) == pytest.approx(linear, abs=1e-6)
    assert float(to_srgb(found)) == pytest.approx(srgb, abs=1e-6)


def test_multiplied_multiplies_linear_light():
    assert float(multiplied(torch.tensor(0.5), torch.tensor(0.735357))) == pytest.approx(
        float(to_srgb(torch.tensor(0.2140411 / 2))), abs=1e-5
    )


def test_to_lab_matches_scikit_image():
    srgb = torch.linspace(0, 1, 4)
    colors = torch.stack(torch.meshgrid(srgb, srgb, srgb, indexing="ij"))  # (3, 4, 4, 4)
    expected = rgb2lab(colors.movedim(0, -1).numpy())
    assert (to_lab(colors).movedim(0, -1) - torch.from_numpy(expected)).abs().max() < 0.05


@pytest.mark.parametrize("text", ["#204080", " #204080 ", "rgb(32, 64, 128)", "#204080ff"])
def test_parse_color_reads_css_colours(text):
    assert parse_color(text) == pytest.approx((32 / 255, 64 / 255, 128 / 255))


def test_parse_color_refuses_other_text():
    with pytest.raises(InvalidInput, match="'nocolour'"):
        parse_color("nocolour")
