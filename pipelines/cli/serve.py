"""`serve`: run the server."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from ..errors import packages_of
from ..settings import LoadSettings, ServerSettings, declared
from .parsing import REPEATED_DEVICE, Parser, argument, exit_code, warn

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
        "serve", "[options]", "Serve ModelsLab's image_to_3d and a web page on your machine."
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
    values = vars(make_parser().parse_args(arguments))
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    return exit_code(lambda: _serve(values), failure=2)


def _serve(values: dict[str, Any]) -> int:
    with packages_of("requirements-server.txt", "The server"):
        from ..server.serving import serve

    devices = values["device"] or ["auto"]
    loadings = [LoadSettings.from_flat(values | {"device": device}) for device in devices]
    serve(_settings(values), loadings)
    return 0


def _settings(values: dict[str, Any]) -> ServerSettings:
    values = values | {"webhook_secret": os.environ.get(_SECRET_VARIABLE, "")}
    if key := os.environ.get(_KEY_VARIABLE):
        values["key"] = [*values["key"], key]
    if isinstance(values["workers"], str):
        values |= {"engine": values["workers"], "workers": 1}
    return ServerSettings.from_flat(values)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _workers(text: str) -> Any:
    """Parse a number of workers, or the name of an engine as in version 0.2.0 (deprecated)."""
    if text in _SETTINGS["engine"].choices:
        warn(f"--workers {text} is deprecated: use --engine {text}")
        return text
    return argument(_SETTINGS["workers"].parse)(text)
