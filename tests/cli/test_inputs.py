"""Images among the command line's arguments, and the names of their results."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pipelines.cli.inputs import find_images, output_names
from pipelines.errors import InvalidInput


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a.jpg, a.png, b.png, and files that operating systems create."""
    for name in ("b.png", "a.jpg", "a.png"):
        Image.new("RGB", (20, 20)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "._a.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / "sub.png").mkdir()
    (tmp_path / "@eaDir").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "@eaDir" / "thumbnail.png")
    return tmp_path


def _names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_find_images_of_a_folder_skips_hidden_files(folder):
    assert _names(find_images([str(folder)])) == ["a.jpg", "a.png", "b.png"]


def test_find_images_expands_patterns(folder, monkeypatch):
    assert _names(find_images([str(folder / "*.png")])) == ["a.png", "b.png"]
    monkeypatch.chdir(folder)
    assert _names(find_images(["*.jpg", "b.png"])) == ["a.jpg", "b.png"]


def test_find_images_prefers_a_file_to_a_pattern(folder):
    Image.new("RGB", (20, 20)).save(folder / "[ab].png")
    assert _names(find_images([str(folder / "[ab].png")])) == ["[ab].png"]


def test_find_images_expands_the_home_directory(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    assert find_images(["~/a.png"]) == [folder / "a.png"]
    assert _names(find_images(["~/*.jpg"])) == ["a.jpg"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nowhere.png", "There is no file or folder nowhere.png"),
        ("*.gif", "no image matches that pattern"),
        ("x" * 300, "x cannot be read: File name too long."),
    ],
    ids=["missing", "pattern", "long"],
)
def test_find_images_raises_one_sentence(text, sentence):
    with pytest.raises(InvalidInput, match=r"\.$") as caught:
        find_images([text])
    assert sentence in str(caught.value)


def test_output_names_are_the_stems_of_the_images(folder):
    images = find_images([str(folder)])
    assert output_names(images, folder / "out") == ["a", "a-2", "b"]


@pytest.mark.parametrize(
    ("first", "second"),
    [("Cup", "cup"), ("Stra\N{LATIN SMALL LETTER SHARP S}e", "STRASSE"), ("\xe9", "e\u0301")],
    ids=["case", "folding", "unicode form"],
)
def test_output_names_differ_on_every_disk(first, second):
    images = [Path("x", f"{first}.png"), Path("y", f"{second}.png")]
    assert output_names(images, Path("out")) == [first, f"{second}-2"]


def test_output_names_leave_room_for_endings():
    (name,) = output_names([Path("\N{HIRAGANA LETTER A}" * 83 + ".png")], Path("out"))
    assert len(f"{name}-orbit.webp".encode()) < 255


def test_output_names_never_replace_an_image_of_this_run(tmp_path):
    images = [tmp_path / "cat.png", tmp_path / "cat-preview.png"]
    for image in images:
        Image.new("RGB", (20, 20)).save(image)
    assert output_names(images, tmp_path, overwrite=True) == ["cat-2", "cat-preview"]
