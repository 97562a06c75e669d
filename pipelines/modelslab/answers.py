"""What the service says, in all its shapes, as values and errors.

Source: the vendor's public documentation of the v6 API.
"""

from __future__ import annotations

import json
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

_MESSAGE_FIELDS = ("message", "messege", "error", "tip", "detail")
_LONGEST_MESSAGE = 500


@dataclass(frozen=True)
class Answer:
    """One answer to a request or to a question about a job.

    Attributes:
        status: "success" with links, or "processing".
        id: the job's, or None.
        links, proxy_links: where the results are.
        eta: seconds that the server expects to need, or None.
        generation_seconds: what the job took, or None.
        meta: the request as the server understood it.
        message: what else it said.
    """

    status: Literal["success", "processing"]
    id: str | None
    links: tuple[str, ...]
    proxy_links: tuple[str, ...]
    eta: float | None
    generation_seconds: float | None
    meta: Mapping[str, Any]
    message: str


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
        BadAnswer: if it is no JSON object, or has no known status.
    """
    try:
        content = redact(json.loads(body))
    except ValueError as error:
        if http_status >= 400:
            raise failure(http_status, "", retry_after) from error
        raise BadAnswer(
            "The answer of ModelsLab is not JSON, or is cut off: try again later."
        ) from error
    if not isinstance(content, dict):
        raise BadAnswer("The answer of ModelsLab is not a JSON object: try again later.")
    status, message = str(content.get("status", "")).lower(), message_of(content)
    links = _links(content.get("output"))
    if http_status >= 400 or status in ("error", "failed"):
        raise failure(
            http_status,
            message,
            retry_after or content.get("retry_after"),
            failed_job=status == "failed",
        )
    if status not in ("success", "processing"):
        raise BadAnswer(
            f"ModelsLab answered with the unknown status '{status[:40]}': try again later."
        )
    job = content.get("id")
    return Answer(
        status="success" if status == "success" else "processing",
        id=None if job is None or job == "" else str(job),
        links=links,
        proxy_links=_links(content.get("proxy_links")),
        eta=number(content.get("eta")),
        generation_seconds=number(content.get("generationTime", content.get("generation_time"))),
        meta=content["meta"] if isinstance(content.get("meta"), dict) else {},
        message=message,
    )


def failure(
    http_status: int, message: str, retry_after: Any = None, *, failed_job: bool = False
) -> ModelsLabError:
    """The error that an HTTP status and a message stand for.

    The status counts if it is one, else the words do.
    """
    said = f" It says: {message}" if message else ""
    lower = message.lower()
    if http_status in (401, 403) or (
        http_status < 400 and ("api key" in lower or "unauthorized" in lower)
    ):
        return AuthenticationFailed(
            f"ModelsLab does not take the API key: check it on modelslab.com.{said}"
        )
    if http_status == 402 or (
        http_status < 400
        and any(word in lower for word in ("credit", "payment", "subscri", "balance"))
    ):
        return OutOfCredits(
            f"The ModelsLab account has no credits for this job: top it up on modelslab.com.{said}"
        )
    if http_status == 429 or (
        http_status < 400
        and any(
            word in lower for word in ("rate limit", "too many", "queue limit", "limit exceeded")
        )
    ):
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
            f"ModelsLab could not make a mesh of the picture: try another picture or seed.{said}"
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
    """A number, which the service may write as a text."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _links(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()
