"""Check API keys and limit the rate of wrong ones."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from ..errors import InvalidInput
from .errors import ApiError

_DIGEST = re.compile(r"[0-9a-f]{64}")
_GUESSES = 10
_GUESSES_PER_S = 1.0


def digest(key: str) -> str:
    """Return the SHA-256 of a key in hexadecimal. Only this digest is stored, never the key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def read_digests(path: Path) -> list[str]:
    """Read a file with the SHA-256 of one key per line.

    Raises:
        InvalidInput: if the file cannot be read or a line is not a digest. Also if it is empty,
            because otherwise the server would be open to everybody.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"could not read the keys in {path}: {error}") from error
    if not lines:
        raise InvalidInput(f"{path} has no keys. Put the SHA-256 of one key on each line.")
    digests = [line.lower() for line in lines]
    for number, line in enumerate(digests, 1):
        if not _DIGEST.fullmatch(line):
            raise InvalidInput(
                f"entry {number} of {path} must be the SHA-256 of a key: 64 hexadecimal digits."
            )
    return digests


class Keys:
    """The keys that a server accepts.

    The rate limit applies to wrong keys only, so nobody can lock out a client with a correct key.
    All clients share the limit, so nothing is stored per client. Only long, random keys are safe
    from guessing.

    Args:
        digests: see `digest`. If there are none, everybody may use the server.
        guesses: number of wrong keys in a burst before the rate limit applies.
        guesses_per_s: wrong keys per second allowed after a burst. Up to this rate they are
            answered with 401, above it with 429.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        digests: Iterable[str],
        *,
        guesses: int = _GUESSES,
        guesses_per_s: float = _GUESSES_PER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._digests = frozenset(digests)
        self._guesses, self._rate, self._clock = guesses, guesses_per_s, clock
        self._left, self._counted_at = float(guesses), clock()

    def __bool__(self) -> bool:
        return bool(self._digests)

    def owner(self, key: str) -> str:
        """Check a key and return its digest; return "" if the server needs no key.

        Raises:
            ApiError: 401 for a wrong or missing key, 429 after too many wrong ones.
        """
        if not self._digests:
            return ""
        given = digest(key)
        matches = [hmac.compare_digest(known, given) for known in self._digests]
        if any(matches):  # all keys were compared, so timing leaks nothing
            return given
        if key and not self._may_guess():
            raise ApiError(429, "Too many wrong API keys: try again later.", self._wait())
        raise ApiError(401, "Invalid API key.")

    def owner_in_header(self, authorization: str) -> str | None:
        """Check the bearer token in a header and return its owner; return None without a token.

        Raises:
            ApiError: as `owner`.
        """
        scheme, _, token = authorization.partition(" ")
        return self.owner(token.strip()) if scheme.lower() == "bearer" else None

    def _may_guess(self) -> bool:
        now = self._clock()
        refilled = self._left + (now - self._counted_at) * self._rate
        self._left, self._counted_at = min(refilled, float(self._guesses)), now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def _wait(self) -> int:
        return max(1, round((1 - self._left) / self._rate))
