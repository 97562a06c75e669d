"""`models`: list the models; choose the default model of a run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ImageTo3DError
from .parsing import PROGRAM, Parser, add_setting

if TYPE_CHECKING:
    import torch

    from ..settings import License

_SUGGESTED = "triposr"  # one file, one pass, permissive licence


def make_parser() -> Parser:
    """Return the parser of all options."""
    parser = Parser("models", "[options]", "List the models, and where their weights are.")
    add_setting(parser, "models_dir")
    add_setting(parser, "device", help="device whose times are shown")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Print a table of all models; return the exit code."""
    options = make_parser().parse_args(arguments)

    from ..devices import choose_device
    from ..weights.inventory import table

    try:
        device = choose_device(options.device)
    except ImageTo3DError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    heads = ("model", "takes", "download", f"an image ({device.type})", "where", "licence")
    rows = [heads, *table(device, folders(options.models_dir))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    print(f"\n'{PROGRAM} download MODEL' downloads missing weights.")
    return 0


def folders(models_dir: Path | None) -> list[Path]:
    """Return the folders to search for weights before the Hugging Face cache."""
    return [models_dir] if models_dir else []


def choose_model(
    device: torch.device, models_dir: Path | None, license: License = "any"
) -> tuple[str, str]:
    """Choose the model of a run without `--model`; return its name and a line for the user."""
    from ..weights.inventory import best_model, duration, gigabytes, licenses

    name = best_model(device, folders(models_dir), license)
    if name != "photo":
        took = duration(name, device)
        return name, f"{name}: the best downloaded model, about {took} an image (quicker: photo)"
    return name, (
        "photo, the embedded model, guesses the unseen sides. For more:"
        f" {PROGRAM} download {_SUGGESTED} ({gigabytes(_SUGGESTED):.1f} GB,"
        f" {licenses(_SUGGESTED)}, about {duration(_SUGGESTED, device)} an image here)"
    )
