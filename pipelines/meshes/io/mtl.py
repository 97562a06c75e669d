"""Read and write MTL, the material files of an OBJ.

Images are only read from the OBJ's folder and its subfolders.

Source: Wavefront, "MTL material format"; Exocortex, its extension for PBR (Pr, Pm, map_Pr,
map_Pm, norm, map_Ke).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..material import Material, emission_factors
from ..topology import Floats
from .textures import find_companion, read_texture, resized

log = logging.getLogger(__name__)

#: Options of an image line, and the number of words that follow each.
_OPTIONS = {"-mm": 2} | dict.fromkeys(
    ["-blendu", "-blendv", "-bm", "-boost", "-cc", "-clamp", "-imfchan", "-texres", "-type"], 1
)
#: Options of an image line that one to three numbers follow.
_VECTORS = ("-o", "-s", "-t")
_LEADING_NUMBERS = re.compile(r"(?:\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?!\S)){1,3}")
#: Keywords of images other than the colour's.
_MAPS = {"roughness": "map_Pr", "metallic": "map_Pm", "normal_map": "norm", "emissive": "map_Ke"}
_NAMES = {keyword.lower(): name for name, keyword in _MAPS.items()}
_NUMBERS = {"roughness": "Pr", "metallic": "Pm"}
#: Maps that affect the appearance but are not supported.
_SKIPPED_MAPS = ("map_d", "map_bump", "bump", "disp", "decal")


@dataclass
class MtlMaterial:
    """One material of an MTL.

    Attributes:
        color: (3,) in [0, 1], sRGB.
        image: file name of the colour image.
        scale, offset: transform of the colour image's texture coordinates.
        images: file names of other images, by the names in `_MAPS`.
        numbers: (3,) values of Pr, Pm and Ke, each at least 0.
        unlit: whether the surface ignores light (illum 0).
        skipped: keywords of unsupported maps.
    """

    color: Floats | None = None
    image: str | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    images: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, Floats] = field(default_factory=dict)
    unlit: bool = False
    skipped: list[str] = field(default_factory=list)


def library_files(path: Path, library: str) -> dict[str, Path | None]:
    """Find the files of one `mtllib` line, by name.

    The line holds several names, or one name with spaces. A file that is not found is None.
    """
    for name in (library, library.partition(" #")[0]):
        if place := find_companion(path, name):
            return {name: place}
    return {name: find_companion(path, name) for name in library.partition(" #")[0].split()}


def read_libraries(path: Path, libraries: Iterable[str]) -> dict[str, MtlMaterial]:
    """Read the materials of all `mtllib` lines of an OBJ, by name.

    Missing libraries and unsupported maps are logged as warnings.
    """
    materials: dict[str, MtlMaterial] = {}
    files = {name: place for line in libraries for name, place in library_files(path, line).items()}
    for name, place in files.items():
        if place is None:
            text = "%s names the material file %s, which is missing: skipped."
            log.warning(text, path.name, name)
            continue
        own = parse(place)
        materials |= own
        if skipped := sorted({keyword for m in own.values() for keyword in m.skipped}):
            log.warning("%s: %s are not read.", place.name, ", ".join(skipped))
    return materials


def image_names(place: Path) -> list[str]:
    """Return the names of all images that an MTL uses."""
    return [
        name
        for material in parse(place).values()
        for name in (material.image, *material.images.values())
        if name
    ]


def parse(place: Path) -> dict[str, MtlMaterial]:
    """Parse an MTL file into materials by name."""
    materials: dict[str, MtlMaterial] = {}
    material = MtlMaterial()
    text = place.read_bytes().decode("utf-8-sig", errors="replace")
    for line in text.replace("\r", "\n").split("\n"):
        keyword, _, rest = line.strip().replace("\t", " ").partition(" ")
        if keyword == "newmtl":
            material = materials.setdefault(rest.strip(), MtlMaterial())
        else:
            _read_line(material, keyword, rest)
    return materials


def _read_line(material: MtlMaterial, keyword: str, rest: str) -> None:
    """Parse one line of an MTL into a material."""
    small = keyword.lower()
    if keyword == "Kd":
        color = _numbers(rest)
        material.color = None if color is None else color.clip(0, 1)
    elif small == "map_kd":
        material.image, options = _parse_map(rest)
        material.scale = _pair(options.get("-s", []), 1.0)
        material.offset = _pair(options.get("-o", []), 0.0)
    elif small in _NAMES:
        if name := _parse_map(rest)[0]:
            material.images[_NAMES[small]] = name
    elif keyword in ("Pr", "Pm", "Ke"):
        if (numbers := _numbers(rest)) is not None:
            material.numbers[keyword] = numbers.clip(0, None)
    elif keyword == "illum":
        material.unlit = rest.split()[:1] == ["0"]
    elif small in _SKIPPED_MAPS:
        material.skipped.append(keyword)


def other_properties(path: Path, own: MtlMaterial) -> Material | None:
    """Load the properties of an OBJ's material other than its colour, including images.

    An MTL stores roughness and metalness in two images; a `Material` combines them into one. If an
    image is missing, its scale factor is dropped too.
    """
    found = {name: read_texture(path, file) for name, file in own.images.items()}
    images = {name: image.pixels for name, image in found.items() if image is not None}
    missing = found.keys() - images.keys()
    factors: dict[str, Any] = {}
    neutral = {"roughness": 1.0, "metallic": float("metallic" in images)}
    for name, keyword in _NUMBERS.items():
        value = own.numbers.get(keyword)
        if value is not None and name not in missing and value[0] != neutral[name]:
            factors[f"{name}_factor"] = min(float(value[0]), 1.0)
    glow = own.numbers.get("Ke")
    default = float("emissive" in images)  # Ke of 1 shows an image unchanged
    if glow is not None and "emissive" not in missing and glow.any() and (glow != default).any():
        factors |= emission_factors(glow.tolist())
    packed = _packed(images.get("roughness"), images.get("metallic"))
    others = images.get("normal_map"), images.get("emissive")
    return Material(packed, *others, unlit=own.unlit, factors=factors).or_none()


def _packed(roughness: Tensor | None, metal: Tensor | None) -> Tensor | None:
    """Combine images into one (H, W, 3) with roughness in green and metalness in blue.

    Returns None if both images are missing.
    """
    like = metal if roughness is None else roughness
    if like is None:
        return None
    packed = torch.ones_like(like)
    if roughness is not None:
        packed[..., 1] = roughness[..., 1]
    packed[..., 2] = 0.0 if metal is None else resized(metal, *like.shape[:2])[..., 2]
    return packed


def material_lines(material: Material | None, images: Mapping[str, str]) -> str:
    """Format the properties of a material other than its colour as lines of an MTL.

    Args:
        material: the mesh's material, or None for the defaults.
        images: file names of the images "roughness", "metallic", "normal_map" and "emissive".
    """
    own = material or Material()
    lines = [f"illum {0 if own.unlit else 1}"]
    for name, keyword in _NUMBERS.items():
        factor = own.factors.get(f"{name}_factor", -1.0)  # negative: automatic
        if factor >= 0 or name in images:
            lines.append(f"{keyword} {factor if factor >= 0 else 1.0:g}")
    color, strength = own.emission
    if any(color):
        lines.append("Ke " + " ".join(f"{value * strength:g}" for value in color))
    lines += [f"{_MAPS[name]} {file}" for name, file in images.items()]
    return "".join(f"{line}\n" for line in lines)


def _numbers(text: str) -> Floats | None:
    """Parse the three numbers of a line; a single number is repeated three times."""
    try:
        numbers = [float(word) for word in text.partition("#")[0].split()]
    except ValueError:  # the rare "spectral" and "xyz" colours are unsupported
        return None
    numbers = numbers * 3 if len(numbers) == 1 else numbers
    return np.array(numbers[:3]) if len(numbers) >= 3 else None


def _parse_map(text: str) -> tuple[str | None, dict[str, list[float]]]:
    """Parse an image line: options, then a file name, which may contain spaces or be quoted.

    Returns:
        name: the file name, or None.
        vectors: the numbers of each option that has some.
    """
    rest, vectors = text.strip(), dict[str, list[float]]()
    while rest.startswith("-"):
        option, _, after = rest.partition(" ")
        if option in _VECTORS:
            if leading := _LEADING_NUMBERS.match(after):
                vectors[option] = [float(word) for word in leading[0].split()]
                after = after[leading.end() :]
        elif option in _OPTIONS:
            for _ in range(_OPTIONS[option]):
                after = after.lstrip().partition(" ")[2]
        else:
            break
        rest = after.lstrip()
    return rest.strip().strip('"').strip("'").strip() or None, vectors


def _pair(numbers: list[float], default: float) -> tuple[float, float]:
    u, v, *_ = [*numbers, default, default]
    return u, v
