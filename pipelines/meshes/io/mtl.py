"""MTL: the materials of an OBJ, and their images, which are looked for beside it alone.

Source: Wavefront, "MTL material format"; Exocortex, its extension for PBR (Pr, Pm, map_Pr,
map_Pm, norm, map_Ke).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...images.formats import TEXTURE_FORMATS, open_image
from ..material import Material
from ..topology import Floats
from .pieces import EmbeddedImage, read_embedded_image

log = logging.getLogger(__name__)

#: Options of an MTL's image line and how many words follow each; -o, -s and -t take one to three
#: numbers.
_OPTIONS = {
    "-blendu": 1,
    "-blendv": 1,
    "-bm": 1,
    "-boost": 1,
    "-cc": 1,
    "-clamp": 1,
    "-imfchan": 1,
    "-mm": 2,
    "-texres": 1,
    "-type": 1,
}
_OTHER_MAPS = ("map_pr", "map_pm", "norm", "map_ke")
_VECTORS = ("-o", "-s", "-t")


@dataclass
class MtlMaterial:
    """What an MTL says of one material.

    Attributes:
        color: (3,) in [0, 1], sRGB.
        image: name of the colour's image.
        scale, offset: how its coordinates are changed.
        images: names of other images, by their keyword in small letters.
        numbers: Pr, Pm and Ke.
        unlit: whether light changes nothing (illum 0).
    """

    color: Floats | None = None
    image: str | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    images: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, Floats] = field(default_factory=dict)
    unlit: bool = False


def library_files(path: Path, library: str) -> Iterable[Path]:
    """The files of one `mtllib` line: one whose name has blanks, or several."""
    whole = file_beside(path, library)
    named = [library] if whole is not None else library.split()
    for name in named:
        place = file_beside(path, name)
        if place is None:
            log.warning(
                "%s names the materials %s, which are not beside it: its colours are left out.",
                path.name,
                name,
            )
        else:
            yield place


def read_materials(path: Path, library: str) -> dict[str, MtlMaterial]:
    """The materials of one `mtllib` line of an OBJ, by name."""
    return {
        name: material
        for place in library_files(path, library)
        for name, material in parse_materials(place).items()
    }


def parse_materials(place: Path) -> dict[str, MtlMaterial]:
    """The materials of one MTL, by name."""
    materials: dict[str, MtlMaterial] = {}
    material = MtlMaterial()
    text = (
        place.read_bytes()
        .decode("utf-8-sig", errors="replace")
        .replace("\r\n", "\n")
        .replace("\r", "\n")
    )
    for line in text.split("\n"):
        keyword, _, rest = line.strip().replace("\t", " ").partition(" ")
        if keyword == "newmtl":
            material = materials.setdefault(rest.strip(), MtlMaterial())
        elif keyword == "Kd":
            material.color = _color(rest)
        elif keyword.lower() == "map_kd":
            _read_map(material, rest)
        elif keyword.lower() in _OTHER_MAPS:
            beside = MtlMaterial()
            _read_map(beside, rest)
            if beside.image:
                material.images[keyword.lower()] = beside.image
        elif keyword in ("Pr", "Pm", "Ke"):
            numbers = _color(rest)
            if numbers is not None:
                material.numbers[keyword] = numbers
        elif keyword == "illum":
            material.unlit = rest.split()[:1] == ["0"]
    return materials


def beside_color(path: Path, own: MtlMaterial) -> Material | None:
    """What a material of an OBJ says beside its colour, with its images read.

    Roughness and metal have an image each in an MTL, and one in common in a `Material`.
    """
    found = {name: image_beside(path, file) for name, file in own.images.items()}
    there = {name: image.pixels for name, image in found.items() if image is not None}
    rough, metal = there.get("map_pr"), there.get("map_pm")
    both = None
    if rough is not None or metal is not None:
        some = rough if rough is not None else metal
        assert some is not None
        both = torch.ones_like(some)
        both[..., 1] = 1.0 if rough is None else rough[..., 1]
        both[..., 2] = 0.0 if metal is None else _of_size(metal, some)[..., 2]
    emissive = there.get("map_ke")
    factors: dict[str, Any] = {}
    # What says nothing: white under an image, and what a material is without any.
    for name, keyword, neutral in (
        ("roughness_factor", "Pr", 1.0),
        ("metallic_factor", "Pm", 0.0 if metal is None else 1.0),
        ("emissive_factor", "Ke", 0.0 if emissive is None else 1.0),
    ):
        value = own.numbers.get(keyword)
        if value is not None and (value != neutral).any():
            factors[name] = value.tolist() if keyword == "Ke" else float(value[0])
    normal = there.get("norm")
    return Material(both, normal, emissive, unlit=own.unlit, factors=factors).or_none()


def lines_of(material: Material | None, images: Mapping[str, str]) -> str:
    """An MTL's lines of what stands beside the colour.

    Args:
        material: of the mesh.
        images: names of the files of roughness, metal, normal_map and emissive.
    """
    own = material or Material()
    lines = [f"illum {0 if own.unlit else 1}"]
    for name, keyword in (("roughness", "Pr"), ("metallic", "Pm")):
        if f"{name}_factor" in own.factors or name in images:
            lines.append(f"{keyword} {own.factors.get(f'{name}_factor', 1.0):g}")
    glow = own.factors.get("emissive_factor", (1, 1, 1) if "emissive" in images else None)
    if glow is not None:
        lines.append("Ke " + " ".join(f"{value:g}" for value in glow))
    keywords = {
        "roughness": "map_Pr",
        "metallic": "map_Pm",
        "normal_map": "norm",
        "emissive": "map_Ke",
    }
    lines += [f"{keywords[name]} {file}" for name, file in images.items()]
    return "".join(f"{line}\n" for line in lines)


def _of_size(image: Tensor, like: Tensor) -> Tensor:
    """An image (H, W, 3) at the size of another."""
    if image.shape == like.shape:
        return image
    rows = torch.nn.functional.interpolate(
        image.permute(2, 0, 1)[None], size=like.shape[:2], mode="bilinear"
    )
    return rows[0].permute(1, 2, 0)


def _color(text: str) -> Floats | None:
    try:
        numbers = [float(word) for word in text.partition("#")[0].split()]
    except ValueError:  # "spectral" and "xyz" name colours that nobody writes
        return None
    numbers = numbers * 3 if len(numbers) == 1 else numbers
    return np.array(numbers[:3]).clip(0, 1) if len(numbers) >= 3 else None


def _read_map(material: MtlMaterial, text: str) -> None:
    """An image line: options with their words, then the name, perhaps with blanks or in quotes."""
    rest = text.strip()
    while rest.startswith("-"):
        option, _, rest = rest.partition(" ")
        if option in _OPTIONS:
            for _ in range(_OPTIONS[option]):
                rest = rest.lstrip().partition(" ")[2]
        elif option in _VECTORS:
            numbers: list[float] = []
            while len(numbers) < 3:
                word, _, after = rest.lstrip().partition(" ")
                try:
                    numbers.append(float(word))
                except ValueError:
                    break
                rest = after
            two = (numbers + [1.0 if option == "-s" else 0.0] * 2)[:2]
            if option == "-s":
                material.scale = (two[0], two[1])
            elif option == "-o":
                material.offset = (two[0], two[1])
        else:
            rest = f"{option} {rest}"
            break
        rest = rest.lstrip()
    material.image = rest.strip().strip('"').strip("'").strip() or None


def image_beside(path: Path, name: str) -> EmbeddedImage | None:
    """The image of this name below the OBJ's folder, or None, which is logged."""
    place = file_beside(path, name)
    if place is None:
        log.warning(
            "The material of %s names the image %s, which is not beside it: its texture is left"
            " out.",
            path.name,
            name,
        )
        return None
    try:
        with open_image(place, TEXTURE_FORMATS) as image:
            return read_embedded_image(image)
    except Exception as error:  # Pillow's plugins raise whatever goes wrong in them
        log.warning(
            "The image %s of %s cannot be read (%s): its texture is left out.",
            name,
            path.name,
            type(error).__name__,
        )
        return None


def file_beside(path: Path, name: str) -> Path | None:
    """The file of this name below the OBJ's folder, in whatever case.

    Else the one of its bare name beside the OBJ.
    """
    parts = [
        part
        for part in name.strip().strip('"').replace("\\", "/").split("/")
        if part not in ("", ".")
    ]
    if not parts or "\0" in name:
        return None
    root = path.parent.resolve()
    for steps in (parts, parts[-1:]):
        place: Path | None = root
        for step in steps:
            place = None if place is None or step == ".." else _step(place, step)
        if place is not None and place.is_file() and place.resolve().is_relative_to(root):
            return place
    return None


def _step(folder: Path, name: str) -> Path | None:
    try:
        exact = folder / name
        if exact.exists():
            return exact
        return next(
            (entry for entry in folder.iterdir() if entry.name.casefold() == name.casefold()), None
        )
    except OSError:
        return None
