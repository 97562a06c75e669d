"""Parse the service's answers, which vary in form, into values and errors.

Source: the vendor's public documentation of the v6 API.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from itertools import zip_longest
from typing import Any, Literal

from .errors import (
    AuthenticationFailed,
    BadAnswer,
    GenerationFailed,
    ModelsLabError,
    OutOfCredits,
    QuotaExceeded,
    RequestRejected,
)

_FINISHED, _FAILED = ("success", "completed", "succeeded"), ("error", "failed")
_MESSAGE_FIELDS = ("message", "messege", "error", "tip", "detail")
_MAX_MESSAGE_CHARACTERS = 500
_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TERMINAL_ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)", re.S)


@dataclass(frozen=True)
class ApiAnswer:
    """An answer to a request or a poll.

    Attributes:
        status: "success" or "processing".
        id: job id, or None if the answer has no valid id.
        links, proxy_links: URLs of the result files.
        eta: expected remaining time in seconds, or None.
        generation_seconds: duration of the job, or None.
        meta: the request's parameters as the service interpreted them, without the key.
    """

    status: Literal["success", "processing"]
    id: str | None
    links: tuple[str, ...] = ()
    proxy_links: tuple[str, ...] = ()
    eta: float | None = None
    generation_seconds: float | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> list[list[str]]:
        """The URLs of each result file, in order of preference."""
        both = zip_longest(self.links, self.proxy_links)
        return [[url for url in urls if url is not None] for urls in both]

    @property
    def seed(self) -> int | None:
        """The seed that the service used, or None if unknown."""
        seed = str(self.meta.get("seed", ""))
        return int(seed) if seed.isdecimal() and len(seed) < 20 else None


class UnclearAnswer(Exception):
    """An answer that does not reveal the job's state: a web page, a fragment, a 404 or a 5xx.

    Attributes:
        reason: the error to raise if retries give no better answer.
        missing: whether the service reported that the job does not exist.
        retry_after: seconds to wait as given in the answer, or None.
    """

    def __init__(
        self, reason: ModelsLabError, *, missing: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(str(reason))
        self.reason, self.missing, self.retry_after = reason, missing, retry_after


def parse_answer(
    body: bytes,
    http_status: int,
    *,
    retry_after: str | None = None,
    redact: Callable[[Any], Any] = lambda content: content,
) -> ApiAnswer:
    """Parse an answer of the service.

    Args:
        body: body of the HTTP response.
        http_status: HTTP status code.
        retry_after: value of the Retry-After header.
        redact: removes the API key from the JSON, because some servers echo the request.

    Raises:
        AuthenticationFailed, OutOfCredits, QuotaExceeded, RequestRejected, GenerationFailed: if the
            HTTP status or the message reports such an error.
        UnclearAnswer: if the answer does not reveal the job's state.
    """
    try:
        content = redact(json.loads(body))
    except (ValueError, RecursionError):
        content = None
    readable = isinstance(content, dict)
    content = content if readable else {}
    status = str(content.get("status", "")).lower()
    if http_status >= 400 or status in _FAILED:
        raise _failed(content, readable, status, http_status, retry_after)
    if not readable and http_status >= 300:
        raise _unclear(
            f"ModelsLab's API answered with a redirect (HTTP {http_status}), which is not followed,"
            " because its target would receive the API key."
        )
    if not readable:
        raise _unclear("ModelsLab's answer is not a JSON object, or is cut off: try again later.")
    job_id, links = content.get("id"), _links(content.get("output"))
    finished = status in _FINISHED or (bool(links) and status != "processing")
    if not finished and status not in ("processing", "queued") and not is_job_id(job_id):
        shown = printable(status)[:40]
        raise _unclear(f"ModelsLab answered with the unknown status '{shown}': try again later.")
    meta = content.get("meta")
    return ApiAnswer(
        "success" if finished else "processing",
        str(job_id) if is_job_id(job_id) else None,
        links,
        _links(content.get("proxy_links")),
        parse_number(content.get("eta")),
        parse_number(content.get("generationTime", content.get("generation_time"))),
        meta if isinstance(meta, dict) else {},
    )


def _failed(
    content: Mapping[str, Any],
    readable: bool,
    status: str,
    http_status: int,
    retry_after: str | None,
) -> Exception:
    pause = parse_retry_after(retry_after or content.get("retry_after"))
    error = error_for(http_status, message_of(content), pause, failed_job=status == "failed")
    known = readable or isinstance(error, QuotaExceeded)
    if known and http_status != 404 and http_status < 500:
        return error
    return UnclearAnswer(error, missing=readable and http_status == 404, retry_after=pause)


def _unclear(message: str) -> UnclearAnswer:
    return UnclearAnswer(BadAnswer(message))


def is_job_id(value: Any) -> bool:
    """Return whether a value is a valid job id, safe to use in URLs and file names."""
    return (
        isinstance(value, (int, str))
        and not isinstance(value, bool)
        and _JOB_ID.fullmatch(str(value)) is not None
    )


def find_job_id(body: bytes) -> str | None:
    """Find the job id in an answer that is not valid JSON, such as a fragment."""
    found = re.search(rb'"id"\s*:\s*"?([A-Za-z0-9_-]{1,64})"?\s*[,}]', body)
    return found[1].decode("ascii") if found else None


def error_for(
    http_status: int, message: str, retry_after: float | None, *, failed_job: bool
) -> ModelsLabError:
    """Choose the error for an HTTP status and a message.

    A status of 400 or above determines the error. Otherwise, words in the message do.

    Args:
        http_status: status of the answer.
        message: ModelsLab's message; may be empty.
        retry_after: seconds to wait before the next request; None if the answer has none.
        failed_job: whether the answer says that a job failed, and not that a request was refused.
    """
    quoted = f" ModelsLab's message: {message.rstrip('.')}." if message else ""

    def mentions(*words: str) -> bool:
        return http_status < 400 and any(word in message.lower() for word in words)

    if http_status in (401, 403) or mentions("api key", "unauthorized"):
        return AuthenticationFailed(
            f"ModelsLab rejects the API key: check it on modelslab.com.{quoted}"
        )
    if http_status == 402 or mentions("credit", "payment", "subscri", "balance"):
        return OutOfCredits(
            "The ModelsLab account has no credits for this job: top it up on"
            f" modelslab.com.{quoted}"
        )
    if http_status == 429 or mentions("rate limit", "too many", "queue limit", "limit exceeded"):
        when = f"in {_duration(retry_after)}" if retry_after else "later"
        return QuotaExceeded(
            "ModelsLab accepts no more jobs or requests from this account now: try again"
            f" {when}.{quoted}",
            retry_after,
        )
    if http_status >= 500:
        return GenerationFailed(
            f"ModelsLab has an internal problem (HTTP {http_status}): try again later.{quoted}"
        )
    if failed_job:
        return GenerationFailed(
            f"ModelsLab could not make a mesh of the image: try another image or seed.{quoted}"
        )
    return RequestRejected(
        f"ModelsLab rejects the request: correct the problem that its message"
        f" describes.{quoted or f' (HTTP {http_status})'}"
    )


def message_of(content: Mapping[str, Any]) -> str:
    """Find the server's message in any of its possible fields; return one printable line."""
    for name in _MESSAGE_FIELDS:
        words = printable(_words(content.get(name)))
        if words:
            return words[:_MAX_MESSAGE_CHARACTERS]
    return ""


def printable(text: str) -> str:
    """Convert a text to one line; remove terminal escapes, control and invisible characters."""
    text = _TERMINAL_ESCAPE.sub("", text)
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(
            f"{name}: {words}" for name, item in value.items() if (words := _words(item))
        )
    if isinstance(value, list):
        return "; ".join(words for item in value if (words := _words(item)))
    return "" if value is None or isinstance(value, bool) else str(value)


def parse_number(value: Any) -> float | None:
    """Parse a finite number, which may be given as text; return None for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def parse_retry_after(value: Any) -> float | None:
    """Parse a Retry-After value into seconds from now, or None if it is invalid.

    The value is a number of seconds or an HTTP date (RFC 9110, 10.2.3).
    """
    seconds = parse_number(value)
    if seconds is None and isinstance(value, str):
        try:
            date = parsedate_to_datetime(value)
        except (TypeError, ValueError, OverflowError):
            return None
        if date.tzinfo is None:
            date = date.replace(tzinfo=timezone.utc)
        seconds = (date - datetime.now(timezone.utc)).total_seconds()
    return None if seconds is None else max(seconds, 0.0)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _links(value: Any) -> tuple[str, ...]:
    """Collect the URLs in a text, a list or nested lists."""
    if isinstance(value, str):
        return (value,) if value else ()
    return tuple(link for item in value for link in _links(item)) if isinstance(value, list) else ()
