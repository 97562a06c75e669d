"""Run mutation tests: count the one-line changes that the tests notice, and list the others.

    python -m tests.mutants [--share 0.1] [--seed 0] [FILE ...]

This runs mutmut (settings in pyproject.toml) on a random share of all mutants, or on the mutants of
the given files. A full run takes hours; a stopped run continues where it stopped. Survivors that
change nothing visible are listed in mutants-left.txt, each with its reason.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "mutants"
LEFT = Path(__file__).with_name("mutants-left.txt")
KILLED, SURVIVED = "killed", "survived"
# Any other exit code means killed: a failure, a crash or a timeout.
_OUTCOME = {0: SURVIVED, 5: "no tests", 33: "no tests", None: "not run"}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("files", nargs="*", help="such as pipelines/cameras.py (default: all)")
    parser.add_argument(
        "--share", type=float, default=1.0, help="share of the mutants to run, drawn at random"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--report", action="store_true", help="only print the results of earlier runs"
    )
    options = parser.parse_args(arguments)
    if not options.report:
        if not RESULTS.exists():
            _mutmut("pipelines.images.colors.*")  # creates all mutants
        names = sorted(
            name for name in outcomes() if not options.files or _file(name) in options.files
        )
        drawn = random.Random(options.seed).sample(names, round(options.share * len(names)))
        for start in range(0, len(drawn), 1000):
            _mutmut(*drawn[start : start + 1000])
    return _report(outcomes(), options.files)


def outcomes() -> dict[str, str]:
    """Return the outcome of each mutant, by name."""
    found: dict[str, str] = {}
    for path in RESULTS.rglob("*.meta"):
        codes = json.loads(path.read_text())["exit_code_by_key"]
        found |= {name: _OUTCOME.get(code, KILLED) for name, code in codes.items()}
    return found


def _mutmut(*names: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "mutmut", "run", "--max-children", "1", *names],
        cwd=ROOT,
        check=False,
        stdout=subprocess.DEVNULL,
    )


def _file(name: str) -> str:
    """pipelines.cameras.xǁCamerasǁrays__mutmut_3 -> pipelines/cameras.py"""
    return name.rpartition(".")[0].replace(".", "/") + ".py"


def _change(name: str) -> str:
    """Return a mutant's change, as "old line -> new line", without indentation."""
    _, _, function = name.rpartition(".")
    source = (RESULTS / _file(name)).read_text()
    whole, lines = ast.parse(source), source.splitlines()
    bodies = {
        node.name: lines[node.lineno : node.end_lineno]
        for node in ast.walk(whole)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    original = bodies[re.sub(r"__mutmut_\d+$", "__mutmut_orig", function)]
    marked = [line for line in difflib.ndiff(original, bodies[function]) if line[0] in "-+"]
    old, new = (" ".join(line[2:].strip() for line in marked if line[0] == sign) for sign in "-+")
    return f"{old} -> {new}"


def _reasons() -> list[tuple[str, str]]:
    """Return pairs: the pattern of a change, and the reason why no test can notice it."""
    blocks = LEFT.read_text(encoding="utf-8").split("\n\n")[1:]
    return [
        (" ".join(lines[:-1]), lines[-1]) for lines in (b.splitlines() for b in blocks) if lines
    ]


def _report(found: dict[str, str], files: list[str]) -> int:
    table: dict[str, Counter[str]] = {}
    for name, outcome in found.items():
        if outcome != "not run" and (not files or _file(name) in files):
            table.setdefault(_file(name), Counter())[outcome] += 1
    rows = [*sorted(table.items()), ("total", sum(table.values(), Counter()))]
    print(f"{'file':42} {'run':>5} {'killed':>6} {'left':>5} {'share':>6}")
    for file, counts in rows:
        total, killed = counts.total(), counts[KILLED]
        print(f"{file:42} {total:5} {killed:6} {total - killed:5} {killed / max(total, 1):6.1%}")
    reasons = _reasons()
    for name, outcome in sorted(found.items()):
        if outcome in (SURVIVED, "no tests") and (not files or _file(name) in files):
            change = _change(name)
            reason = next((why for what, why in reasons if re.search(what, change)), "")
            print(f"\n{outcome}: {name}\n  {change}\n  {reason or 'NO REASON YET'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
