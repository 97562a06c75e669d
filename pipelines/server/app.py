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

from ..settings import ServerSettings
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

log = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_CLEANING_INTERVAL_S = 60.0


def create_app(service: Service) -> FastAPI:
    """Create the application, which starts and stops the service's workers."""
    settings = service.settings
    app = FastAPI(
        title="Image to 3D",
        description="ModelsLab's and Hunyuan3D-2's endpoints on your own machine.",
        lifespan=lambda _: _running(service),
        docs_url=None,
        redoc_url=None,
        responses={code: {"model": Answer} for code in (400, 401, 403, 404, 413, 429)},
    )
    add_modelslab_api(app, service)
    add_hunyuan_api(app, service)
    add_operations(app, service)
    if not settings.no_page:
        add_page(app, service)
    document_bodies(app, ImageTo3DRequest, Keyed, Upload, Hunyuan)
    add_error_handlers(app)
    app.add_middleware(
        Guard, hosts=_hosts(settings), origins=_origins(settings), root_path=service.root_path
    )
    if settings.cors_origin:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=[origin.lower() for origin in settings.cors_origin],
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],
            expose_headers=["Content-Disposition", "Content-Length", "Retry-After"],
        )
    return app


@contextlib.asynccontextmanager
async def _running(service: Service) -> AsyncIterator[None]:
    """Run the workers, the webhooks and the removal of expired jobs beside the application."""
    jobs, settings = service.jobs, service.settings
    await asyncio.to_thread(service.models.resume)
    service.workers.start()
    threading.Thread(target=_clean, args=(jobs, service.closing), daemon=True).start()
    delivering = asyncio.create_task(
        deliver_webhooks(
            jobs,
            service.webhook_body,
            secret=settings.webhook_secret,
            allow_private=settings.allow_private,
        )
    )
    try:
        yield
    finally:
        service.closing.set()
        delivering.cancel()
        await asyncio.to_thread(service.workers.stop)


def _clean(jobs: Jobs, closing: threading.Event) -> None:
    """Remove expired jobs and uploads periodically until the server stops."""
    while not closing.wait(_CLEANING_INTERVAL_S):
        try:
            jobs.clean()
        except Exception:
            log.exception("could not remove expired jobs")


def _hosts(settings: ServerSettings) -> set[str] | None:
    """Return the accepted names of the Host header; None accepts any."""
    if settings.host not in LOOPBACK:
        return None
    public = urlsplit(settings.public_url or "").hostname
    return {*LOOPBACK, *([public] if public else [])}


def _origins(settings: ServerSettings) -> set[str]:
    """Return the origins of the web pages that may send POST requests."""
    public = urlsplit(settings.public_url or "")
    own = [f"{public.scheme}://{public.netloc}"] if public.netloc else []
    return {origin.lower() for origin in (*own, *settings.cors_origin)}
