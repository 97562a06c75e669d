"""Recipes and images of a catalogue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from pipelines.catalogue.items import Item
from pipelines.catalogue.recipe import Recipe
from pipelines.cli.catalogue import make_parser
from pipelines.settings import JobSettings, LoadSettings


def recipe(*words: str) -> Recipe:
    """Return the recipe of a run with these options."""
    values = vars(make_parser().parse_args(["pictures", "-o", "out", *words]))
    return Recipe(
        JobSettings.from_flat(values), LoadSettings.from_flat(values | {"device": "auto"})
    )


def items(ids: Sequence[str]) -> list[Item]:
    return [Item(id, f"/nowhere/{id}.png") for id in ids]


@pytest.fixture
def images(tmp_path: Path) -> Callable[[int], Path]:
    """Makes a folder with a number of images of discs, which differ in size and colour."""

    def make(count: int) -> Path:
        folder = tmp_path / "pictures"
        folder.mkdir()
        for i in range(count):
            picture = Image.new("RGBA", (96, 96))
            box = (10 + i, 10, 80, 60 + i)
            ImageDraw.Draw(picture).ellipse(box, fill=(20 * i % 256, 90, 200, 255))
            picture.save(folder / f"disc-{i}.png")
        return folder

    return make
