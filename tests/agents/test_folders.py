from __future__ import annotations

import pytest

from pipelines.agents.folders import Folders
from pipelines.errors import InvalidInput


@pytest.fixture
def places(tmp_path):
    """Two allowed folders with an image each, and a third folder."""
    for name in ("first", "second", "first-secret"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cat.png").write_bytes(b"")
    return tmp_path


@pytest.fixture
def folders(places):
    return Folders([places / "first", places / "second"])


@pytest.mark.parametrize("text", ["cat.png", "../second/cat.png", "{}/second/cat.png"])
def test_image_inside_is_found(folders, places, text):
    assert folders.image(text.format(places)).read_bytes() == b""


@pytest.mark.parametrize(
    "text", ["../first-secret/cat.png", "{}/first-secret/cat.png", "/etc/passwd", "..", "~"]
)
def test_image_outside_is_refused(folders, places, text):
    with pytest.raises(InvalidInput, match="outside the folders"):
        folders.image(text.format(places))


def test_image_behind_a_link_to_the_outside_is_refused(folders, places):
    (places / "first" / "link.png").symlink_to(places / "first-secret" / "cat.png")
    with pytest.raises(InvalidInput, match="outside the folders"):
        folders.image("link.png")


@pytest.mark.parametrize("text", ["dog.png", ".", ""])
def test_image_that_is_no_file_is_refused(folders, text):
    with pytest.raises(InvalidInput, match="There is no file"):
        folders.image(text)


def test_image_with_a_nul_character_is_refused(folders):
    with pytest.raises(InvalidInput, match="is not a path"):
        folders.image("a\0b")


def test_new_folder_of_a_name_in_use_gets_a_number(folders, places):
    assert folders.new_folder("", "cat").resolve() == places / "first" / "cat"
    assert folders.new_folder("", "cat").resolve() == places / "first" / "cat-2"
    made = folders.new_folder(str(places / "second" / "new"), "cat")
    assert made.is_dir()


def test_new_folder_outside_is_refused_and_not_made(folders, places):
    with pytest.raises(InvalidInput, match="outside the folders"):
        folders.new_folder("../elsewhere", "cat")
    assert not (places / "elsewhere").exists()


def test_folders_that_do_not_exist_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="There is no folder"):
        Folders([tmp_path / "nowhere"])
