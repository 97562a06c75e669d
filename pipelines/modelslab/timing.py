"""How long to wait: pauses, retries and the end of patience."""

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
    """Seconds to wait.

    Attributes:
        overall: for one job, from its image to its files.
        first_poll, longest_poll: between polls, growing from one to the other.
        check: between checks whether the user has stopped the job.
        first_retry, longest_retry: between attempts.
        appearing: how long a link or a job may be missing (404).
    """

    overall: float = 1200.0
    first_poll: float = 1.0
    longest_poll: float = 10.0
    check: float = 0.25
    first_retry: float = 1.0
    longest_retry: float = 20.0
    appearing: float = 60.0

    def retry_pause(self, attempt: int) -> float:
        """Return the pause before another attempt (1, 2, ...): doubling, with 25 % of jitter."""
        pause = self.first_retry * 2.0 ** min(attempt - 1, 30)
        return min(self.longest_retry, pause) * random.uniform(0.75, 1.25)

    def poll_pause(self, poll: int, eta: float | None) -> float:
        """Return the pause before a poll (1, 2, ...): the first as the service suggests."""
        if poll == 1 and eta is not None and eta > 0:
            return min(max(eta, self.first_poll), self.longest_poll)
        return min(self.first_poll * 1.5 ** min(poll - 1, 30), self.longest_poll)


async def retry(ask: Callable[[], Awaitable[Result]], timing: Timing, until: float) -> Result:
    """Repeat a request that did nothing: it was not sent, refused for now, or not understood.

    Args:
        ask: sends the request.
        timing: the pauses, where the service names none.
        until: of `time.monotonic`; a pause beyond it is an error at once.

    Raises:
        ModelsLabError: the last attempt's, or one that another attempt cannot cure.
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
    """Await something, and call `check` several times a second.

    Whatever `check` raises cancels the work, and so does the end of `timing.overall`.
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
