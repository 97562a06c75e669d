"""The command line: `make` (the default), `catalogue`, `serve`, `mcp`, and so on.

Each subcommand is a module with the functions `make_parser` and `main`. It is imported only when it
runs, so that `--help` does not import torch or other large packages.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence

from ..streams import make_streams_safe
from .parsing import PROGRAM

COMMANDS = {
    "make": "turn images into meshes (the default command)",
    "catalogue": "turn thousands of images into meshes; resume where an earlier run stopped",
    "serve": "start a server with a web page and an HTTP API",
    "mcp": "let an agent make meshes, through the Model Context Protocol",
    "models": "list the models and where their weights are",
    "download": "download a model's weights",
    "doctor": "print versions, devices and models for a bug report",
}
_COMMON = {
    "-o, --output DIR": "folder for the results (default: out)",
    "--model NAME": "reconstruction model (default: the best downloaded one)",
    "--format NAME": "obj, glb, ply, stl or 3mf (default: obj)",
    "--texture SIZE": "bake a texture of at most SIZE pixels per side instead of vertex colours",
    "--max-faces N": "decimate to at most N triangles",
    "--resolution N": "cells along an edge of the surface grid, 32 to 512",
    "--remove-bg METHOD": "how the background is removed (default: auto)",
    "--solid": "make one closed, printable body",
    "--size LENGTH": "longest side of the mesh, in millimetres for STL and 3MF",
    "--device NAME": "auto, cuda, cuda:1 and so on, mps or cpu (default: auto)",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; `sys.argv[1:]` if None.

    Returns:
        the exit code: 0; 1 if an image failed; 130 for Ctrl-C. Invalid arguments exit with 2.
    """
    # transformers warns at import that torchvision is missing; it is missing on purpose.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # If another process uses a core, spinning OpenMP threads are forty times slower than sleeping
    # ones.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Otherwise, importing rembg compiles its matting for a minute, although we never call it.
    os.environ.setdefault("NUMBA_DISABLE_JIT", "1")
    make_streams_safe()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_overview(), file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    command = words.pop(0) if words[0] in COMMANDS else "make"
    code: int = importlib.import_module(f".{command}", __name__).main(words)
    return code


def _overview() -> str:
    return f"""usage: {PROGRAM} IMAGE [IMAGE ...] [options]
       {PROGRAM} COMMAND [options]

Turn images into textured 3D meshes.

commands:
{_table(COMMANDS)}

common options:
{_table(_COMMON)}

'{PROGRAM} make --help' lists all options, '{PROGRAM} COMMAND --help' those of a command.
If an image file has the name of a command, write its path with a folder: ./serve"""


def _table(rows: Mapping[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in rows.items())
