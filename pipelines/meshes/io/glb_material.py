"""A GLB's material, beside the colour of the surface.

Source: Khronos, glTF 2.0, section 3.9, and KHR_materials_unlit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from torch import Tensor

from ..material import Material
from ..mesh import Mesh

log = logging.getLogger(__name__)

TextureFormat = Literal["png", "jpeg", "webp"]
TEXTURE_FORMATS = get_args(TextureFormat)

_UNLIT = "KHR_materials_unlit"
#: What a material's factors are where they change nothing.
_NEUTRAL = {
    "roughness_factor": 1.0,
    "emissive_factor": [0.0, 0.0, 0.0],
    "double_sided": False,
    "alpha_mode": "OPAQUE",
    "normal_scale": 1.0,
    "occlusion_strength": 1.0,
}
#: Where each of a material's factors stands in glTF.
_FACTORS = {
    "base_color_factor": ("pbrMetallicRoughness", "baseColorFactor"),
    "metallic_factor": ("pbrMetallicRoughness", "metallicFactor"),
    "roughness_factor": ("pbrMetallicRoughness", "roughnessFactor"),
    "emissive_factor": ("", "emissiveFactor"),
    "double_sided": ("", "doubleSided"),
    "alpha_mode": ("", "alphaMode"),
    "alpha_cutoff": ("", "alphaCutoff"),
    "normal_scale": ("normalTexture", "scale"),
    "occlusion_strength": ("occlusionTexture", "strength"),
}


def written_material(
    mesh: Mesh, texture_format: TextureFormat, add_image: Callable[[Tensor, TextureFormat], int]
) -> dict[str, Any]:
    """The material of a mesh as glTF has it, whose own default would be a metal."""
    own = mesh.material or Material()
    images = own.images if mesh.uvs is not None else {}
    pbr: dict[str, Any] = {
        "metallicFactor": 1.0 if "metallic_roughness" in images else 0.0,
        "roughnessFactor": 1.0,
    }
    material: dict[str, Any] = {"pbrMetallicRoughness": pbr}
    if mesh.texture is not None and mesh.uvs is not None:
        pbr["baseColorTexture"] = {"index": add_image(mesh.texture, texture_format)}
    if "metallic_roughness" in images:
        # As PNG: their numbers are no colours, which the others blur.
        index = add_image(images["metallic_roughness"], "png")
        pbr["metallicRoughnessTexture"] = {"index": index}
        if own.occlusion_in_mr:
            material["occlusionTexture"] = {"index": index}
    if "normal_map" in images:
        material["normalTexture"] = {"index": add_image(images["normal_map"], "png")}
    if "emissive" in images:
        material["emissiveTexture"] = {"index": add_image(images["emissive"], texture_format)}
        material["emissiveFactor"] = [1.0, 1.0, 1.0]
    if mesh.vertex_alpha is not None and bool((mesh.vertex_alpha < 1).any()):
        material["alphaMode"] = "BLEND"
    if own.unlit:
        material["extensions"] = {_UNLIT: {}}
    for name, (path, key) in _FACTORS.items():
        place = material.get(path) if path else material
        if name in own.factors and place is not None:
            place[key] = own.factors[name]
    return material


def read_material(
    material: Mapping[str, Any], pixels_of: Callable[[int], Tensor | None]
) -> Material | None:
    """What a glTF material says beside its colour, or None for nothing.

    Its images count where they lie as the colour's texture does, on coordinates that are not
    changed.

    Args:
        material: of the file's tree.
        pixels_of: from a texture's number to its image (H, W, 3), or None.
    """
    if "KHR_materials_pbrSpecularGlossiness" in material.get("extensions", {}):
        return None
    pbr = material.get("pbrMetallicRoughness", {})
    slots = {
        "metallic_roughness": pbr.get("metallicRoughnessTexture"),
        "normal_map": material.get("normalTexture"),
        "emissive": material.get("emissiveTexture"),
    }
    occlusion = material.get("occlusionTexture")
    base = pbr.get("baseColorTexture", {})
    images: dict[str, Tensor] = {}
    for name, slot in slots.items():
        if slot is None:
            continue
        if _place_of(slot) != _place_of(base) and _place_of(slot) != (0, {}):
            log.warning("The %s lies on coordinates of its own: it is left out.", name)
            continue
        pixels = pixels_of(slot["index"])
        if pixels is not None:
            images[name] = pixels
    shared = slots["metallic_roughness"]
    in_mr = bool(occlusion and shared and occlusion["index"] == shared["index"])
    if occlusion and not in_mr:
        log.warning("The ambient occlusion has an image of its own: it is left out.")
    alpha = pbr.get("baseColorFactor", (1.0,) * 4)[3]
    factors: dict[str, Any] = {"base_color_factor": [1.0, 1.0, 1.0, alpha]} if alpha < 1 else {}
    # What glTF assumes where it says nothing, and this library does not.
    defaults = {"metallic_factor": 1.0, "roughness_factor": 1.0}
    for name, (path, key) in _FACTORS.items():
        holder = material.get(path, {}) if path else material
        value = holder.get(key, defaults.get(name))
        if name != "base_color_factor" and value is not None and value != _NEUTRAL.get(name):
            factors[name] = value
    if factors["metallic_factor"] == ("metallic_roughness" in images):
        del factors["metallic_factor"]
    unlit = _UNLIT in material.get("extensions", {})
    if "emissive" in images and factors.get("emissive_factor") == [1.0, 1.0, 1.0]:
        del factors["emissive_factor"]
    elif "emissive" in images and "emissive_factor" not in factors:
        del images["emissive"]  # by nothing
    return Material(**images, occlusion_in_mr=in_mr, unlit=unlit, factors=factors).or_none()


def _place_of(slot: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    """On which coordinates a texture lies, and how they are changed."""
    change = slot.get("extensions", {}).get("KHR_texture_transform", {})
    return change.get("texCoord", slot.get("texCoord", 0)), change
