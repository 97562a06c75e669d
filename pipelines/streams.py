"""Keep a run alive when its text output fails."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO


def make_streams_safe() -> None:
    """Make stdout and stderr escape unsupported characters, and ignore a closed pipe.

    Otherwise `print` raises UnicodeEncodeError for characters that the code page lacks, and
    BrokenPipeError after `| head` has ended.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or isinstance(stream, _SafeStream):  # None: Windows without a console
            continue
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, _SafeStream(stream))


class _SafeStream:
    """A text stream whose writes never fail; after the first failure, it discards all text."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError:
            self._discard()
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._discard()

    def _discard(self) -> None:
        """Redirect the buffered text and all later text to the null device."""
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
