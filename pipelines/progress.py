"""How long work reports: a callback that shows progress and may stop the work by raising."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Progress(Protocol):
    """Called after each step of a stage. What it raises ends the stage and reaches the caller."""

    def __call__(self, done: int, total: int, preview: Tensor | None = None) -> None:
        """Report `done` of `total` steps.

        `preview` is an optional image (1, 3, H, W) in [0, 1] of the result so far.
        """


def silent(done: int, total: int, preview: Tensor | None = None) -> None:
    """Report to nobody."""


def stage(progress: Progress, index: int, count: int) -> Progress:
    """Return a callback for stage `index` of `count` that take about as long as each other."""

    def report(done: int, total: int, preview: Tensor | None = None) -> None:
        progress(index * total + done, count * total, preview)

    return report
