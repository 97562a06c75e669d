"""How long work reports: a callback that shows progress and may stop the work by raising."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Progress(Protocol):
    """Called after each step of a stage. An exception that it raises ends the work."""

    def __call__(
        self, done: int, total: int, preview: Tensor | None = None, *, stage: str = ""
    ) -> None:
        """Report `done` of `total` steps of a stage.

        `preview` (B, 3, H, W) in [0, 1] shows what is made so far. `stage` is the name of the
        stage, where the work has several: bind it with `functools.partial`.
        """


def silent(done: int, total: int, preview: Tensor | None = None, *, stage: str = "") -> None:
    """Report to nobody."""


def stage(progress: Progress, index: int, count: int) -> Progress:
    """Return a callback for stage `index` of `count` that take about as long as each other."""

    def report(done: int, total: int, preview: Tensor | None = None, *, stage: str = "") -> None:
        progress(index * total + done, count * total, preview)

    return report
