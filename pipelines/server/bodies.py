"""Read request bodies within limits of size, time and memory, and parse them in a thread."""

from __future__ import annotations

import asyncio
import urllib.parse
from typing import Any, TypeVar

import anyio
import pydantic_core
from fastapi import Request
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from .auth import Keys
from .errors import ApiError, invalid_body
from .protocol import Body, Keyed

_Body = TypeVar("_Body", bound=Body)
_MAX_HELD_BYTES = 128 * 2**20
_MAX_VALUES = 10_000
_MAX_FORM_FIELDS = 200
_RETRY_AFTER_S = 10
_FORM = "application/x-www-form-urlencoded"
_MULTIPART = (
    "The request is multipart/form-data, which this API does not read: send JSON, with the image as"
    " a link or in base64."
)
#: Form fields with base64. A space in them was a "+" that the client did not percent-encode.
_BASE64_FIELDS = ("image", "init_image", "base64_string")


class BodyReader:
    """Reads request bodies and checks their API keys.

    Args:
        keys: the accepted keys.
        timeout_s: seconds within which a body must arrive.
        max_held_bytes: total size of all bodies that are being received at one time.
    """

    def __init__(
        self, keys: Keys, *, timeout_s: float = 60.0, max_held_bytes: int = _MAX_HELD_BYTES
    ) -> None:
        self._keys, self._timeout_s, self._max_held = keys, timeout_s, max_held_bytes
        self._held = 0

    async def read(self, request: Request, model: type[_Body]) -> tuple[_Body, str]:
        """Return a request's body and its owner, see `Keys.owner`.

        A key in the header is checked before the body is read. A key in the body is checked
        before the other fields are validated.

        Raises:
            ApiError: 400 for an invalid body, 401 or 429 for a wrong key, 408 for a slow client,
                413 for a body larger than the model allows, 503 if too many bodies arrive at once.
        """
        owner = self._keys.owner_in_header(request.headers.get("authorization", ""))
        if owner is None and not issubclass(model, Keyed):
            owner = self._keys.owner("")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            raise ApiError(400, _MULTIPART)
        content = bytearray()
        try:
            with anyio.fail_after(self._timeout_s):
                await self._receive(request, model.MAX_BYTES, content)
            fields = await asyncio.to_thread(_parse, content, kind)
        except TimeoutError:
            raise ApiError(408, "The request took too long to arrive.") from None
        except ClientDisconnect:
            raise ApiError(499, "The client closed the connection.") from None
        finally:
            self._held -= len(content)
        if owner is None:
            key = fields.get("key")
            owner = self._keys.owner(key if isinstance(key, str) else "")
        try:
            return model.model_validate(fields), owner
        except ValidationError as error:
            raise invalid_body(error) from None

    async def _receive(self, request: Request, limit: int, content: bytearray) -> None:
        too_large = ApiError(
            413,
            f"The request is larger than {limit / 2**20:.3g} MiB. Upload large images one by one"
            " with base64_to_url, and send their links.",
        )
        if int(request.headers.get("content-length") or 0) > limit:
            raise too_large
        values = 0
        async for chunk in request.stream():
            content += chunk
            self._held += len(chunk)
            if len(content) > limit:
                raise too_large
            if self._held > self._max_held:
                self._held -= len(content)  # before the exception, to accept other bodies
                content.clear()
                raise ApiError(503, "Too many requests at once: try again later.", _RETRY_AFTER_S)
            # Parsed JSON can take a hundred times the memory of its text.
            values += sum(map(chunk.count, (b",", b"[", b"{")))
            if values > _MAX_VALUES:
                raise ApiError(413, f"The request has more than {_MAX_VALUES:,} values.")


def _parse(content: bytearray, kind: str) -> dict[str, Any]:
    """Parse a JSON object or a form; return no fields for an empty body.

    JSON is recognised whatever its Content-Type, because clients such as `curl -d` label it as a
    form or do not label it at all.
    """
    start = content[:100].lstrip()
    if not start and len(content) <= 100:
        return {}
    if kind == _FORM and not start.startswith(b"{"):
        return _parse_form(content)
    try:
        fields = pydantic_core.from_json(content, cache_strings=False)
    except ValueError as error:
        raise ApiError(400, f"The request must be a JSON object: {error}") from None
    if not isinstance(fields, dict):
        raise ApiError(400, "The request must be a JSON object.")
    return fields


def _parse_form(content: bytearray) -> dict[str, Any]:
    try:
        pairs = urllib.parse.parse_qsl(
            content.decode("ascii"), errors="strict", max_num_fields=_MAX_FORM_FIELDS
        )
    except ValueError as error:
        raise ApiError(400, f"The request is not a valid form: {error}") from None
    lists: dict[str, list[str]] = {}
    for name, value in pairs:
        name = name.removesuffix("[]")
        lists.setdefault(name, []).append(
            value.replace(" ", "+") if name in _BASE64_FIELDS else value
        )
    return {name: values if len(values) > 1 else values[0] for name, values in lists.items()}
