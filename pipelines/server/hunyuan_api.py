"""The endpoints of Hunyuan3D-2's api_server."""

from __future__ import annotations

import asyncio
import base64
import functools

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response

from .errors import ApiError, without_paths
from .job import ENDED, Job
from .protocol import Hunyuan
from .routes import body_of
from .service import Service

_DISCONNECT_POLL_S = 1.0
_RETRY_AFTER_S = 10


def add_hunyuan_api(app: FastAPI, service: Service) -> None:
    """Add the endpoints generate, send and status."""
    post = functools.partial(app.post, openapi_extra=body_of(Hunyuan), tags=["Hunyuan3D-2"])

    async def start(request: Request) -> Job:
        body, owner = await service.read(request, Hunyuan)
        return await service.submit(request, body.settings(), [body.image], owner)

    @post("/generate", response_class=FileResponse)
    async def generate(request: Request) -> Response:
        """Make a mesh from one image, and return its file."""
        job = await _finished(service, await start(request), request)
        if job.state != "done":
            raise ApiError(500, without_paths(job.message))
        return service.file_response(job.token, job.outputs[0])

    @post("/send")
    async def send(request: Request) -> dict[str, str]:
        """Queue an image, and return a uid for requests to /status."""
        return {"uid": (await start(request)).token}

    @app.get("/status/{uid}", tags=["Hunyuan3D-2"])
    async def status(uid: str) -> dict[str, str]:
        """Return the state of a job, and the mesh in base64 once it is finished."""
        try:
            job = await asyncio.to_thread(service.jobs.by_token, uid)
        except KeyError:
            raise ApiError(404, "There is no such job.") from None
        if job.state in ("failed", "cancelled"):
            return {"status": "error", "message": without_paths(job.message)}
        if job.state != "done":
            waiting = {"status": "processing" if job.state == "running" else "queued"}
            download = service.models.download_of(job.settings.model)
            return waiting | ({"message": str(download)} if download else {})
        path = service.jobs.folder_of(uid) / job.outputs[0]
        content = await asyncio.to_thread(path.read_bytes)
        return {"status": "completed", "model_base64": base64.b64encode(content).decode()}


async def _finished(service: Service, job: Job, request: Request) -> Job:
    """Wait until a job has ended, and return it; cancel it if the client has gone.

    Raises:
        ApiError: 503 if the server is stopping, 499 if the client has gone.
    """
    while job.state not in ENDED:
        if service.closing.is_set():
            raise ApiError(503, "The server is stopping: try again later.", _RETRY_AFTER_S)
        if await request.is_disconnected():
            await asyncio.to_thread(service.workers.cancel, job)
            raise ApiError(499, "The client closed the connection.")
        job = await service.finished(job, _DISCONNECT_POLL_S)
    return job
