"""Start the server from its settings, and run it."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence

from ..errors import InvalidInput, packages_of
from ..files import expand_home
from ..settings import LoadSettings, ServerSettings
from ..weights.presets import check_commercial
from .app import LOOPBACK, create_app
from .auth import digest, read_digests
from .jobs import Jobs
from .listening import address_of, bind, run
from .service import Service
from .work import Maker
from .workers import Make, Workers


def serve(settings: ServerSettings, loadings: Sequence[LoadSettings] = (LoadSettings(),)) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    Args:
        settings: the server's settings.
        loadings: settings of model loading, one for each device.

    Raises:
        InvalidInput: if a setting is invalid.
        EnvironmentProblem: if the port or the folder is unusable.
    """
    keys = _digests(settings)  # first, so that invalid settings have no side effects
    if settings.license == "commercial":
        for name in (settings.model, *(settings.allow_models or ())):
            check_commercial(name)
    makers = _makers(settings, loadings)
    sockets = bind(settings.host, settings.port)
    umask = os.umask(0o077)
    try:
        folder = expand_home(settings.folder)
        jobs = Jobs(folder, limit=settings.queue, keep=settings.keep * 3600)
        workers = Workers(jobs, makers, limit=settings.limit)
        models_dirs = loadings[0].models_dirs
        service = Service(jobs, workers, settings, keys=keys, models_dirs=models_dirs)
        address = address_of(settings.host, sockets)
        sys.stdout.write(f"Image to 3D at {address} (reference: {address}docs)\n")
        sys.stdout.flush()
        run(create_app(service), sockets, service.closing)
        jobs.close()
    finally:
        os.umask(umask)
        for listener in sockets:
            listener.close()


def _digests(settings: ServerSettings) -> frozenset[str]:
    """Return the digests of the accepted keys; refuse an open server that others can reach."""
    from_file = read_digests(settings.keys) if settings.keys else []
    keys = frozenset([*map(digest, settings.key), *from_file])
    if settings.host not in LOOPBACK and not keys:
        raise InvalidInput(
            f"--host {settings.host} requires a key, because other machines can reach the server:"
            " set IMAGE_TO_3D_KEY, or leave out --host."
        )
    return keys


def _makers(settings: ServerSettings, loadings: Sequence[LoadSettings]) -> list[Callable[[], Make]]:
    makers: list[Callable[[], Make]] = [functools.partial(Maker, loading) for loading in loadings]
    if settings.engine == "local":
        return makers * settings.workers
    with packages_of("requirements-cluster.txt", "--engine ray"):
        from .cluster import RayMaker
    remote = functools.partial(RayMaker, makers[0], settings.ray_address, settings.ray_gpus)
    return [remote] * max(settings.ray_actors, settings.workers)
