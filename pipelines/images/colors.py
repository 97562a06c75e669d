"""Convert colours between sRGB, linear light and Lab, and parse them from text.

In glTF, factors and vertex colours are linear light, and images are sRGB (glTF 2.0, section 3.9.2).

Source: IEC 61966-2-1; CIE 15 (Lab).
"""

from __future__ import annotations

import torch
from PIL import ImageColor
from torch import Tensor

from ..errors import InvalidInput

_XYZ_PER_RGB = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))


def to_linear(srgb: Tensor) -> Tensor:
    """Convert sRGB values in [0, 1] to linear light."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055).clamp_min(0) ** 2.4)


def to_srgb(linear: Tensor) -> Tensor:
    """Convert linear light in [0, 1] to sRGB values. This inverts `to_linear`."""
    return torch.where(
        linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp_min(1e-6) ** (1 / 2.4) - 0.055
    )


def to_lab(srgb: Tensor) -> Tensor:
    """Convert sRGB (3, ...) in [0, 1] to CIE Lab, in which distances are visible differences."""
    to_xyz = srgb.new_tensor(_XYZ_PER_RGB)
    white = to_xyz.sum(dim=1, keepdim=True)  # D65
    share = (to_xyz / white) @ to_linear(srgb).flatten(1)
    x, y, z = torch.where(
        share > (6 / 29) ** 3, share.clamp_min(0) ** (1 / 3), share * (29 / 6) ** 2 / 3 + 4 / 29
    )
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)]).view(srgb.shape)


def multiplied(colors: Tensor, factors: Tensor) -> Tensor:
    """Multiply sRGB colours by sRGB factors in linear light, and return sRGB."""
    return to_srgb(to_linear(colors) * to_linear(factors))


def parse_color(text: str) -> tuple[float, float, float]:
    """Parse a CSS colour, such as "#ffffff", "white" or "rgb(255, 255, 255)".

    Returns:
        RGB in [0, 1].

    Raises:
        InvalidInput: if the text is not a colour.
    """
    try:
        red, green, blue = ImageColor.getrgb(text.strip())[:3]
    except ValueError as error:
        raise InvalidInput(f"A colour must look like #ffffff or white, got '{text}'.") from error
    return red / 255, green / 255, blue / 255
