"""Read and write the properties of a glTF material other than its colour.

Source: Khronos, glTF 2.0, section 3.9, KHR_materials_unlit and KHR_materials_emissive_strength.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from torch import Tensor

from ..material import BASE_COLOR, EMISSION, SCALES, STRENGTH, Material, emission_factors
from ..mesh import Mesh

log = logging.getLogger(__name__)

TextureFormat = Literal["png", "jpeg", "webp"]
TEXTURE_FORMATS = get_args(TextureFormat)

UNLIT = "KHR_materials_unlit"
GLOSSY = "KHR_materials_pbrSpecularGlossiness"
EMISSIVE_STRENGTH = "KHR_materials_emissive_strength"
#: Factor values that have no effect.
_NEUTRAL = {
    "roughness_factor": 1.0,
    EMISSION: [0.0, 0.0, 0.0],
    STRENGTH: 1.0,
    "double_sided": False,
    "alpha_mode": "OPAQUE",
    "normal_scale": 1.0,
    "occlusion_strength": 1.0,
}
#: Default factors of glTF, where they differ from the defaults of `Material`.
_DEFAULTS = {"metallic_factor": 1.0, "roughness_factor": 1.0}
#: Path of each factor in the JSON of a glTF material.
_PLACES: dict[str, tuple[str, ...]] = {
    BASE_COLOR: ("pbrMetallicRoughness", "baseColorFactor"),
    "metallic_factor": ("pbrMetallicRoughness", "metallicFactor"),
    "roughness_factor": ("pbrMetallicRoughness", "roughnessFactor"),
    EMISSION: ("emissiveFactor",),
    STRENGTH: ("extensions", EMISSIVE_STRENGTH, "emissiveStrength"),
    "double_sided": ("doubleSided",),
    "alpha_mode": ("alphaMode",),
    "alpha_cutoff": ("alphaCutoff",),
    "normal_scale": ("normalTexture", "scale"),
    "occlusion_strength": ("occlusionTexture", "strength"),
}
#: Path of each image of a `Material` in the JSON of a glTF material.
_SLOTS: dict[str, tuple[str, ...]] = {
    "metallic_roughness": ("pbrMetallicRoughness", "metallicRoughnessTexture"),
    "normal_map": ("normalTexture",),
    "emissive": ("emissiveTexture",),
}


def write_material(
    mesh: Mesh, texture_format: TextureFormat, add_image: Callable[[Tensor, TextureFormat], int]
) -> dict[str, Any]:
    """Return the JSON of a mesh's glTF material, which is non-metallic by default.

    Args:
        mesh: with or without colours, texture and material.
        texture_format: format of colour images. Other images, such as normal maps, are always PNG,
            because lossy compression would falsify their values.
        add_image: stores an image (H, W, 3) and returns the index of its texture.
    """
    own = mesh.material or Material()
    if mesh.uvs is None:
        own = own.without_images() or Material()
    pbr: dict[str, Any] = {
        "metallicFactor": 0.0 if own.metallic_roughness is None else 1.0,
        "roughnessFactor": 1.0,
    }
    material: dict[str, Any] = {"pbrMetallicRoughness": pbr}
    if mesh.texture is not None and mesh.uvs is not None:
        pbr["baseColorTexture"] = {"index": add_image(mesh.texture, texture_format)}
    for name, image in own.images.items():
        index = add_image(image, texture_format if name == "emissive" else "png")
        _put(material, _SLOTS[name], {"index": index})
        if name == "metallic_roughness" and own.occlusion_in_mr:
            material["occlusionTexture"] = {"index": index}
    if mesh.vertex_alpha is not None and bool((mesh.vertex_alpha < 1).any()):
        material["alphaMode"] = "BLEND"
    if own.unlit:
        _put(material, ("extensions", UNLIT), {})
    for name, value in _valid_factors(own).items():
        of_texture = _PLACES[name][0] in ("normalTexture", "occlusionTexture")
        if not of_texture or _PLACES[name][0] in material:
            _put(material, _PLACES[name], value)
    return material


def _valid_factors(own: Material) -> dict[str, Any]:
    """Clamp a material's factors to glTF's ranges; omit negative ones, which mean automatic."""
    given = own.factors
    found: dict[str, Any] = {}
    for name in ("metallic_factor", "roughness_factor", "occlusion_strength"):
        if given.get(name, -1.0) >= 0:
            found[name] = min(float(given[name]), 1.0)
    if given.get(BASE_COLOR) is not None:
        found[BASE_COLOR] = [min(max(float(c), 0.0), 1.0) for c in given[BASE_COLOR]]
    color, strength = own.emission
    if any(color):
        found |= emission_factors(color, strength)
    kinds: dict[str, type] = {"normal_scale": float, "double_sided": bool}
    found |= {name: kind(given[name]) for name, kind in kinds.items() if name in given}
    if given.get("alpha_mode") in ("OPAQUE", "MASK", "BLEND"):
        found["alpha_mode"] = given["alpha_mode"]
    if found.get("alpha_mode") == "MASK" and given.get("alpha_cutoff", -1.0) >= 0:
        found["alpha_cutoff"] = float(given["alpha_cutoff"])
    return found


def _put(tree: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def _get(tree: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """Return the value at a path of keys, or None if it is missing."""
    for key in path[:-1]:
        tree = tree.get(key, {})
    return tree.get(path[-1])


def read_material(
    material: Mapping[str, Any], pixels_of: Callable[[int], Tensor | None]
) -> Material | None:
    """Load the properties of a glTF material other than its colour, or None if there are none.

    An image whose texture coordinates differ from those of the colour texture is skipped with a
    warning. The factors that scale a skipped image are skipped too.

    Args:
        material: JSON of the material.
        pixels_of: returns the image (H, W, 3) of a texture by its index, or None if it is not
            readable.
    """
    if GLOSSY in material.get("extensions", {}):
        return None
    slots = {name: slot for name, path in _SLOTS.items() if (slot := _get(material, path))}
    base = texture_place(material.get("pbrMetallicRoughness", {}).get("baseColorTexture", {}))
    images: dict[str, Tensor] = {}
    for name, slot in slots.items():
        if texture_place(slot) not in (base, (0, {})):
            log.warning("The %s has texture coordinates of its own: skipped.", name)
            continue
        pixels = pixels_of(slot["index"])
        if pixels is not None:
            images[name] = pixels
    factors = _read_factors(material)
    for name in slots.keys() - images.keys():
        for factor in SCALES[name]:
            factors.pop(factor, None)
    # Drop factors that equal the defaults of `Material`.
    if factors.get("metallic_factor") == ("metallic_roughness" in images):
        del factors["metallic_factor"]
    if "emissive" in images and EMISSION not in factors:
        del images["emissive"]  # the default emissive factor is black
    elif "emissive" in images and factors[EMISSION] == [1.0, 1.0, 1.0]:
        del factors[EMISSION]
    if "emissive" not in images and EMISSION not in factors:
        factors.pop(STRENGTH, None)
    return Material(
        **images,
        occlusion_in_mr=_has_occlusion(material, slots) and "metallic_roughness" in images,
        unlit=UNLIT in material.get("extensions", {}),
        factors=factors,
    ).or_none()


def _read_factors(material: Mapping[str, Any]) -> dict[str, Any]:
    """Return the factors that have an effect, and of the base colour only the opacity."""
    factors: dict[str, Any] = {}
    for name, path in _PLACES.items():
        value = _get(material, path)
        value = _DEFAULTS.get(name) if value is None else value
        if value is not None and value != _NEUTRAL.get(name):
            factors[name] = value
    alpha = factors.pop(BASE_COLOR, (1.0,) * 4)[3]
    if alpha < 1:
        factors[BASE_COLOR] = [1.0, 1.0, 1.0, alpha]
    return factors


def _has_occlusion(material: Mapping[str, Any], slots: Mapping[str, Any]) -> bool:
    """Return whether the ambient occlusion shares the image of metalness and roughness."""
    occlusion = material.get("occlusionTexture")
    if not occlusion:
        return False
    shared = slots.get("metallic_roughness", {}).get("index")
    if occlusion["index"] != shared:
        log.warning("The ambient occlusion has an image of its own: skipped.")
    return bool(occlusion["index"] == shared)


def texture_place(slot: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    """Return the index of the texture coordinate set that a texture uses, and its transform."""
    change = slot.get("extensions", {}).get("KHR_texture_transform", {})
    return change.get("texCoord", slot.get("texCoord", 0)), change
