"""The server's command line.

python -m pipelines.server
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
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
    parser.add_argument("--no-page", action="store_true", help="the endpoints alone")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until Ctrl-C.

    Returns: the exit code: 0, or 2 for bad arguments or missing packages.
    """
    parser = make_parser()
    options = parser.parse_args(arguments)
    try:
        import uvicorn

        from .app import LOOPBACK, Config, create_app, digest
        from .jobs import Jobs
        from .work import Loading, Maker
        from .workers import Make, Workers
    except ImportError as error:
        print(f"{_MISSING} ({error})", file=sys.stderr)
        return 2
    keys = [digest(key) for key in (*options.key, os.environ.get(KEY_VARIABLE, "")) if key]
    if options.keys:
        try:
            keys += options.keys.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            parser.error(f"{options.keys} cannot be read: {error}")
    if options.host not in LOOPBACK and not keys:
        parser.error(
            f"without a key only this machine may ask: set {KEY_VARIABLE}, or leave out --host"
        )
    jobs = Jobs(options.folder, limit=options.queue, keep=options.keep * 3600)
    loadings = [
        Loading(
            device,
            options.dtype,
            (options.models_dir,) if options.models_dir else (),
            options.offload,
        )
        for device in options.device or ["auto"]
    ]
    makers: list[Callable[[], Make]] = [functools.partial(Maker, one) for one in loadings]
    if options.workers == "ray":
        try:
            from .cluster import RayMaker
        except ImportError:
            parser.error("--workers ray needs Ray: run 'pip install -r requirements-cluster.txt'")
        makers = [
            functools.partial(RayMaker, makers[0], options.ray_address, options.ray_gpus)
        ] * options.ray_actors
    workers = Workers(jobs, makers, limit=options.limit)
    config = Config(
        keys=frozenset(keys),
        wait=options.wait,
        model=options.model,
        public_url=options.public_url,
        hosts=LOOPBACK if options.host in LOOPBACK and not options.public_url else None,
        allow_private=options.allow_private,
        webhook_secret=os.environ.get(SECRET_VARIABLE, ""),
    )
    app = create_app(jobs, workers, config)
    if not options.no_page:
        import gradio

        from .page import make_page

        page = make_page(jobs, workers, model=options.model)
        auth = None if not keys else lambda _, password: digest(password) in config.keys
        app = gradio.mount_gradio_app(
            app,
            page,
            path="/",
            auth=auth,
            # Each job's are in a folder whose name cannot be guessed.
            allowed_paths=[str(options.folder / "files")],
            theme=gradio.themes.Default(font=["sans-serif"], font_mono=["monospace"]),
        )
    print(f"Image to 3D at http://{options.host}:{options.port}/ (endpoints: /docs)", flush=True)
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning")
    jobs.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
