"""Clients that want to hear of a job's end are called, three times at most."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
from collections.abc import Callable
from typing import Any

from ..errors import BadAnswer
from ..modelslab.transport import HTTP_ERRORS, make_client
from .jobs import Job, Jobs

log = logging.getLogger(__name__)

SIGNATURE_HEADER = "X-Signature-SHA256"
PAUSES = (5.0, 30.0)  # seconds before the second and the third try
_LOOK = 1.0
_SECONDS = 30.0


async def deliver(
    jobs: Jobs, body_of: Callable[[Job], dict[str, Any]], *, secret: str, allow_private: bool
) -> None:
    """Call webhooks as they fall due, until cancelled. What is not delivered survives a restart.

    Args:
        jobs: the store.
        body_of: a job to what is posted.
        secret: of the HMAC-SHA256 of the body in the header `SIGNATURE_HEADER`, if not empty.
        allow_private: whether webhooks may lead to a private network.
    """
    async with make_client(http=True, private=allow_private) as client:
        while True:
            for job, tries in await asyncio.to_thread(jobs.due_deliveries):
                content = json.dumps(body_of(job)).encode()
                headers = {"Content-Type": "application/json"}
                if secret:
                    signature = hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()
                    headers[SIGNATURE_HEADER] = signature
                try:
                    answer = await asyncio.wait_for(
                        client.post(job.webhook, content=content, headers=headers), _SECONDS
                    )
                    taken = answer.is_success
                except (*HTTP_ERRORS, BadAnswer, TimeoutError, asyncio.TimeoutError) as error:
                    log.info("the webhook of job %d failed: %s", job.id, type(error).__name__)
                    taken = False
                last = taken or tries >= len(PAUSES)
                jobs.delivered(job, again_in=None if last else PAUSES[tries])
            await asyncio.sleep(_LOOK)
