"""The FastAPI application: two APIs and a web page that share one job store and queue."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from .config import Config
from .errors import add_error_handlers
from .guard import Guard
from .hunyuan_api import add_hunyuan_api
from .jobs import Jobs
from .modelslab_api import add_modelslab_api
from .operations import add_operations
from .page import add_page
from .protocol import Answer, Hunyuan, ImageTo3DRequest, Keyed, Upload
from .routes import document_bodies
from .service import Service
from .webhooks import deliver_webhooks
from .workers import Workers

log = logging.getLogger(__name__)

__all__ = ["Config", "create_app"]
_CLEANING_INTERVAL_S = 60.0


def create_app(jobs: Jobs, workers: Workers, config: Config, *, page: bool = False) -> FastAPI:
    """Create the application, which starts and stops the workers.

    Args:
        jobs: the store.
        workers: the workers that run the jobs.
        config: see `Config`.
        page: whether to serve the web page at "/".
    """
    service = Service(jobs, workers, config)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.models.resume)
        workers.start()
        threading.Thread(target=_clean, args=(jobs, service.closing), daemon=True).start()
        delivering = asyncio.create_task(
            deliver_webhooks(
                jobs,
                service.webhook_body,
                secret=config.webhook_secret,
                allow_private=config.allow_private,
            )
        )
        try:
            yield
        finally:
            service.closing.set()
            delivering.cancel()
            await asyncio.to_thread(workers.stop)

    app = FastAPI(
        title="Image to 3D",
        description="ModelsLab's and Hunyuan3D-2's endpoints on your own machine.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses={code: {"model": Answer} for code in (400, 401, 403, 404, 413, 429)},
    )
    app.state.closing = service.closing
    add_modelslab_api(app, service)
    add_hunyuan_api(app, service)
    add_operations(app, service)
    if page:
        add_page(app, service)
    document_bodies(app, ImageTo3DRequest, Keyed, Upload, Hunyuan)
    add_error_handlers(app)
    app.add_middleware(
        Guard, hosts=_hosts(config), origins=_origins(config), root_path=config.root_path
    )
    if config.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(config.cors_origins),
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],
            expose_headers=["Content-Disposition", "Content-Length", "Retry-After"],
        )
    return app


def _clean(jobs: Jobs, closing: threading.Event) -> None:
    """Remove expired jobs and uploads periodically until the server stops."""
    while not closing.wait(_CLEANING_INTERVAL_S):
        try:
            jobs.clean()
        except Exception:
            log.exception("could not remove expired jobs")


def _hosts(config: Config) -> set[str] | None:
    """Return the accepted names of the Host header; None accepts any."""
    if config.hosts is None:
        return None
    public = urlsplit(config.public_url or "").hostname
    return {*config.hosts, *([public] if public else [])}


def _origins(config: Config) -> set[str]:
    """Return the origins of the web pages that may send POST requests."""
    public = urlsplit(config.public_url or "")
    own = {f"{public.scheme}://{public.netloc}".lower()} if public.netloc else set()
    return own | {origin.lower() for origin in config.cors_origins}
