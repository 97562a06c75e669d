"""Start the server from its options, and run it."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import EnvironmentProblem, InvalidInput
from ..settings import License, LoadSettings
from ..weights.presets import RECONSTRUCTION_PRESETS, check_commercial
from .app import create_app
from .auth import digest, read_digests
from .config import LOOPBACK, Config
from .jobs import Jobs
from .listening import address_of, bind, run
from .work import Maker
from .workers import Make, Workers

KEY_VARIABLE, SECRET_VARIABLE = "IMAGE_TO_3D_KEY", "IMAGE_TO_3D_WEBHOOK_SECRET"
_ORIGIN = re.compile(r"\*|https?://[^/?#@\s]+")
_SHORT_KEY = 16


@dataclass(frozen=True)
class ServerOptions:
    """Options of the server, as the command line passes them.

    Attributes:
        host, port: address to listen on; port 0 chooses a free port.
        keys: accepted API keys.
        keys_file: file with the digests of further keys, see `auth.read_digests`.
        folder: folder of jobs and results.
        loadings: load settings, one per local worker.
        ray: address of the cluster, number of actors and GPUs per actor; None for local workers.
        queue: maximum number of queued jobs.
        limit: timeout of a job in seconds.
        keep: hours to keep results.
        page: whether to serve the web page.
        allow_models, license, models_dirs, cors_origins, model, wait, public_url, allow_private,
            webhook_secret: see `Config`.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: Sequence[str] = ()
    keys_file: Path | None = None
    folder: Path = field(default_factory=lambda: Path.home() / ".image-to-3d-server")
    loadings: Sequence[LoadSettings] = (LoadSettings(),)
    ray: tuple[str, int, float] | None = None
    queue: int = 32
    limit: float = 3600.0
    keep: float = 24.0
    page: bool = True
    allow_models: Sequence[str] | None = None
    license: License = "any"
    models_dirs: Sequence[Path] = ()
    cors_origins: Sequence[str] = ()
    model: str = "photo"
    wait: float = 2.0
    public_url: str | None = None
    allow_private: bool = False
    webhook_secret: str = ""


def serve(options: ServerOptions) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    Raises:
        InvalidInput: if an option is invalid.
        EnvironmentProblem: if the port or the folder is unusable.
    """
    config = _config(options)  # first, so that invalid options change nothing
    makers = _makers(options)
    sockets = bind(options.host, options.port)
    umask = os.umask(0o077)
    try:
        jobs = Jobs(options.folder, limit=options.queue, keep=options.keep * 3600)
        workers = Workers(jobs, makers, limit=options.limit)
        app = create_app(jobs, workers, config, page=options.page)
        address = address_of(options.host, sockets)
        sys.stdout.write(f"Image to 3D at {address} (reference: {address}docs)\n")
        sys.stdout.flush()
        run(app, sockets, app.state.closing)
        jobs.close()
    finally:
        os.umask(umask)
        for listener in sockets:
            listener.close()


def _config(options: ServerOptions) -> Config:
    keys = _digests(options)
    local = options.host in LOOPBACK
    if not local and not keys:
        raise InvalidInput(
            f"--host {options.host} requires a key, because other machines can reach the server:"
            f" set {KEY_VARIABLE}, or leave out --host."
        )
    for name in (options.model, *(options.allow_models or ())):
        if name not in RECONSTRUCTION_PRESETS:
            raise InvalidInput(
                f"there is no model {name!r}: choose from {', '.join(RECONSTRUCTION_PRESETS)}."
            )
        if options.license == "commercial":
            check_commercial(name)
    for origin in options.cors_origins:
        if not _ORIGIN.fullmatch(origin):
            raise InvalidInput(
                f"--cors-origin must be like https://example.com, without a path, got {origin!r}."
            )
    if options.public_url and urlsplit(options.public_url).scheme not in ("http", "https"):
        raise InvalidInput(
            f"--public-url must begin with http:// or https://, got {options.public_url!r}."
        )
    return Config(
        keys=keys,
        wait=options.wait,
        model=options.model,
        models=options.allow_models,
        license=options.license,
        models_dirs=options.models_dirs,
        public_url=options.public_url,
        hosts=LOOPBACK if local else None,
        cors_origins=[origin.lower() for origin in options.cors_origins],
        allow_private=options.allow_private,
        webhook_secret=options.webhook_secret,
    )


def _digests(options: ServerOptions) -> frozenset[str]:
    if not all(options.keys):
        raise InvalidInput("--key must not be empty.")
    from_file = read_digests(options.keys_file) if options.keys_file else []
    return frozenset([*map(digest, options.keys), *from_file])


def _makers(options: ServerOptions) -> list[Callable[[], Make]]:
    makers: list[Callable[[], Make]] = [
        functools.partial(Maker, loading) for loading in options.loadings
    ]
    if options.ray is None:
        return makers
    try:
        from .cluster import RayMaker
    except ImportError as error:
        raise EnvironmentProblem(
            "--engine ray needs Ray: run 'pip install -r requirements-cluster.txt'."
        ) from error
    address, actors, gpus = options.ray
    return [functools.partial(RayMaker, makers[0], address, gpus)] * actors
