"""Serve the web page: static files that use the same endpoints as other clients."""

from __future__ import annotations

import html
import json
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse

from ..settings import SurfaceSettings, declared
from .errors import ApiError
from .fetching import MAX_BYTES
from .results import MESH_FORMATS
from .service import Service

_RESOLUTION = declared(SurfaceSettings)["resolution"]
_FOLDER = Path(__file__).with_name("static")
_EXAMPLE = Path(__file__).parents[2] / "workflows" / "cup.png"
_FILES = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "viewer.js": "text/javascript",
    "example.png": "image/png",
}
_CSP = (
    "default-src 'self'; img-src 'self' data: blob:; base-uri 'self'; form-action 'none';"
    " frame-ancestors 'self'"
)


def add_page(app: FastAPI, service: Service) -> None:
    """Add the web page at "/"."""

    @app.get("/", include_in_schema=False)
    def index(request: Request) -> HTMLResponse:
        base = f"{request.scope.get('root_path', '')}/"
        settings = {
            "models": service.models.names(),
            "model": service.settings.model,
            "needs_key": bool(service.keys),
            "formats": MESH_FORMATS,
            "resolution": [_RESOLUTION.low, _RESOLUTION.high],
            "max_bytes": MAX_BYTES,
            "example": _EXAMPLE.is_file(),
        }
        page = (_FOLDER / "index.html").read_text(encoding="utf-8")
        page = page.replace("{{BASE}}", html.escape(base))
        page = page.replace("{{SETTINGS}}", json.dumps(settings).replace("<", "\\u003c"))
        return HTMLResponse(page, headers={"Content-Security-Policy": _CSP})

    @app.get("/page/{name}", include_in_schema=False)
    def part(name: str) -> FileResponse:
        path = _EXAMPLE if name == "example.png" else _FOLDER / name
        if name not in _FILES or not path.is_file():
            raise ApiError(404, "There is no such file.")
        return FileResponse(path, media_type=_FILES[name])
