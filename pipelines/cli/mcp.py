"""`mcp`: let an agent make meshes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from ..errors import ImageTo3DError
from ..settings import LoadSettings, ServerSettings, declared
from .parsing import Parser, path


def make_parser() -> Parser:
    """Return the parser of all options."""
    parser = Parser(
        "mcp",
        "DIR [DIR ...] [options]",
        "Let an agent make meshes: a server of the Model Context Protocol on stdin and stdout.",
    )
    parser.add_argument(
        "folders",
        nargs="+",
        type=path,
        metavar="DIR",
        help="folders in which the agent may read images and write results; the first is the"
        " default for results",
    )
    parser.add_settings(
        declared(LoadSettings, ServerSettings),
        {"jobs": ("model", "limit", "models_dir", "device", "dtype", "offload")},
        model={"default": None},
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Serve until stdin is closed; return the exit code, 2 if the server cannot start."""
    options = make_parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        from ..agents.tools import serve
    except ImportError as error:
        print(
            "The MCP server needs a package of its own: run 'pip install -r requirements-mcp.txt'"
            f" ({error}).",
            file=sys.stderr,
        )
        return 2
    try:
        serve(
            options.folders,
            LoadSettings.from_flat(vars(options)),
            model=options.model,
            limit=options.limit,
        )
    except ImageTo3DError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
