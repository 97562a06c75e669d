"""`mcp`: let an agent make meshes."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from ..errors import packages_of
from ..settings import LoadSettings, ServerSettings, declared
from .parsing import Parser, exit_code, path


def make_parser() -> Parser:
    """Return the parser of all options."""
    parser = Parser(
        "mcp",
        "DIR [DIR ...] [options]",
        "Let an agent make meshes: serve the Model Context Protocol on stdin and stdout.",
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
    return exit_code(lambda: _serve(options), failure=2)


def _serve(options: argparse.Namespace) -> int:
    with packages_of("requirements-mcp.txt", "The MCP server"):
        from ..agents.tools import serve

    loading = LoadSettings.from_flat(vars(options))
    serve(options.folders, loading, model=options.model, limit=options.limit)
    return 0
