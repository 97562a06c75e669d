"""Error responses of the endpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from .protocol import Answer

_MOST_FIELDS = 5
_LONGEST_MESSAGE = 1000
_FOLDERS = re.compile(r"(?<![\w:/.])(?:/|[A-Za-z]:[\\/])(?:[^\s'\"/\\:]+[/\\])+")


class ApiError(Exception):
    """An error that is sent to the client.

    Attributes:
        status: HTTP status.
        retry_after: seconds after which the client may try again; None sends no such header.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after

    def response(self) -> JSONResponse:
        """Return the error in ModelsLab's response format."""
        answer = Answer(status="error", message=str(self), retry_after=self.retry_after)
        headers = {"Retry-After": str(self.retry_after)} if self.retry_after else None
        return JSONResponse(
            answer.model_dump(exclude_none=True), status_code=self.status, headers=headers
        )


def without_paths(message: str) -> str:
    """Replace each path in a message by its file name, to hide the server's folders from clients.

    >>> without_paths("put it at /srv/models/TripoSR/model.ckpt.")
    'put it at model.ckpt.'
    """
    return _FOLDERS.sub("", message)


def invalid_body(error: ValidationError) -> ApiError:
    """Return an error that lists the invalid fields of a body, without repeating their values."""
    return ApiError(400, _sentence(error.errors(include_input=False, include_url=False)))


def _sentence(errors: Sequence[Mapping[str, Any]]) -> str:
    sentences = []
    for one in errors[:_MOST_FIELDS]:
        field = ".".join(str(part) for part in one["loc"])
        message = str(one["msg"]).removeprefix("Value error, ")
        sentences.append(f"{field}: {message}" if field else message)
    return "; ".join(sentences)[:_LONGEST_MESSAGE]


def add_error_handlers(app: FastAPI) -> None:
    """Send every error in ModelsLab's response format."""

    @app.exception_handler(ApiError)
    async def _(_: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def _(_: Request, error: RequestValidationError) -> JSONResponse:
        return ApiError(400, _sentence(error.errors())).response()

    @app.exception_handler(HTTPException)
    async def _(_: Request, error: HTTPException) -> Response:
        answer = ApiError(error.status_code, f"{error.detail}").response()
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def _(_: Request, __: Exception) -> JSONResponse:
        return ApiError(500, "Internal server error: see the server's log.").response()
