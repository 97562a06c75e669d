"""ModelsLab's endpoints."""

from __future__ import annotations

import asyncio
import functools

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from .protocol import Answer, ImageTo3DRequest, Keyed, Upload
from .routes import body_of
from .service import Service, answered


def add_modelslab_api(app: FastAPI, service: Service) -> None:
    """Add the endpoints image_to_3d, fetch, cancel and base64_to_url."""
    post = functools.partial(app.post, response_model=Answer, tags=["ModelsLab"])

    @post("/api/v6/3d/image_to_3d", openapi_extra=body_of(ImageTo3DRequest))
    async def image_to_3d(request: Request) -> JSONResponse:
        """Make a mesh from one image, or from several images of one object.

        The status is "processing" with a link to fetch the result, or "success" if the job ends
        quickly. Without model_id, the server uses its default model (its option --model).
        """
        body, owner = await service.read(request, ImageTo3DRequest)
        more = {"webhook": body.webhook, "track_id": body.track_id}
        job = await service.submit(request, body.settings(), body.images, owner, **more)
        del body  # images are large, and the job may take a while
        return await service.say(await service.finished(job, service.settings.wait), job.base)

    @post("/api/v6/3d/fetch/{id}", openapi_extra=body_of(Keyed, required=False))
    async def fetch(id: int, request: Request) -> JSONResponse:
        """Return the state of a job, and links to its files once it has succeeded."""
        _, owner = await service.read(request, Keyed)
        return await service.say(await service.job(id, owner), service.base(request))

    @post("/api/v6/3d/cancel/{id}", openapi_extra=body_of(Keyed, required=False))
    async def cancel(id: int, request: Request) -> JSONResponse:
        """Cancel a queued or running job."""
        _, owner = await service.read(request, Keyed)
        job = await service.job(id, owner)
        await asyncio.to_thread(service.workers.cancel, job)
        return await service.say(await service.job(id, owner), service.base(request))

    @post("/api/v6/base64_to_url", openapi_extra=body_of(Upload))
    @post("/api/v6/3d/base64_to_url", openapi_extra=body_of(Upload))
    async def upload(request: Request) -> JSONResponse:
        """Store an image, and return a link that other requests can use as their image."""
        body, _ = await service.read(request, Upload)
        token = await asyncio.to_thread(service.keep_upload, body.base64_string)
        link = f"{service.base(request)}/files/{token}/upload"
        return answered(Answer(status="success", id=0, output=[link], proxy_links=[link]))
