"""Check each request's Host and Origin headers before the application handles it."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ApiError

_MAX_DRAINED_BYTES = 256 * 2**20
_DRAIN_TIMEOUT_S = 10.0
_READING = ("GET", "HEAD", "OPTIONS")
_SECURITY_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"x-frame-options": b"SAMEORIGIN",
}


class Guard:
    """Middleware that refuses foreign hosts and origins, and adds security headers.

    The host check prevents DNS rebinding. The origin check stops arbitrary web pages from sending
    POST requests to a server that needs no key.

    Args:
        app: the application.
        hosts: accepted names of the Host header; None accepts any.
        origins: origins of pages that may send POST requests, besides the server's own; "*" for
            all.
        root_path: path prefix under which a proxy serves the application; "" for none.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Iterable[str] | None,
        origins: Iterable[str],
        root_path: str = "",
    ) -> None:
        self._app, self._root_path = app, root_path
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._root_path:
            scope["root_path"] = self._root_path
        if scope["method"] == "HEAD":  # FastAPI declares GET alone; the server drops the body
            scope = {**scope, "method": "GET"}
        headers = Headers(scope=scope)
        body = _Body(receive, headers)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                await body.drain()
                message["headers"] = [*message.get("headers", []), *_SECURITY_HEADERS.items()]
            await send(message)

        refusal = self._refusal(scope["method"], headers)
        await (refusal.response() if refusal else self._app)(scope, body.receive, guarded)

    def _refusal(self, method: str, headers: Headers) -> ApiError | None:
        host = headers.get("host", "").lower()
        if self._hosts is not None and _hostname(host) not in self._hosts:
            return ApiError(400, "Invalid host header.")
        origin = headers.get("origin", "").lower()
        if method in _READING or not origin or self._origins & {"*", origin}:
            return None
        if origin.partition("://")[2] == host:
            return None
        return ApiError(
            403, "Web pages of other origins may not use this server: see its option --cors-origin."
        )


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


class _Body:
    """The rest of a request's body.

    Before an early response, it is read and discarded, because a client that is still sending may
    not read the response. The amount and the time of reading are limited.
    """

    def __init__(self, receive: Receive, headers: Headers) -> None:
        self._receive = receive
        length = headers.get("content-length", "0")
        self._left = length != "0" or "transfer-encoding" in headers
        # Such a client sends its body only after an interim response 100.
        self._asks_first = headers.get("expect", "").lower() == "100-continue"

    async def receive(self) -> Message:
        message = await self._receive()
        self._asks_first = False
        self._left = self._left and bool(message.get("more_body", False))
        return message

    async def drain(self) -> None:
        """Read and discard the rest of the body."""
        if not self._left or self._asks_first:
            return
        size = 0
        with anyio.move_on_after(_DRAIN_TIMEOUT_S):
            while self._left and size < _MAX_DRAINED_BYTES:
                size += len((await self.receive()).get("body", b""))
