from __future__ import annotations

from dataclasses import replace

import pytest

from pipelines.catalogue.items import Item
from pipelines.catalogue.recipe import unknown_columns, viewpoints_of
from pipelines.errors import InvalidInput
from pipelines.multiview.photographs import Viewpoints

from .conftest import recipe

PLAIN = Item("a", "a.png")


def _item(**columns: str) -> Item:
    return Item("a", "a.png", tuple(sorted(columns.items())))


def test_settings_of_an_item_override_the_run():
    made = recipe("--resolution", "64", "--texture", "512")
    row = _item(resolution="32", remove_bg="alpha", exact="Yes", title="x")
    settings = made.settings_of(row)
    assert (settings.surface.resolution, settings.surface.exact) == (32, True)
    assert (settings.remove_bg, settings.output.texture) == ("alpha", 512)
    assert made.settings_of(PLAIN).surface.resolution == 64
    assert unknown_columns([row, PLAIN]) == ["title"]


def test_settings_of_an_item_can_clear_a_flag_of_the_run():
    made = recipe("--exact")
    assert made.settings_of(PLAIN).surface.exact
    assert not made.settings_of(_item(exact="false")).surface.exact


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"resolution": "9"}, r"The row of 'a': resolution must be a whole number between 32"),
        ({"format": "doc"}, r"The row of 'a': format must be one of obj, glb"),
        ({"exact": "maybe"}, r"exact must be true or false, got 'maybe'"),
        ({"model": "triposr"}, r"model is a setting of the whole run"),
        ({"seed": "3"}, r"photo has no random sampling"),
    ],
)
def test_task_of_an_invalid_row_raises_one_sentence(columns, said):
    with pytest.raises(InvalidInput, match=said):
        recipe().task(_item(**columns), "a")


def test_task_with_photographs_of_other_sides_has_another_fingerprint():
    row = Item("a", "a.png", (("elevation", "10"),), (("left", "b.png"),))
    made = recipe("--model", "instant-mesh-base", "--seed", "5")
    assert made.task(row, "a").fingerprint != made.task(replace(row, sides=()), "a").fingerprint
    assert viewpoints_of(row, made.settings_of(row)) == Viewpoints((0.0, 90.0), 10.0)
    with pytest.raises(InvalidInput, match="The row of 'a': photo takes one image"):
        recipe().task(row, "a")
    with pytest.raises(InvalidInput, match="The row of 'a': Photographs must be from different"):
        made.task(replace(row, sides=(("360", "b.png"),)), "a")


def test_task_seed_depends_only_on_the_runs_seed_and_the_id():
    made = recipe("--model", "instant-mesh-base", "--seed", "5")
    task = made.task(PLAIN, "a")
    assert made.task(Item("a", "elsewhere.png"), "b").seed == task.seed > 0
    assert made.task(Item("b", "a.png"), "a").seed != task.seed
    assert recipe("--model", "instant-mesh-base", "--seed", "6").task(PLAIN, "a").seed != task.seed
    assert made.task(_item(seed="9"), "a").seed == 9
    assert recipe().task(PLAIN, "a").seed == 0


def test_fingerprint_depends_only_on_settings_that_change_the_result():
    def of(*words: str, item: Item = PLAIN) -> str:
        return recipe(*words).task(item, "a").fingerprint

    plain = of()
    same = [("--chunk-size", "512"), ("--offload",), ("--models-dir", "m"), ("--workers", "3")]
    assert {of(*words) for words in same} == {plain}
    other = [
        ("--resolution", "64"),
        ("--format", "glb"),
        ("--texture", "512"),
        ("--size", "3"),
        ("--pivot", "bottom"),
        ("--previews",),
        ("--views",),
        ("--model", "triposr"),
        ("--dtype", "float16"),
        ("--model", "instant-mesh-base", "--seed", "1"),
        ("--model", "instant-mesh-base", "--seed", "2"),
    ]
    found = {of(*words) for words in other}
    assert len(found) == len(other)
    assert plain not in found
    assert of(item=_item(resolution="64")) == of("--resolution", "64")


def test_fingerprint_includes_the_commit_of_unpinned_weights():
    unpinned, pinned = recipe("--model", "triposg"), recipe("--model", "triposr")
    commit = replace(unpinned, commit="a" * 40)
    assert (unpinned.revision, commit.revision) == ("VAST-AI/TripoSG", "a" * 40)
    assert unpinned.task(PLAIN, "a").fingerprint != commit.task(PLAIN, "a").fingerprint
    same = replace(pinned, commit="a" * 40)
    assert pinned.task(PLAIN, "a").fingerprint == same.task(PLAIN, "a").fingerprint
