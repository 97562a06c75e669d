"""`serve`: run the server."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import ImageTo3DError, InvalidInput
from ..settings import LoadSettings
from .parsing import SETTINGS, Parser, add_setting, number, path, warn

if TYPE_CHECKING:
    from ..server.serving import ServerOptions

KEY_VARIABLE, SECRET_VARIABLE = "IMAGE_TO_3D_KEY", "IMAGE_TO_3D_WEBHOOK_SECRET"
_ENGINES = ("local", "ray")


def make_parser() -> Parser:
    """Return the parser of all options."""
    parser = Parser(
        "serve", "[options]", "Run ModelsLab's image_to_3d and a web page on your own machine."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address (default: this machine only)")
    parser.add_argument(
        "--port",
        type=number(int, 0, 65535),
        default=8000,
        metavar="N",
        help="port; 0 takes a free one (default: 8000)",
    )
    parser.add_argument(
        "--folder",
        type=path,
        default="~/.image-to-3d-server",
        metavar="DIR",
        help="jobs and results (default: ~/.image-to-3d-server)",
    )
    parser.add_argument("--no-page", action="store_true", help="serve the endpoints only")
    _add_models(parser)
    _add_workers(parser)
    _add_limits(parser)
    _add_access(parser)
    return parser


def _add_models(parser: Parser) -> None:
    group = parser.add_argument_group("models")
    add_setting(group, "model", help="model of jobs that name none")
    group.add_argument(
        "--allow-models",
        type=_model_names,
        metavar="NAMES",
        help="models that jobs may name beside --model, separated by commas; missing weights are"
        " downloaded when they are first needed (default: all models whose weights are here)",
    )
    add_setting(group, "license")
    add_setting(group, "models_dir")
    add_setting(group, "dtype")
    add_setting(group, "offload")


def _add_workers(parser: Parser) -> None:
    group = parser.add_argument_group("workers")
    add_setting(
        group,
        "device",
        action="append",
        default=[],
        help="auto, cuda, cuda:1 and so on, mps or cpu; repeat it for workers on each"
        " (default: auto)",
    )
    group.add_argument(
        "--engine",
        choices=_ENGINES,
        default="local",
        help="local processes, or actors of a Ray cluster (requirements-cluster.txt; default:"
        " local)",
    )
    group.add_argument(
        "--workers",
        type=_workers,
        default=1,
        metavar="N",
        help="workers for each device, or actors of a Ray cluster (default: 1)",
    )
    group.add_argument("--ray-address", default="auto", help="of the cluster (default: auto)")
    group.add_argument(
        "--ray-actors",
        type=number(int, 1, 4096),
        default=1,
        metavar="N",
        help="actors, each with a model; as --workers (default: 1)",
    )
    group.add_argument(
        "--ray-gpus",
        type=number(float, 0, 16),
        default=1,
        metavar="N",
        help="share of a GPU for each actor (default: 1)",
    )


def _add_limits(parser: Parser) -> None:
    group = parser.add_argument_group("limits")
    group.add_argument(
        "--queue",
        type=number(int, 0, 10**6),
        default=32,
        metavar="N",
        help="jobs that may wait (default: 32)",
    )
    group.add_argument(
        "--limit",
        type=number(float, 1, 10**6),
        default=3600,
        metavar="SECONDS",
        help="timeout of a job (default: 3600)",
    )
    group.add_argument(
        "--keep",
        type=number(float, 0, 10**6),
        default=24,
        metavar="HOURS",
        help="how long results are kept (default: 24)",
    )
    group.add_argument(
        "--wait",
        type=number(float, 0, 3600),
        default=2,
        metavar="SECONDS",
        help="how long a request waits for its result (default: 2)",
    )


def _add_access(parser: Parser) -> None:
    group = parser.add_argument_group("access")
    group.add_argument(
        "--key", action="append", default=[], help=f"API key; the variable {KEY_VARIABLE} is safer"
    )
    group.add_argument(
        "--keys",
        type=path,
        metavar="FILE",
        help="file of the SHA-256 of keys in hexadecimal, one in a line",
    )
    group.add_argument("--public-url", metavar="URL", help="what links begin with, behind a proxy")
    group.add_argument(
        "--allow-private",
        action="store_true",
        help="fetch images from, and call webhooks in, private networks",
    )
    group.add_argument(
        "--cors-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let web pages of this origin use the endpoints, such as https://example.com; may be"
        " repeated; * for all",
    )


def main(arguments: Sequence[str]) -> int:
    """Run the server until Ctrl-C; return the exit code, 2 if it cannot start."""
    parser = make_parser()
    options = parser.parse_args(arguments)
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
        serve(_server_options(options))
    except InvalidInput as error:
        parser.error(str(error))
    except ImageTo3DError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _server_options(options: argparse.Namespace) -> ServerOptions:
    from ..server.serving import ServerOptions

    on_ray = "ray" in (options.engine, options.workers)
    count = options.workers if isinstance(options.workers, int) else 1
    loadings = [
        LoadSettings(
            device=device,
            dtype=options.dtype,
            offload=options.offload,
            models_dir=options.models_dir,
        )
        for device in options.device or ["auto"]
    ]
    environment_key = os.environ.get(KEY_VARIABLE, "")
    return ServerOptions(
        host=options.host,
        port=options.port,
        keys=[*options.key, *([environment_key] if environment_key else [])],
        keys_file=options.keys,
        folder=options.folder,
        loadings=loadings * count,
        ray=(options.ray_address, max(options.ray_actors, count), options.ray_gpus)
        if on_ray
        else None,
        queue=options.queue,
        limit=options.limit,
        keep=options.keep,
        page=not options.no_page,
        allow_models=options.allow_models,
        license=options.license,
        models_dirs=[options.models_dir] if options.models_dir else [],
        cors_origins=options.cors_origin,
        model=options.model,
        wait=options.wait,
        public_url=options.public_url,
        allow_private=options.allow_private,
        webhook_secret=os.environ.get(SECRET_VARIABLE, ""),
    )


def _model_names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in SETTINGS["model"].choices:
            raise argparse.ArgumentTypeError(
                f"must be of {', '.join(SETTINGS['model'].choices)}, got '{name}'"
            )
    return names


def _workers(text: str) -> int | str:
    """Parse a number of workers, or the name of an engine as in version 0.2.0 (deprecated)."""
    if text in _ENGINES:
        warn(f"--workers {text} is deprecated: use --engine {text}")
        return text
    count: int = number(int, 1, 4096)(text)
    return count
