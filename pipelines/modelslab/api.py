"""Send requests to the service's endpoints."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import httpx

from ..net import HTTP_ERRORS, NOT_SENT, TooLarge, read_chunks, stream
from .answers import ApiAnswer, UnclearAnswer, find_job_id, parse_answer
from .errors import BadAnswer, PossiblyStarted
from .request import Request
from .servers import Server

log = logging.getLogger(__name__)

_MAX_ANSWER_BYTES = 4 * 2**20
# A paid request has no timeout of its own for the answer; only the job's timeout limits it.
_PAID_TIMEOUT = httpx.Timeout(None, connect=15.0)


class Api:
    """The endpoints of the service. Each method sends one request.

    Every method may raise `HTTP_ERRORS`, `AddressRefused`, `UnclearAnswer` and ModelsLabError.

    Args:
        http: from `net.make_client`.
        server: URL and key. The key is sent only in request bodies to this URL.
    """

    def __init__(self, http: httpx.AsyncClient, server: Server) -> None:
        self.http, self.server = http, server

    async def upload(self, data_uri: str) -> str:
        """Upload an image and return its URL."""
        answer = self._parse(*await self._post("base64_to_url", {"base64_string": data_uri}))
        if not answer.links:
            raise UnclearAnswer(
                BadAnswer("ModelsLab accepted the image but gave no URL for it: try again later.")
            )
        return answer.links[0]

    async def start(self, request: Request, image_url: str) -> ApiAnswer:
        """Send the paid request, which starts a job.

        Raises:
            PossiblyStarted: if the request may have started a job whose id is unknown.
            Any other error: if it did not start a job.
        """
        try:
            status, retry_after, body = await self._post(
                "3d/image_to_3d", request.body(image_url), _PAID_TIMEOUT
            )
        except NOT_SENT:
            raise
        except HTTP_ERRORS as error:
            raise possibly_started(type(error).__name__) from None
        except asyncio.CancelledError:
            log.warning(
                "Stopped while a job was being sent to ModelsLab: the job may have been started and"
                " paid for. Check modelslab.com."
            )
            raise
        try:
            answer = self._parse(status, retry_after, body)
        except UnclearAnswer as error:
            if 300 <= status < 500:
                raise error.reason from None
            answer = ApiAnswer("processing", find_job_id(body))
            if answer.id is None:
                raise possibly_started(str(error)) from None
        if answer.status == "processing" and answer.id is None:
            raise possibly_started("it was queued without a valid id")
        return answer

    async def poll(self, job_id: str) -> ApiAnswer:
        """Request the state of a job.

        The URL is built from the id. A URL given by the server is not used, because it might send
        the key to another host.
        """
        return self._parse(*await self._post(f"3d/fetch/{job_id}", {}))

    def _parse(self, status: int, retry_after: str | None, body: bytes) -> ApiAnswer:
        return parse_answer(body, status, retry_after=retry_after, redact=self.server.key.redact)

    async def _post(
        self, path: str, body: Mapping[str, Any], timeout: httpx.Timeout | None = None
    ) -> tuple[int, str | None, bytes]:
        """Send a POST; return the answer's HTTP status, Retry-After header and body."""
        content = bytearray()
        async with stream(
            self.http,
            "POST",
            f"{self.server.api}/{path}",
            json={"key": self.server.key.reveal(), **body},
            timeout=timeout or self.http.timeout,
        ) as response:
            try:
                async for piece in read_chunks(response, _MAX_ANSWER_BYTES):
                    content += piece
            except TooLarge:
                pass  # too large for a valid answer: treat it as cut off
            return response.status_code, response.headers.get("retry-after"), bytes(content)


def possibly_started(why: str) -> PossiblyStarted:
    """Make the error for a paid request whose outcome is unknown."""
    return PossiblyStarted(
        f"No clear answer from ModelsLab arrived ({why.rstrip('.')}): the job may have been started"
        " and paid for. Check modelslab.com before you run it again."
    )
