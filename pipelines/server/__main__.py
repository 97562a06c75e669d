"""The server's command line.

python -m pipelines.server
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import ImageTo3DError, InvalidInput

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

KEY_VARIABLE, SECRET_VARIABLE = "IMAGE_TO_3D_KEY", "IMAGE_TO_3D_WEBHOOK_SECRET"
_MISSING = "The server needs packages of its own: run 'pip install -r requirements-server.txt'."


def make_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        prog="image-to-3d serve", description="ModelsLab's image_to_3d on your own machine."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address (default: this machine alone)")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--key", action="append", default=[], help=f"API key; better in the variable {KEY_VARIABLE}"
    )
    parser.add_argument(
        "--keys", type=Path, help="file of the SHA-256 of keys in hexadecimal, one in a line"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path.home() / ".image-to-3d-server",
        help="jobs and results (default: ~/.image-to-3d-server)",
    )
    parser.add_argument(
        "--device",
        action="append",
        default=[],
        help="one worker for each (default: one for the best device)",
    )
    parser.add_argument(
        "--workers",
        choices=("local", "ray"),
        default="local",
        help="local processes, or actors of a Ray cluster (requirements-cluster.txt)",
    )
    parser.add_argument("--ray-address", default="auto", help="of the cluster (default: auto)")
    parser.add_argument(
        "--ray-actors", type=int, default=1, help="actors, each with a model (default: 1)"
    )
    parser.add_argument(
        "--ray-gpus", type=float, default=1, help="share of a GPU for each actor (default: 1)"
    )
    parser.add_argument("--dtype", default="auto", help="as on the command line")
    parser.add_argument("--offload", action="store_true", help="as on the command line")
    parser.add_argument("--models-dir", type=Path, help="folder of weights")
    parser.add_argument("--model", default="photo", help="of jobs that name none (default: photo)")
    parser.add_argument(
        "--allow-models",
        type=lambda names: [name.strip() for name in names.split(",") if name.strip()],
        metavar="NAMES",
        help="models that jobs may name beside --model, separated by commas; missing weights are"
        " downloaded when they are first needed (default: all models whose weights are here)",
    )
    parser.add_argument("--queue", type=int, default=32, help="jobs that may wait (default: 32)")
    parser.add_argument("--limit", type=float, default=3600, help="seconds for a job")
    parser.add_argument("--keep", type=float, default=24, help="hours that results stay")
    parser.add_argument(
        "--wait", type=float, default=2, help="seconds that a request waits for its result"
    )
    parser.add_argument("--public-url", help="what links begin with, behind a proxy")
    parser.add_argument(
        "--allow-private",
        action="store_true",
        help="take images from, and call webhooks in, private networks",
    )
    parser.add_argument(
        "--cors-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let web pages of this origin use the endpoints, such as https://example.com; may be"
        " repeated; * for all",
    )
    parser.add_argument("--no-page", action="store_true", help="the endpoints alone")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until Ctrl-C.

    Returns: the exit code: 0, or 2 for bad arguments or missing packages.
    """
    parser = make_parser()
    options = parser.parse_args(arguments)
    try:
        from .serving import ServerOptions, serve
        from .work import Loading
    except ImportError as error:
        print(f"{_MISSING} ({error})", file=sys.stderr)
        return 2
    models_dirs = (options.models_dir,) if options.models_dir else ()
    environment_key = os.environ.get(KEY_VARIABLE, "")
    try:
        serve(
            ServerOptions(
                host=options.host,
                port=options.port,
                keys=[*options.key, *([environment_key] if environment_key else [])],
                keys_file=options.keys,
                folder=options.folder,
                loadings=[
                    Loading(device, options.dtype, models_dirs, options.offload)
                    for device in options.device or ["auto"]
                ],
                ray=(options.ray_address, options.ray_actors, options.ray_gpus)
                if options.workers == "ray"
                else None,
                queue=options.queue,
                limit=options.limit,
                keep=options.keep,
                page=not options.no_page,
                allow_models=options.allow_models,
                models_dirs=models_dirs,
                cors_origins=options.cors_origin,
                model=options.model,
                wait=options.wait,
                public_url=options.public_url,
                allow_private=options.allow_private,
                webhook_secret=os.environ.get(SECRET_VARIABLE, ""),
            )
        )
    except InvalidInput as error:
        parser.error(str(error))
    except ImageTo3DError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
