"""MTL: the materials of an OBJ, and their pictures, which are looked for beside it alone."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .pieces import Floats, Picture, read_picture_of

log = logging.getLogger(__name__)

#: Options of an MTL's picture line and how many words follow each; -o, -s and -t take one to three
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
_VECTORS = ("-o", "-s", "-t")


@dataclass
class Material:
    """A colour (3,) in [0, 1], sRGB, or a picture, and how its coordinates are changed."""

    color: Floats | None = None
    picture: str | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)


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


def read_materials(path: Path, library: str) -> dict[str, Material]:
    """The materials of one `mtllib` line of an OBJ, by name."""
    return {
        name: material
        for place in library_files(path, library)
        for name, material in parse_materials(place).items()
    }


def parse_materials(place: Path) -> dict[str, Material]:
    """The materials of one MTL, by name."""
    materials: dict[str, Material] = {}
    material = Material()
    text = (
        place.read_bytes()
        .decode("utf-8-sig", errors="replace")
        .replace("\r\n", "\n")
        .replace("\r", "\n")
    )
    for line in text.split("\n"):
        keyword, _, rest = line.strip().replace("\t", " ").partition(" ")
        if keyword == "newmtl":
            material = materials.setdefault(rest.strip(), Material())
        elif keyword == "Kd":
            material.color = _color(rest)
        elif keyword.lower() == "map_kd":
            _read_map(material, rest)
    return materials


def _color(text: str) -> Floats | None:
    try:
        numbers = [float(word) for word in text.partition("#")[0].split()]
    except ValueError:  # "spectral" and "xyz" name colours that nobody writes
        return None
    numbers = numbers * 3 if len(numbers) == 1 else numbers
    return np.array(numbers[:3]).clip(0, 1) if len(numbers) >= 3 else None


def _read_map(material: Material, text: str) -> None:
    """A picture line: options with their words, then the name, perhaps with blanks or in quotes."""
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
    material.picture = rest.strip().strip('"').strip("'").strip() or None


def picture_beside(path: Path, name: str) -> Picture | None:
    """The picture of this name below the OBJ's folder, or None, which is logged."""
    place = file_beside(path, name)
    if place is None:
        log.warning(
            "The material of %s names the picture %s, which is not beside it: its texture is left"
            " out.",
            path.name,
            name,
        )
        return None
    try:
        with Image.open(place) as image:
            return read_picture_of(image)
    except Exception as error:  # Pillow's plugins raise whatever goes wrong in them
        log.warning(
            "The picture %s of %s cannot be read (%s): its texture is left out.",
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
