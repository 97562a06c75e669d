"""Pauses, retries and timeouts."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TypeVar

from ..errors import AddressRefused
from ..net import HTTP_ERRORS
from .answers import UnclearAnswer
from .errors import BadAnswer, ConnectionFailed, ModelsLabError, QuotaExceeded

Result = TypeVar("Result")
_MAX_ATTEMPTS = 5


@dataclass(frozen=True)
class Timing:
    """Durations in seconds.

    Attributes:
        overall: timeout of one job, including upload and download.
        first_poll, longest_poll: shortest and longest pause between polls. Pauses grow.
        check: pause between checks whether the user has stopped the job.
        first_retry, longest_retry: shortest and longest pause between attempts, without jitter.
        appearing: time for which a new link or job may be missing (404).
    """

    overall: float = 1200.0
    first_poll: float = 1.0
    longest_poll: float = 10.0
    check: float = 0.25
    first_retry: float = 1.0
    longest_retry: float = 20.0
    appearing: float = 60.0

    def retry_pause(self, attempt: int) -> float:
        """Return the pause in seconds after attempt 1, 2, ...; it doubles, with 25 % jitter."""
        pause = self.first_retry * 2.0 ** min(attempt - 1, 30)
        return min(self.longest_retry, pause) * random.uniform(0.75, 1.25)

    def poll_pause(self, poll: int, eta: float | None) -> float:
        """Return the pause in seconds before poll 1, 2, ...

        The first pause follows the service's estimate `eta`; later ones grow by half.
        """
        if poll == 1 and eta is not None and eta > 0:
            return min(max(eta, self.first_poll), self.longest_poll)
        return min(self.first_poll * 1.5 ** min(poll - 1, 30), self.longest_poll)


async def retry(ask: Callable[[], Awaitable[Result]], timing: Timing, until: float) -> Result:
    """Send a request, and retry it after transient errors.

    Transient errors are network errors, HTTP 429 (too many requests), and answers that do not
    reveal the job's state (`UnclearAnswer`).

    Args:
        ask: sends the request.
        timing: pauses between attempts, unless the service sends Retry-After.
        until: deadline on the clock of `time.monotonic`. If the next pause would end after it, the
            error is raised immediately.

    Raises:
        ModelsLabError: the error of the last attempt, or one that is not transient.
    """
    attempt = 0
    while True:
        attempt += 1
        pause = None
        reason: ModelsLabError
        try:
            return await ask()
        except QuotaExceeded as error:
            reason, pause = error, error.retry_after
        except UnclearAnswer as error:
            reason, pause = error.reason, error.retry_after
        except AddressRefused as error:
            raise BadAnswer(str(error)) from error
        except HTTP_ERRORS as error:
            reason = ConnectionFailed(
                f"ModelsLab could not be reached ({type(error).__name__}): check the network"
                " connection and try again."
            )
        if pause is None:
            pause = timing.retry_pause(attempt)
        if attempt >= _MAX_ATTEMPTS or time.monotonic() + pause > until:
            raise reason
        await asyncio.sleep(pause)


async def run_interruptibly(
    work: Coroutine[object, object, Result],
    check: Callable[[], None],
    timed_out: Callable[[], Exception],
    timing: Timing,
) -> Result:
    """Await `work`, and call `check` several times a second.

    The work is cancelled if `check` raises an error, or after `timing.overall` seconds.
    """
    task, until = asyncio.ensure_future(work), time.monotonic() + timing.overall
    try:
        while True:
            done, _ = await asyncio.wait({task}, timeout=timing.check)
            if done:
                return task.result()
            check()
            if time.monotonic() > until:
                raise timed_out()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=1.0)
