"""Materials: metalness, roughness, normal map and emission of a surface.

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
#: The factors that scale each image. They are dropped with their image: without it they would apply
#: to the whole surface, and turn it into black metal or make it glow white.
SCALES = {
    "metallic_roughness": ("metallic_factor", "roughness_factor", "occlusion_strength"),
    "normal_map": ("normal_scale",),
    "emissive": (EMISSION, STRENGTH),
}


@dataclass(frozen=True, eq=False)
class Material:
    """A material as defined by glTF. Its images use the mesh's uvs, like the texture.

    Attributes:
        metallic_roughness: (H, W, 3) float32 in [0, 1], rows from the top: roughness in green,
            metalness in blue; or None.
        normal_map: (H, W, 3) float32 in [0, 1]: tangent-space normals, mapped from [-1, 1]; or
            None.
        emissive: (H, W, 3) float32 sRGB in [0, 1]: emitted light; or None.
        occlusion_in_mr: whether the red channel of `metallic_roughness` is ambient occlusion.
        unlit: whether the colour is shown without shading.
        factors: glTF's material properties, by name in snake case: metallic_factor,
            roughness_factor (below 0: automatic), emissive_factor, emissive_strength, `BASE_COLOR`
            (linear, with alpha), double_sided, alpha_mode, alpha_cutoff, normal_scale,
            occlusion_strength. Other properties are kept unchanged.

    Raises:
        InvalidInput: if an image has the wrong shape or contains values that are not finite.
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
        """The images that are present, by name."""
        found = {name: getattr(self, name) for name in IMAGES}
        return {name: image for name, image in found.items() if image is not None}

    @property
    def base_color(self) -> Tensor | None:
        """(3,) sRGB in [0, 1], a factor of the mesh's colours, or None."""
        factor = self.factors.get(BASE_COLOR)
        if factor is None:
            return None
        return to_srgb(torch.tensor(list(factor)[:3], dtype=torch.float32).clamp(0, 1)).clamp(0, 1)

    @property
    def emission(self) -> tuple[list[float], float]:
        """Colour (3,) and strength of the emitted light; both multiply the emissive image."""
        color = [max(float(c), 0.0) for c in self.factors.get(EMISSION, (0.0, 0.0, 0.0))]
        if self.emissive is not None and not any(color):
            color = [1.0, 1.0, 1.0]
        return color, max(float(self.factors.get(STRENGTH, 1.0)), 0.0)

    def without_images(self) -> Material | None:
        """Return the material without its images, for use with other uvs; None if it is empty.

        Factors that scale a dropped image are dropped too.
        """
        dropped = {factor for name in self.images for factor in SCALES[name]}
        factors = {name: value for name, value in self.factors.items() if name not in dropped}
        return Material(unlit=self.unlit, factors=factors).or_none()

    def without_base_color(self) -> Material | None:
        """Return the material without its base colour, but with its alpha; None if it is empty."""
        rest = {k: v for k, v in self.factors.items() if k != BASE_COLOR}
        alpha = list(self.factors.get(BASE_COLOR, (1.0,) * 4))[3:]
        if alpha and alpha[0] < 1:
            rest[BASE_COLOR] = [1.0, 1.0, 1.0, alpha[0]]
        return replace(self, factors=rest).or_none()

    def or_none(self) -> Material | None:
        """Return the material, or None if it is empty."""
        return self if self.images or self.unlit or self.factors else None


IMAGES = tuple(f.name for f in fields(Material) if str(f.type).startswith("Tensor"))


def emission_factors(color: Sequence[float], strength: float = 1.0) -> dict[str, Any]:
    """Return the factors for emitted light of a colour (3,) and strength.

    glTF limits colours to [0, 1]; brightness beyond that moves into the strength.
    """
    scale = max(1.0, *color)
    factors: dict[str, Any] = {EMISSION: [c / scale for c in color]}
    return factors if scale * strength == 1 else factors | {STRENGTH: scale * strength}
