"""A local service with ModelsLab's protocol, including its inconsistencies."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

KEY = "secret-key-0123456789"
OBJ = b"""# made in the cloud
mtllib ../../evil.mtl
v 0 0 0 1 0 0
v 1 0 0 0 1 0
v 0 2 0 0 0 1
v 0 0 3 1 1 1
usemtl x
f 1 3 2
f 1 2 4
f 1 4 3
f 2 3 4
"""


@dataclass
class Reply:
    """One answer.

    Attributes:
        body: bytes, or a value that becomes JSON.
        cut_after: close the connection after this many bytes of the body.
        drip: seconds between single bytes.
        length: value of Content-Length if it is not the real length.
        endless: send zeros until the other side closes.
        delay: seconds before anything is sent.
    """

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    drip: float = 0.0
    length: int | None = None
    endless: bool = False
    delay: float = 0.0

    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


Answer = Reply | Callable[[Received], Reply]


class Service:
    """Answers the requests to a path from the path's list, and repeats the last entry."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = defaultdict(list)
        self.received: list[Received] = []
        self.cut = self.connections = 0

    async def __aenter__(self) -> Service:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self.answers["/api/base64_to_url"] = [
            Reply({"status": "success", "id": 1, "output": ["https://pictures.example/in.png"]})
        ]
        self.answers["/files/a.obj"] = [Reply(OBJ)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    def success(self, *links: str, **more: Any) -> dict[str, Any]:
        """Return the documented answer, with numbers as strings."""
        meta = {"seed": "3480183101", "resolution": "256", "key": KEY, "note": f"sent with {KEY}"}
        return {
            "status": "success",
            "generationTime": "10.62",
            "id": 109655545,
            "output": [f"{self.url}{link}" for link in links or ("/files/a.obj",)],
            "proxy_links": [],
            "meta": meta,
        } | more

    def queued(self, job: int = 7, **more: Any) -> dict[str, Any]:
        future = [f"{self.url}/files/not-yet.obj"]
        return {
            "status": "processing",
            "id": job,
            "eta": "0.05",
            "messege": "Try later",
            "fetch_result": "https://evil.example/steal",
            "output": [],
            "future_links": future,
        } | more

    def of(self, path: str) -> list[Received]:
        return [r for r in self.received if r.path == path]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, path, _ = head[0].split()
            headers = {
                name.lower(): value.strip()
                for name, value in (line.split(":", 1) for line in head[1:] if line)
            }
            request = Received(
                method,
                path,
                headers,
                await reader.readexactly(int(headers.get("content-length", 0))),
            )
            self.received.append(request)
            queue = self.answers.get(path) or [
                Reply({"status": "error", "message": f"no {path}"}, 404)
            ]
            answer = queue.pop(0) if len(queue) > 1 else queue[0]
            await self._send(writer, answer(request) if callable(answer) else answer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.cut += 1
        finally:
            writer.close()

    async def _send(self, writer: asyncio.StreamWriter, reply: Reply) -> None:
        await asyncio.sleep(reply.delay)
        content = reply.content()
        length = len(content) if reply.length is None else reply.length
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(length),
            "Connection": "close",
        } | reply.headers
        writer.write(
            f"HTTP/1.1 {reply.status} X\r\n".encode()
            + "".join(f"{k}: {v}\r\n" for k, v in headers.items()).encode()
            + b"\r\n"
        )
        if reply.endless:
            while True:
                writer.write(b"0" * 65536)
                await writer.drain()
        if reply.drip:
            for i in range(len(content)):
                writer.write(content[i : i + 1])
                await writer.drain()
                await asyncio.sleep(reply.drip)
        else:
            writer.write(content[: reply.cut_after])
            await writer.drain()
