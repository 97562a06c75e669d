"""What light does on a surface, beside its colour: metal, roughness, relief, glow.

Source: Khronos, glTF 2.0, section 3.9; KHR_materials_unlit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..images.colors import to_srgb

BASE_COLOR = "base_color_factor"


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
            roughness_factor, emissive_factor, `BASE_COLOR` (linear, with alpha), double_sided,
            alpha_mode, alpha_cutoff, normal_scale, occlusion_strength; others are carried along.

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

    def without_images(self) -> Material | None:
        """What is left of it on other uvs: its numbers; None if these say nothing."""
        kept = {"unlit": self.unlit, "factors": self.factors}
        return Material(**kept).or_none()  # type: ignore[arg-type]

    def without_base_color(self) -> Material | None:
        """The same for a mesh whose colours have been multiplied by it already."""
        rest = {k: v for k, v in self.factors.items() if k != BASE_COLOR}
        alpha = list(self.factors.get(BASE_COLOR, (1.0,) * 4))[3:]
        if alpha and alpha[0] < 1:
            rest[BASE_COLOR] = [1.0, 1.0, 1.0, alpha[0]]
        return replace(self, factors=rest).or_none()

    def or_none(self) -> Material | None:
        """Itself, or None if it says nothing."""
        return self if self.images or self.unlit or self.factors else None


IMAGES = tuple(f.name for f in fields(Material) if str(f.type).startswith("Tensor"))
