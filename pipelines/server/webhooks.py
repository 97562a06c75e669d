"""Call the webhooks of jobs that have ended, with at most three tries each.

Every call is signed according to Standard Webhooks, and with the header `X-Signature-SHA256` of
versions up to 0.2.

Source: https://www.standardwebhooks.com, specification 1.0.0.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import anyio
import httpx

from ..errors import AddressRefused
from ..net import HTTP_ERRORS, Access, make_client, stream
from .job import Job
from .jobs import Jobs

log = logging.getLogger(__name__)
Result = TypeVar("Result")

SIGNATURE_HEADER = "X-Signature-SHA256"
_TIMEOUT_S = 30.0
_FIRST_PAUSE_S, _MAX_PAUSE_S = 1.0, 60.0  # between tries while the store fails
_MAX_CONCURRENT = 64
_SECRET_PREFIX = "whsec_"


async def deliver_webhooks(
    jobs: Jobs,
    body_of: Callable[[Job], dict[str, Any]],
    *,
    secret: str,
    allow_private: bool,
    retry_pauses_s: Sequence[float] = (5.0, 30.0),
    poll_interval_s: float = 1.0,
) -> None:
    """Call webhooks when they are due, concurrently, until this task is cancelled.

    Exceptions are logged and never end the task. Pending calls survive a restart of the server.

    Args:
        jobs: the store.
        body_of: returns the JSON content to post for a job.
        secret: key that signs the body, see `signed_headers`; empty for no signature.
        allow_private: whether to allow webhooks in a private network.
        retry_pauses_s: seconds before the second try and each further one.
        poll_interval_s: seconds between two queries of the store.
    """
    access = Access(http=True, private=allow_private, proxies=allow_private)
    calls: dict[int, asyncio.Task[None]] = {}
    async with make_client(access) as client:

        async def call(job: Job, tries: int) -> None:
            delivered = await _call(client, job, body_of, secret)
            last = delivered or tries >= len(retry_pauses_s)
            again_in = None if last else retry_pauses_s[tries]
            await _persistently(lambda: jobs.delivered(job, again_in=again_in))

        try:
            while True:
                calls = {id: task for id, task in calls.items() if not task.done()}
                for job, tries in await _persistently(jobs.due_deliveries):
                    if job.id not in calls and len(calls) < _MAX_CONCURRENT:
                        calls[job.id] = asyncio.create_task(call(job, tries))
                await asyncio.sleep(poll_interval_s)
        finally:
            for task in calls.values():
                task.cancel()
            await asyncio.gather(*calls.values(), return_exceptions=True)


async def _persistently(access_store: Callable[[], Result]) -> Result:
    """Call a function that accesses the store in a thread; retry with growing pauses."""
    pause = _FIRST_PAUSE_S
    while True:
        try:
            return await asyncio.to_thread(access_store)
        except Exception:
            log.exception("webhooks: the store failed; trying again in %.0f s", pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _MAX_PAUSE_S)


async def _call(
    client: httpx.AsyncClient, job: Job, body_of: Callable[[Job], dict[str, Any]], secret: str
) -> bool:
    """Post a job's state to its webhook; return whether the receiver accepted it."""
    try:
        body = json.dumps(body_of(job)).encode()
        headers = signed_headers(body, job.token, int(time.time()), secret)
        with anyio.fail_after(_TIMEOUT_S):
            async with stream(
                client, "POST", job.webhook, content=body, headers=headers
            ) as response:
                return response.is_success
    except (*HTTP_ERRORS, AddressRefused, TimeoutError) as error:
        log.info("the webhook of job %d failed: %s", job.id, type(error).__name__)
    except Exception:
        log.exception("the webhook of job %d failed", job.id)
    return False


def signed_headers(body: bytes, id: str, timestamp: int, secret: str) -> Mapping[str, str]:
    """Return the HTTP headers of a webhook call, including its signatures.

    Args:
        body: the content to post.
        id: id of the message, the same for every try.
        timestamp: seconds since 1970.
        secret: "whsec_" and the key in base64, or any other text, whose UTF-8 bytes are the key.
            If it is empty, nothing is signed.
    """
    headers = {
        "Content-Type": "application/json",
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
    }
    if secret:
        signature = hmac.digest(_key(secret), f"{id}.{timestamp}.".encode() + body, "sha256")
        headers["webhook-signature"] = f"v1,{base64.b64encode(signature).decode()}"
        headers[SIGNATURE_HEADER] = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return headers


def _key(secret: str) -> bytes:
    if secret.startswith(_SECRET_PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
        except binascii.Error:
            log.warning("the webhook secret is not base64 after 'whsec_': it is used as text")
    return secret.encode()
