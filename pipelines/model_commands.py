"""The commands about models, and the choice where none is named.

image-to-3d models [--models-dir DIR]
image-to-3d download triposr [--models-dir DIR]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from .devices import choose_device
from .errors import ImageTo3DError
from .options import DEVICE_HELP, INTERRUPTED, PROGRAM, Parser, device_name
from .weights.inventory import best_model, download, duration, gigabytes, licenses, missing, table

_SUGGESTED = "triposr"  # one file, one pass, and a licence for every use


def chosen_model(device: torch.device, models_dirs: Sequence[Path]) -> tuple[str, str]:
    """The model of a run that names none, and a line about it."""
    name = best_model(device, models_dirs)
    if name != "photo":
        took = duration(name, device)
        return name, f"{name}: the best model that is here, about {took} an image (quicker: photo)"
    return name, (
        "photo, the embedded model, guesses what the image does not show. For more:"
        f" {PROGRAM} download {_SUGGESTED} ({gigabytes(_SUGGESTED):.1f} GB,"
        f" {licenses(_SUGGESTED)}, about {duration(_SUGGESTED, device)} an image here)"
    )


def models(arguments: Sequence[str]) -> int:
    """Print a table of all models; returns the exit code."""
    parser = Parser(prog=f"{PROGRAM} models", description="Lists the models.")
    _add_folder(parser)
    parser.add_argument("--device", type=device_name, default="auto", help=DEVICE_HELP)
    options = parser.parse_args(arguments)
    try:
        device = choose_device(options.device)
    except ImageTo3DError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    heads = ("model", "sees", "download", f"an image ({device.type})", "where", "licence")
    rows = [heads, *table(device, options.models_dirs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    print(f"\n{PROGRAM} download MODEL fetches what is not here.")
    return 0


def fetch(arguments: Sequence[str]) -> int:
    """Download a model's files with a bar; returns the exit code."""
    parser = Parser(
        prog=f"{PROGRAM} download",
        description="Fetches a model's weights: checked against their SHA-256, and taken up where"
        " an interrupted download stopped.",
    )
    parser.add_argument("model", help=f"one that '{PROGRAM} models' lists")
    _add_folder(parser)
    options = parser.parse_args(arguments)
    try:
        wanted = missing(options.model, options.models_dirs)
        if not wanted:
            print(f"{options.model} is here already")
            return 0
        print(
            f"{options.model}: about {gigabytes(options.model):.1f} GB in all,"
            f" licence {licenses(options.model)}"
        )
        with tqdm(unit="B", unit_scale=True, unit_divisor=1024, file=sys.stderr) as bar:

            def show(done: int, total: int, preview: Tensor | None = None) -> None:
                bar.total, bar.n = total, done
                bar.refresh()

            count = download(options.model, options.models_dirs, show)
    except ImageTo3DError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    print(f"{count} files fetched: {options.model} is here now")
    return 0


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models-dir",
        dest="models_dirs",
        type=lambda text: [Path(text)],
        default=[],
        metavar="DIR",
        help="folder of weights (default: the Hugging Face cache)",
    )
