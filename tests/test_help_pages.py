"""The nodes' help pages, in English and in Chinese."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.translated import FOLDER, digest

PAGES = sorted(FOLDER.glob("*.md"))


def _structure(text: str) -> dict[str, object]:
    """Return what a translation shares with its page: images, code, bold names, list items."""
    return {
        "pictures": re.findall(r"\]\(([^)]+)\)", text),
        "code": sorted({re.sub("<.*?>", "<>", code) for code in re.findall(r"`([^`]+)`", text)}),
        "bold": sorted(set(re.findall(r"\*\*([a-z_0-9]+)\*\*", text))),
        "rows": len(re.findall(r"^\|", text, re.MULTILINE)),
        "items": len(re.findall(r"^(?:- |\d\. )", text, re.MULTILINE)),
        "headings": len(re.findall(r"^#", text, re.MULTILINE)),
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_help_page_has_a_current_chinese_translation(page: Path):
    chinese = (FOLDER / page.stem / "zh.md").read_text(encoding="utf-8")
    english = page.read_text(encoding="utf-8")
    assert _structure(chinese) == _structure(english)
    assert f"<!-- English page: {digest(page)} -->" in chinese, (
        f"{page.name} has changed: bring its Chinese page up to date, python -m docs.translated"
    )
    assert len(re.findall(r"[\u4e00-\u9fff]", chinese)) > 40


def test_chinese_pages_belong_to_existing_english_pages():
    assert {path.parent.name for path in FOLDER.glob("*/zh.md")} == {page.stem for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_help_page_shows_existing_images(page: Path):
    images = re.findall(r"!\[[^]]+\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    assert images
    assert all((FOLDER / image).exists() for image in images)
