"""What light does on a surface, beside its colour: metal, roughness, relief, glow.

Source: Khronos, glTF 2.0, section 3.9; KHR_materials_unlit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..images.colors import to_srgb

BASE_COLOR = "base_color_factor"
EMISSION, STRENGTH = "emissive_factor", "emissive_strength"
#: The factors that scale each image. Without it they would apply to the whole surface: a black
#: metal, or a white glow.
SCALES = {
    "metallic_roughness": ("metallic_factor", "roughness_factor", "occlusion_strength"),
    "normal_map": ("normal_scale",),
    "emissive": (EMISSION, STRENGTH),
}


@dataclass(frozen=True, eq=False)
class Material:
    """A material in glTF's terms. Its images lie on the mesh's uvs, as its texture does.

    Attributes:
        metallic_roughness: (H, W, 3) float32 in [0, 1], rows from the top: roughness in green,
            metal in blue; or None.
        normal_map: (H, W, 3) likewise: directions in tangent space, from [-1, 1]; or None.
        emissive: (H, W, 3) likewise, sRGB: light that the surface gives; or None.
        occlusion_in_mr: whether red of `metallic_roughness` is ambient occlusion.
        unlit: whether the colour is shown as it is, without light.
        factors: numbers that multiply these, by glTF's names in snake case: metallic_factor,
            roughness_factor (below 0: automatic), emissive_factor, emissive_strength, `BASE_COLOR`
            (linear, with alpha), double_sided, alpha_mode, alpha_cutoff, normal_scale,
            occlusion_strength; others are carried along.

    Raises:
        InvalidInput: if an image has another shape or holds values that are not finite.
    """

    metallic_roughness: Tensor | None = None
    normal_map: Tensor | None = None
    emissive: Tensor | None = None
    occlusion_in_mr: bool = False
    unlit: bool = False
    factors: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, image in self.images.items():
            if image.ndim != 3 or image.shape[2] != 3:
                raise InvalidInput(
                    f"A material's {name} must be (H, W, 3), got {tuple(image.shape)}."
                )
            if not bool(torch.isfinite(image).all()):
                raise InvalidInput(f"The {name} of the mesh holds values that are not finite.")

    @property
    def images(self) -> dict[str, Tensor]:
        """Its images by name."""
        found = {name: getattr(self, name) for name in IMAGES}
        return {name: image for name, image in found.items() if image is not None}

    @property
    def base_color(self) -> Tensor | None:
        """(3,) sRGB in [0, 1] by which the mesh's colours are multiplied, or None."""
        factor = self.factors.get(BASE_COLOR)
        if factor is None:
            return None
        return to_srgb(torch.tensor(list(factor)[:3], dtype=torch.float32).clamp(0, 1)).clamp(0, 1)

    @property
    def emission(self) -> tuple[list[float], float]:
        """Colour (3,) and strength of the light that it gives; an image is multiplied by both."""
        color = [max(float(c), 0.0) for c in self.factors.get(EMISSION, (0.0, 0.0, 0.0))]
        if self.emissive is not None and not any(color):
            color = [1.0, 1.0, 1.0]
        return color, max(float(self.factors.get(STRENGTH, 1.0)), 0.0)

    def without_images(self) -> Material | None:
        """Return what is left of it on other uvs, or None if nothing is.

        Factors that scale an image are dropped with it.
        """
        dropped = {factor for name in self.images for factor in SCALES[name]}
        factors = {name: value for name, value in self.factors.items() if name not in dropped}
        return Material(unlit=self.unlit, factors=factors).or_none()

    def without_base_color(self) -> Material | None:
        """Return the material for a mesh whose colours already include it."""
        rest = {k: v for k, v in self.factors.items() if k != BASE_COLOR}
        alpha = list(self.factors.get(BASE_COLOR, (1.0,) * 4))[3:]
        if alpha and alpha[0] < 1:
            rest[BASE_COLOR] = [1.0, 1.0, 1.0, alpha[0]]
        return replace(self, factors=rest).or_none()

    def or_none(self) -> Material | None:
        """Return itself, or None if it has no content."""
        return self if self.images or self.unlit or self.factors else None


IMAGES = tuple(f.name for f in fields(Material) if str(f.type).startswith("Tensor"))


def emission_factors(color: Sequence[float], strength: float = 1.0) -> dict[str, Any]:
    """Return light of a colour (3,) and strength as factors: glTF keeps the colour in [0, 1]."""
    scale = max(1.0, *color)
    factors: dict[str, Any] = {EMISSION: [c / scale for c in color]}
    return factors if scale * strength == 1 else factors | {STRENGTH: scale * strength}
