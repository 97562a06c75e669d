"""The server: both dialects over one store, one queue and one page."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import hashlib
import hmac
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import prometheus_client
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import InvalidInput
from ..net import parse_url
from ..weights.presets import RECONSTRUCTION_PRESETS
from .fetching import check_image, decode_base64, fetch_image
from .jobs import ENDED, Job, Jobs, JobState, QueueFull
from .protocol import Answer, Hunyuan, ImageTo3D, JobSettings, Keyed, Upload
from .webhooks import deliver_webhooks
from .workers import Workers

log = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_MAX_BODY = 256 * 2**20  # several images of 20 MiB in base64
_BODY_SECONDS = 60.0
_CLEANING = 60.0
_WRONG_KEY_SECONDS = 0.5
_RETRY_AFTER = 10
_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"x-frame-options": b"SAMEORIGIN",
}
_KINDS = {
    ".obj": "model/obj",
    ".glb": "model/gltf-binary",
    ".stl": "model/stl",
    ".ply": "application/octet-stream",
    ".mp4": "video/mp4",
    ".png": "image/png",
    ".mtl": "text/plain",
}


@dataclass(frozen=True)
class Config:
    """How the server behaves.

    Attributes:
        keys: SHA-256 digests of the keys that are taken; none lets everybody in.
        wait: seconds that a request waits for its job before the answer is "processing".
        model: what a job without a model's name uses.
        public_url: what links begin with; None takes the address that the client has used.
        hosts: names by which the server may be called; None for any.
        allow_private: whether images and webhooks may be in private networks.
        webhook_secret: signs webhooks, if not empty.
    """

    keys: frozenset[str] = frozenset()
    wait: float = 2.0
    model: str = "photo"
    public_url: str | None = None
    hosts: Sequence[str] | None = None
    allow_private: bool = False
    webhook_secret: str = ""


class ApiError(Exception):
    """What a client did wrong, or the server cannot do now."""

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after

    def response(self) -> JSONResponse:
        """As ModelsLab answers errors."""
        answer = Answer(status="error", message=str(self), retry_after=self.retry_after)
        headers = {"Retry-After": str(self.retry_after)} if self.retry_after else None
        return JSONResponse(
            answer.model_dump(exclude_none=True), status_code=self.status, headers=headers
        )


def digest(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def create_app(jobs: Jobs, workers: Workers, config: Config) -> FastAPI:
    """The application.

    Args:
        jobs: the store.
        workers: are started and stopped with the application.
        config: see `Config`.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        workers.start()
        stop = threading.Event()

        def clean() -> None:
            while not stop.wait(_CLEANING):
                jobs.clean()

        cleaning = threading.Thread(target=clean, daemon=True)
        cleaning.start()

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
            delivering.cancel()
            stop.set()
            await asyncio.to_thread(workers.stop)

    service = Service(jobs, workers, config)
    app = FastAPI(
        title="Image to 3D",
        description="ModelsLab's and Hunyuan3D-2's endpoints on your own machine.",
        lifespan=lifespan,
        responses={code: {"model": Answer} for code in (400, 401, 404, 429)},
    )
    _add_modelslab(app, service)
    _add_hunyuan(app, service)
    _add_operations(app, service)

    @app.exception_handler(ApiError)
    async def _(_: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def _(_: Request, error: RequestValidationError) -> JSONResponse:
        return ApiError(400, _sentence(error)).response()

    @app.exception_handler(HTTPException)
    async def _(_: Request, error: HTTPException) -> Response:
        answer = ApiError(error.status_code, f"{error.detail}").response()
        answer.headers.update(error.headers or {})
        return answer

    app.add_middleware(_Guard)
    if config.hosts is not None:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(config.hosts))
    return app


def _sentence(error: RequestValidationError) -> str:
    """What is wrong with a body, without the values in it."""
    parts = []
    for one in error.errors()[:5]:
        place = ".".join(str(p) for p in one["loc"] if p != "body")
        said = str(one["msg"]).removeprefix("Value error, ")
        parts.append(f"{place}: {said}" if place else said)
    return "; ".join(parts)[:1000]


class Service:
    """What the routes do."""

    def __init__(self, jobs: Jobs, workers: Workers, config: Config) -> None:
        self.jobs, self.workers, self.config = jobs, workers, config
        self.registry = prometheus_client.CollectorRegistry()
        self.submitted = prometheus_client.Counter(
            "image_to_3d_jobs_submitted", "Jobs that were taken.", registry=self.registry
        )
        gauges: dict[JobState, str] = {
            "queued": "that wait",
            "running": "at work",
            "failed": "that failed",
            "done": "that ended well",
        }
        for state, words in gauges.items():
            gauge = prometheus_client.Gauge(
                f"image_to_3d_jobs_{state}", f"Jobs {words}.", registry=self.registry
            )
            gauge.set_function(functools.partial(self._count, state))
        prometheus_client.Gauge(
            "image_to_3d_workers", "Workers.", registry=self.registry
        ).set_function(workers.alive)

    def _count(self, state: JobState) -> float:
        return self.jobs.count(state)

    async def owner_of(self, request: Request, key: str = "") -> str:
        """The digest of the key that came with a request, in its body or as a bearer token."""
        if not self.config.keys:
            return ""
        given = key or request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        found, own = "", digest(given)
        for known in self.config.keys:
            if hmac.compare_digest(known, own):
                found = known
        if not found:
            await asyncio.sleep(_WRONG_KEY_SECONDS)
            raise ApiError(401, "Invalid API key.")
        return found

    def base(self, request: Request) -> str:
        """The server's address from where the client stands."""
        return (self.config.public_url or str(request.base_url)).rstrip("/")

    async def image(self, source: str) -> bytes:
        """An image that a client named; those that were uploaded here need no way around."""
        try:
            parts = parse_url(source) if source.startswith(("http://", "https://")) else None
        except InvalidInput as error:
            raise ApiError(400, f"image: {error}") from error
        if parts and parts.path.startswith("/files/"):
            _, _, token, name = [*parts.path.split("/"), "", ""][:4]
            with contextlib.suppress(ApiError):
                return await asyncio.to_thread(self.file(token, name).read_bytes)
        try:
            return await fetch_image(source, allow_private=self.config.allow_private)
        except InvalidInput as error:
            raise ApiError(400, str(error)) from error

    async def submit(
        self, settings: JobSettings, sources: Sequence[str], owner: str, **more: Any
    ) -> Job:
        """Queue a job."""
        settings = settings.model_copy(update={"model_id": settings.model_id or self.config.model})
        if settings.model not in RECONSTRUCTION_PRESETS:
            raise ApiError(
                400,
                f"model_id: there is no model {settings.model_id!r:.100}; choose one of"
                f" {', '.join(RECONSTRUCTION_PRESETS)}.",
            )
        images = [await self.image(source) for source in sources]
        try:
            job = self.jobs.submit(settings, images, owner=owner, **more)
        except QueueFull:
            raise ApiError(429, "The queue is full: try again later.", _RETRY_AFTER) from None
        self.submitted.inc()
        return job

    async def ended(self, job: Job, seconds: float) -> Job:
        """The job when it has ended, or after so many seconds."""
        until = asyncio.get_running_loop().time() + seconds
        while job.state not in ENDED and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.05)
            job = self.jobs.get(job.id)
        return job

    def job(self, id: int, owner: str) -> Job:
        """A job that this owner may see."""
        try:
            job = self.jobs.get(id)
        except (KeyError, OverflowError):  # larger than SQLite's integers
            pass
        else:
            if job.owner == owner:
                return job
        raise ApiError(404, f"There is no job {id}.")

    def file(self, token: str, name: str) -> Path:
        """A file of a job or an upload, by names that were made here."""
        place = self.jobs.folder_of(token) / name
        if not (
            token.replace("-", "").replace("_", "").isalnum()
            and name
            in (
                "mesh.obj",
                "mesh.glb",
                "mesh.stl",
                "mesh.ply",
                "mesh.mtl",
                "mesh.png",
                "orbit.mp4",
                "upload",
            )
            and place.is_file()
        ):
            raise ApiError(404, "There is no such file, or its time is over.")
        return place

    def answer(self, job: Job, base: str) -> Answer:
        """A job's state in ModelsLab's words, with links that begin with `base`."""

        def links(name: str) -> str:
            return f"{base}/files/{job.token}/{name}"

        common = {"id": job.id, "track_id": job.track_id}
        meta = job.settings.model_dump(exclude_none=True) | {
            "seed": job.seed,
            "temp": "yes" if job.settings.temp else "no",
            "file_prefix": job.token,
        }
        if job.state in ("failed", "cancelled"):
            return Answer(status="failed", message=job.message, **common)
        if job.state == "done":
            output = [links(name) for name in job.outputs]
            took = round(job.ended - job.started, 2) if job.ended and job.started else None
            return Answer(
                status="success",
                generation_time=took,
                output=output,
                proxy_links=output,
                meta=meta,
                **common,
            )
        ahead = self.jobs.ahead_of(job) if job.state == "queued" else 0
        usual = self.jobs.usual_seconds(job.settings.model_id)
        stage = self.workers.stages.get(job.id)
        what = f"{stage.name} {stage.done} of {stage.total}" if stage else f"{ahead} before it"
        return Answer(
            status="processing",
            message=f"The job is at work ({what})." if stage else f"The job waits ({what}).",
            eta=round(usual * (1 + ahead / max(len(self.workers), 1)), 1),
            queue_position=ahead,
            fetch_result=f"{base}/api/v6/3d/fetch/{job.id}",
            output=[],
            future_links=[links(name) for name in job.expected_outputs],
            meta=meta,
            **common,
        )

    def webhook_body(self, job: Job) -> dict[str, Any]:
        """What a webhook is told: the vendor's two bodies."""
        return self.answer(job, job.base).model_dump(exclude_none=True, by_alias=True)


def _add_modelslab(app: FastAPI, service: Service) -> None:
    """ModelsLab's dialect."""

    def said(answer: Answer) -> JSONResponse:
        return JSONResponse(answer.model_dump(exclude_none=True, by_alias=True))

    @app.post("/api/v6/3d/image_to_3d", response_model=Answer, tags=["ModelsLab"])
    async def image_to_3d(body: ImageTo3D, request: Request) -> JSONResponse:
        """One image, or several of one object, to a mesh."""
        owner = await service.owner_of(request, body.key)
        if body.webhook:
            try:
                parse_url(body.webhook)
            except InvalidInput as error:
                raise ApiError(400, f"webhook: {error}") from error
        base = service.base(request)
        job = await service.submit(
            body.settings(),
            body.images,
            owner,
            webhook=body.webhook,
            track_id=body.track_id,
            base=base,
        )
        return said(service.answer(await service.ended(job, service.config.wait), base))

    @app.post("/api/v6/3d/fetch/{id}", response_model=Answer, tags=["ModelsLab"])
    async def fetch(id: int, request: Request, body: Keyed | None = None) -> JSONResponse:
        """A job's state and result."""
        owner = await service.owner_of(request, body.key if body else "")
        return said(service.answer(service.job(id, owner), service.base(request)))

    @app.post("/api/v6/3d/cancel/{id}", response_model=Answer, tags=["ModelsLab"])
    async def cancel(id: int, request: Request, body: Keyed | None = None) -> JSONResponse:
        """End a job that waits or is at work."""
        owner = await service.owner_of(request, body.key if body else "")
        job = service.job(id, owner)
        service.workers.cancel(job)
        return said(service.answer(service.job(id, owner), service.base(request)))

    async def upload(body: Upload, request: Request) -> JSONResponse:
        """An image to an address for `image`."""
        await service.owner_of(request, body.key)
        try:
            content = decode_base64(body.base64_string)
            await asyncio.to_thread(check_image, content)
        except InvalidInput as error:
            raise ApiError(400, str(error)) from error
        token = await asyncio.to_thread(service.jobs.keep_files, {"upload": content})
        link = f"{service.base(request)}/files/{token}/upload"
        return said(Answer(status="success", output=[link], proxy_links=[link]))

    for path in ("/api/v6/base64_to_url", "/api/v6/3d/base64_to_url"):
        app.post(path, response_model=Answer, tags=["ModelsLab"])(upload)


def _add_hunyuan(app: FastAPI, service: Service) -> None:
    """Hunyuan3D-2's dialect."""

    async def start(body: Hunyuan, request: Request) -> Job:
        return await service.submit(body.settings(), [body.image], await service.owner_of(request))

    @app.post("/generate", response_class=FileResponse, tags=["Hunyuan3D-2"])
    async def generate(body: Hunyuan, request: Request) -> Response:
        """An image to a mesh, in one answer."""
        job = await start(body, request)
        while job.state not in ENDED:
            if await request.is_disconnected():
                service.workers.cancel(job)
                raise ApiError(499, "The client has gone.")
            job = await service.ended(job, 1.0)
        if job.state != "done":
            raise ApiError(500, job.message)
        return FileResponse(service.file(job.token, job.outputs[0]), filename=job.outputs[0])

    @app.post("/send", tags=["Hunyuan3D-2"])
    async def send(body: Hunyuan, request: Request) -> dict[str, str]:
        """Queue an image."""
        return {"uid": (await start(body, request)).token}

    @app.get("/status/{uid}", tags=["Hunyuan3D-2"])
    async def status(uid: str) -> dict[str, str]:
        """A queued image's state, with the mesh in base64 at the end."""
        try:
            job = service.jobs.by_token(uid)
        except KeyError:
            raise ApiError(404, "There is no such job.") from None
        if job.state in ("failed", "cancelled"):
            return {"status": "error", "message": job.message}
        if job.state != "done":
            return {"status": "processing" if job.state == "running" else "queued"}
        content = await asyncio.to_thread(service.file(uid, job.outputs[0]).read_bytes)
        return {"status": "completed", "model_base64": base64.b64encode(content).decode()}


def _add_operations(app: FastAPI, service: Service) -> None:
    @app.get("/files/{token}/{name}", response_class=FileResponse, tags=["files"])
    async def file(token: str, name: str) -> FileResponse:
        """A result, or an uploaded image."""
        path = service.file(token, name)
        kind = _KINDS.get(path.suffix, "application/octet-stream")
        return FileResponse(path, media_type=kind, filename=name)

    @app.get("/health", tags=["operations"])
    async def health() -> dict[str, Any]:
        """Whether jobs are worked on."""
        return {
            "status": "ok" if service.workers.alive() == len(service.workers) else "degraded",
            "workers": service.workers.alive(),
            "queued": service.jobs.count("queued"),
            "running": service.jobs.count("running"),
        }

    @app.get("/metrics", response_class=PlainTextResponse, tags=["operations"])
    async def metrics() -> Response:
        """For Prometheus."""
        content = prometheus_client.generate_latest(service.registry)
        return Response(content, media_type=prometheus_client.CONTENT_TYPE_LATEST)


class _Guard:
    """Bodies have a size and a time; answers have the headers of a careful server."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        size, until = 0, asyncio.get_running_loop().time() + _BODY_SECONDS
        complete = False

        async def bounded() -> Message:
            nonlocal size, complete
            if complete:
                return await receive()
            left = until - asyncio.get_running_loop().time()
            try:
                message = await asyncio.wait_for(receive(), max(left, 0.0))
            except (TimeoutError, asyncio.TimeoutError):
                raise HTTPException(408, "The request took too long to arrive.") from None
            size += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if size > _MAX_BODY:
                raise HTTPException(413, "The request is too large.")
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS.items()]
            await send(message)

        await self._app(scope, bounded, with_headers)
