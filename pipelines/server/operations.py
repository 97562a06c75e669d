"""The endpoints for files, health, metrics and the API reference."""

from __future__ import annotations

import asyncio
from typing import Any

import prometheus_client
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response

from .reference import render_reference
from .service import Service

_REFERENCE_CSP = "default-src 'none'; style-src 'unsafe-inline'"


def add_operations(app: FastAPI, service: Service) -> None:
    """Add the endpoints for files, health, metrics and the API reference."""

    @app.get("/files/{token}/{name}", response_class=FileResponse, tags=["files"])
    async def file(token: str, name: str) -> FileResponse:
        """Return a result or an uploaded image.

        A finished mesh is available in every format: change the suffix in its link to .obj, .glb,
        .stl or .ply.
        """
        return await asyncio.to_thread(service.file_response, token, name)

    @app.get("/health", tags=["operations"])
    async def health() -> dict[str, Any]:
        """Return whether all workers are alive, and the number of jobs in each state."""
        alive = service.workers.alive()
        queued, running = await asyncio.to_thread(
            lambda: (service.jobs.count("queued"), service.jobs.count("running"))
        )
        return {
            "status": "ok" if alive == len(service.workers) else "degraded",
            "workers": alive,
            "queued": queued,
            "running": running,
        }

    @app.get("/metrics", response_class=PlainTextResponse, tags=["operations"])
    async def metrics() -> Response:
        """Return metrics for Prometheus."""
        content = await asyncio.to_thread(prometheus_client.generate_latest, service.registry)
        return Response(content, media_type=prometheus_client.CONTENT_TYPE_LATEST)

    @app.get("/docs", include_in_schema=False)
    async def reference(request: Request) -> HTMLResponse:
        page = render_reference(app.openapi(), request.scope.get("root_path", ""))
        return HTMLResponse(page, headers={"Content-Security-Policy": _REFERENCE_CSP})
