"""`download`: fetch a model's weights."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..settings import LoadSettings
from .parsing import SETTINGS, Parser, add_setting, exit_code

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


def make_parser() -> Parser:
    """Return the parser of all options."""
    parser = Parser(
        "download",
        "MODEL [options]",
        "Download a model's weights, check their SHA-256, and resume an interrupted download.",
    )
    names = (*SETTINGS["model"].choices, *SETTINGS["views_model"].choices)
    parser.add_argument("model", choices=names, metavar="MODEL", help=f"one of {', '.join(names)}")
    add_setting(parser, SETTINGS["models_dir"], help="folder for the weights")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Download with a progress bar; return the exit code."""
    options = make_parser().parse_args(arguments)
    return exit_code(
        lambda: _download(options.model, LoadSettings(models_dir=options.models_dir).models_dirs),
        stopped="stopped; the same command resumes the download",
    )


def _download(name: str, models_dirs: list[Path]) -> int:
    from tqdm import tqdm

    from ..weights.inventory import download, gigabytes, licenses, missing

    if not missing(name, models_dirs):
        print(f"{name} is already here")
        return 0
    print(f"{name}: about {gigabytes(name):.1f} GB in total, licence {licenses(name)}")
    with tqdm(unit="B", unit_scale=True, unit_divisor=1024, file=sys.stderr) as bar:

        def show(done: int, total: int, preview: Tensor | None = None, *, stage: str = "") -> None:
            bar.total, bar.n = total, done
            bar.refresh()

        count = download(name, models_dirs, show)
    print(f"{count} files downloaded: {name} is ready")
    return 0
