"""Mark the Chinese help pages as up to date with the English ones.

python -m docs.translated    # run after updating the Chinese pages
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "web" / "docs"
_MARK = re.compile(r"\n*<!-- English page: \w* -->\n*\Z")


def digest(english: Path) -> str:
    """Return the digest of an English page that its translation records."""
    return hashlib.sha256(english.read_bytes()).hexdigest()[:12]


def main() -> None:
    for english in sorted(FOLDER.glob("*.md")):
        chinese = FOLDER / english.stem / "zh.md"
        text = _MARK.sub("", chinese.read_text(encoding="utf-8"))
        mark = f"<!-- English page: {digest(english)} -->"
        chinese.write_text(f"{text.rstrip()}\n\n{mark}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
