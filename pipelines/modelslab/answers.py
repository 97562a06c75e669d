"""What the service says, in all its shapes, as values and errors.

Source: the vendor's public documentation of the v6 API.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import (
    AuthenticationFailed,
    BadAnswer,
    GenerationFailed,
    ModelsLabError,
    OutOfCredits,
    QuotaExceeded,
    RequestRejected,
)

_ENDED, _FAILED = ("success", "completed", "succeeded"), ("error", "failed")
_MESSAGE_FIELDS = ("message", "messege", "error", "tip", "detail")
_LONGEST_MESSAGE = 500


@dataclass(frozen=True)
class Answer:
    """One answer to a request or to a question about a job.

    Attributes:
        status: "success", or "processing".
        id: the job's, or None.
        links, proxy_links: where the results are.
        eta: seconds that the server expects to need, or None.
        generation_seconds: what the job took, or None.
        meta: the request as the server understood it.
    """

    status: Literal["success", "processing"]
    id: str | None
    links: tuple[str, ...] = ()
    proxy_links: tuple[str, ...] = ()
    eta: float | None = None
    generation_seconds: float | None = None
    meta: Mapping[str, Any] | None = None


class Unclear(Exception):
    """An answer that is not the service's word on the job: a page, a part, a 404 or 5xx.

    Attributes:
        reason: the error, if it stays so.
        missing: whether the service itself says that it does not know the job.
    """

    def __init__(self, reason: ModelsLabError, *, missing: bool = False) -> None:
        super().__init__(str(reason))
        self.reason, self.missing = reason, missing


def parse(
    body: bytes,
    http_status: int,
    *,
    retry_after: str | None = None,
    redact: Callable[[Any], Any] = lambda content: content,
) -> Answer:
    """The meaning of an answer.

    Args:
        body: of the HTTP answer.
        http_status: likewise.
        retry_after: likewise, in seconds.
        redact: is given the answer's JSON before anything is made of it: servers have been seen to
            echo requests, and the key with them.

    Raises:
        AuthenticationFailed, OutOfCredits, QuotaExceeded, RequestRejected, GenerationFailed: if the
            service says so, by HTTP status or in the text.
        Unclear: if it says nothing of the job.
    """
    try:
        content = redact(json.loads(body))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        if http_status >= 400:
            error = failure(http_status, "", retry_after)
            raise error if isinstance(error, QuotaExceeded) else Unclear(error)
        if http_status >= 300:
            raise Unclear(
                BadAnswer(
                    f"ModelsLab's API answered with a redirect (HTTP {http_status}), which is not"
                    " followed, since it would receive the API key."
                )
            )
        raise Unclear(
            BadAnswer("The answer of ModelsLab is no JSON object, or is cut off: try again later.")
        )
    status = str(content.get("status", "")).lower()
    if http_status >= 400 or status in _FAILED:
        error = failure(
            http_status,
            message_of(content),
            retry_after or content.get("retry_after"),
            failed_job=status == "failed",
        )
        if http_status == 404 or http_status >= 500:
            raise Unclear(error, missing=http_status == 404)
        raise error
    job, links = content.get("id"), _links(content.get("output"))
    known = isinstance(job, (int, str)) and not isinstance(job, bool) and job != ""
    ended = status in _ENDED or (bool(links) and status != "processing")
    if not ended and not known and status not in ("processing", "queued"):
        raise Unclear(
            BadAnswer(
                f"ModelsLab answered with the unknown status '{status[:40]}': try again later."
            )
        )
    meta = content.get("meta")
    return Answer(
        "success" if ended else "processing",
        str(job) if known else None,
        links,
        _links(content.get("proxy_links")),
        number(content.get("eta")),
        number(content.get("generationTime", content.get("generation_time"))),
        meta if isinstance(meta, dict) else None,
    )


def id_in(body: bytes) -> str | None:
    """A job's id in an answer that cannot be read as a whole."""
    found = re.search(rb'"id"\s*:\s*"?([\w-]{1,64})"?\s*[,}]', body)
    return found[1].decode("ascii", "ignore") if found else None


def failure(
    http_status: int, message: str, retry_after: Any = None, *, failed_job: bool = False
) -> ModelsLabError:
    """The error that an HTTP status and a message stand for.

    The status counts if it is one, else the words do.
    """
    said = f" It says: {message}" if message else ""

    def is_said(*words: str) -> bool:
        return http_status < 400 and any(word in message.lower() for word in words)

    if http_status in (401, 403) or is_said("api key", "unauthorized"):
        return AuthenticationFailed(
            f"ModelsLab does not take the API key: check it on modelslab.com.{said}"
        )
    if http_status == 402 or is_said("credit", "payment", "subscri", "balance"):
        return OutOfCredits(
            f"The ModelsLab account has no credits for this job: top it up on modelslab.com.{said}"
        )
    if http_status == 429 or is_said("rate limit", "too many", "queue limit", "limit exceeded"):
        return QuotaExceeded(
            "ModelsLab has too many jobs or requests of this account: wait for the others to"
            f" end.{said}",
            number(retry_after),
        )
    if http_status >= 500:
        return GenerationFailed(
            f"ModelsLab has a problem of its own (HTTP {http_status}): try again later.{said}"
        )
    if failed_job:
        return GenerationFailed(
            f"ModelsLab could not make a mesh of the image: try another image or seed.{said}"
        )
    return RequestRejected(
        "ModelsLab does not take the request: change what it"
        f" names.{said or f' (HTTP {http_status})'}"
    )


def message_of(content: Mapping[str, Any]) -> str:
    """The server's own words, whichever field and shape they have, on one line."""
    for name in _MESSAGE_FIELDS:
        words = _words(content.get(name))
        if words:
            return " ".join(words.split())[:_LONGEST_MESSAGE]
    return ""


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(
            f"{name}: {words}" for name, item in value.items() if (words := _words(item))
        )
    if isinstance(value, list):
        return "; ".join(words for item in value if (words := _words(item)))
    return "" if value is None or isinstance(value, bool) else str(value)


def number(value: Any) -> float | None:
    """A finite number, which the service may write as a text."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _links(value: Any) -> tuple[str, ...]:
    """Addresses in a text, a list, or lists in lists."""
    if isinstance(value, str):
        return (value,) if value else ()
    return tuple(link for item in value for link in _links(item)) if isinstance(value, list) else ()
