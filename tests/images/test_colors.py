"""Colours as screens show them, as light adds up, and as people write them."""

from __future__ import annotations

import pytest
import torch

from pipelines.errors import InvalidInput
from pipelines.images.colors import multiplied, parse_color, to_linear, to_srgb


@pytest.mark.parametrize(
    ("srgb", "linear"),
    [(0.0, 0.0), (0.04, 0.0030960), (0.5, 0.2140411), (0.735357, 0.5), (1.0, 1.0)],
)
def test_srgb_and_linear_light(srgb, linear):
    """By hand, from the formulas of IEC 61966-2-1."""
    found = to_linear(torch.tensor(srgb, dtype=torch.float64))
    assert float(found) == pytest.approx(linear, abs=1e-6)
    assert float(to_srgb(found)) == pytest.approx(srgb, abs=1e-6)


def test_half_of_the_light_of_a_half():
    assert float(multiplied(torch.tensor(0.5), torch.tensor(0.735357))) == pytest.approx(
        float(to_srgb(torch.tensor(0.2140411 / 2))), abs=1e-5
    )


@pytest.mark.parametrize("text", ["#204080", " #204080 ", "rgb(32, 64, 128)", "#204080ff"])
def test_colors_are_read_as_css_writes_them(text):
    assert parse_color(text) == pytest.approx((32 / 255, 64 / 255, 128 / 255))


def test_what_is_no_colour():
    with pytest.raises(InvalidInput, match="'nocolour'"):
        parse_color("nocolour")
