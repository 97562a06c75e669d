"""`serve`: run the server."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from ..errors import ImageTo3DError, InvalidInput
from ..settings import LoadSettings, ServerSettings, declared
from .parsing import REPEATED_DEVICE, Parser, argument, warn

_KEY_VARIABLE, _SECRET_VARIABLE = "IMAGE_TO_3D_KEY", "IMAGE_TO_3D_WEBHOOK_SECRET"
_SETTINGS = declared(LoadSettings, ServerSettings)
_GROUPS = {
    "server": ("host", "port", "folder", "no_page"),
    "models": ("model", "allow_models", "license", "models_dir", "dtype", "offload"),
    "workers": ("device", "engine", "workers", "ray_address", "ray_actors", "ray_gpus"),
    "limits": ("queue", "limit", "keep", "wait"),
    "access": ("key", "keys", "public_url", "allow_private", "cors_origin"),
}


def make_parser() -> Parser:
    """Return the parser of all options."""
    parser = Parser(
        "serve", "[options]", "Run ModelsLab's image_to_3d and a web page on your own machine."
    )
    parser.add_settings(
        _SETTINGS,
        _GROUPS,
        allow_models={"type": _names},
        device=REPEATED_DEVICE,
        workers={"type": _workers},
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run the server until Ctrl-C; return the exit code, 2 if it cannot start."""
    parser = make_parser()
    values = vars(parser.parse_args(arguments))
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        from ..server.serving import serve
    except ImportError as error:
        print(
            "The server needs packages of its own: run 'pip install -r requirements-server.txt'"
            f" ({error}).",
            file=sys.stderr,
        )
        return 2
    try:
        serve(_settings(values), _loadings(values))
    except InvalidInput as error:
        parser.error(str(error))
    except ImageTo3DError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _settings(values: dict[str, Any]) -> ServerSettings:
    values = values | {"webhook_secret": os.environ.get(_SECRET_VARIABLE, "")}
    if key := os.environ.get(_KEY_VARIABLE):
        values["key"] = [*values["key"], key]
    if isinstance(values["workers"], str):
        values |= {"engine": values["workers"], "workers": 1}
    return ServerSettings.from_flat(values)


def _loadings(values: dict[str, Any]) -> list[LoadSettings]:
    devices = values["device"] or ["auto"]
    return [LoadSettings.from_flat(values | {"device": device}) for device in devices]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _workers(text: str) -> Any:
    """Parse a number of workers, or the name of an engine as in version 0.2.0 (deprecated)."""
    if text in _SETTINGS["engine"].choices:
        warn(f"--workers {text} is deprecated: use --engine {text}")
        return text
    return argument(_SETTINGS["workers"].parse)(text)
