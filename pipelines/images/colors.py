"""Colours: as screens show them (sRGB), as light adds up (linear), and as people write them.

Source: IEC 61966-2-1. glTF's factors and vertex colours are linear (glTF 2.0, section 3.9.2), its
images are sRGB.
"""

from __future__ import annotations

import torch
from PIL import ImageColor
from torch import Tensor

from ..errors import InvalidInput


def to_linear(srgb: Tensor) -> Tensor:
    """SRGB values, in [0, 1], as linear light."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055).clamp_min(0) ** 2.4)


def to_srgb(linear: Tensor) -> Tensor:
    """Linear light, in [0, 1], as sRGB values: the inverse of `to_linear`."""
    return torch.where(
        linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp_min(1e-6) ** (1 / 2.4) - 0.055
    )


def multiplied(colors: Tensor, factors: Tensor) -> Tensor:
    """SRGB colours times sRGB factors, multiplied as light is."""
    return to_srgb(to_linear(colors) * to_linear(factors))


def parse_color(text: str) -> tuple[float, float, float]:
    """RGB in [0, 1] of a colour as CSS writes it: "#ffffff", "white", "rgb(255, 255, 255)".

    Raises:
        InvalidInput: if it is none.
    """
    try:
        red, green, blue = ImageColor.getrgb(text.strip())[:3]
    except ValueError as error:
        raise InvalidInput(f"A colour is written like #ffffff or white, got '{text}'.") from error
    return red / 255, green / 255, blue / 255
