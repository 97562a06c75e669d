"""Find unidiomatic phrases in code and documents.

python -m docs.prose    # exits with 1 if there are any

The rules follow the style guide: docstrings of functions must start with a verb, and listed
phrases are reported with a plainer replacement.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHECKED = ("*.py", "*.md")
SKIPPED = ("tests/data/", "docs/prose.py")

#: Phrases to avoid, and their replacements.
PHRASES = {
    r"number by number": "numerically",
    r"\bguess where\b": "guesses the unseen sides",
    r"whose death costs": "if a worker crashes, only its job fails",
    r"\bwants? (?:a|an|the) (?:key|path|file|number|mask|image|model)\b": "requires",
    r"\bsays? nothing to\b": "has no effect on",
    r"\blooks? through thin\b": "ignores thin borders",
    r"\bis left out and said\b": "is skipped with a warning",
    r"\bgives? sheets no lid\b": "leaves open surfaces open",
    r"\bcomes? not out\b": "fails",
    r"\b(?:cannot|could not|can't) be had\b": "could not be downloaded",
    r"\bis none that\b": "is not a",
    r"\bso many\b.*\bmore\b": "number of extra",
    r"\bcome to an end in time\b": "times out",
    r"\bin any weather\b": "retries transient errors",
    r"\btak(?:e|es|ing) \w+ (?:process|caller|parent) along\b": "crashes",
    r"\bis there no more\b": "is gone",
    r"\bat home\b": "in its folder",
}
_PHRASES = [(re.compile(pattern, re.IGNORECASE), plain) for pattern, plain in PHRASES.items()]
_NO_VERB = re.compile(r"(?:What|How|Whether|That|Which|Of|Where|Why|The|A|An|All|Those|Each) ")


def problems_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line number and a message for each problem in a file."""
    text = path.read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, plain in _PHRASES:
            if (found := pattern.search(line)) is not None:
                yield number, f"instead of '{found[0]}' write: {plain}"
    if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in ("pipelines", "nodes"):
        yield from _docstrings_without_verb(ast.parse(text))


def _docstrings_without_verb(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if any(isinstance(d, ast.Name) and d.id == "property" for d in node.decorator_list):
            continue  # properties may start with a noun
        docstring = ast.get_docstring(node) or ""
        if _NO_VERB.match(docstring):
            yield node.lineno, f"{node.name}: start the docstring with a verb"


def main() -> int:
    listed = subprocess.run(
        ["git", "ls-files", "-z", *CHECKED], cwd=ROOT, check=True, capture_output=True, text=True
    )
    count = 0
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if not path.exists() or name.startswith(SKIPPED) or name.endswith("zh.md"):
            continue
        for number, problem in problems_of(path):
            print(f"{name}:{number}: {problem}")
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
