"""Report the progress of long work to a callback, which may raise to stop the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Progress(Protocol):
    """Callback for the steps of a stage. An exception that it raises stops the work."""

    def __call__(
        self, done: int, total: int, preview: Tensor | None = None, *, stage: str = ""
    ) -> None:
        """Report `done` of `total` steps of a stage.

        Args:
            done: number of finished steps.
            total: number of steps.
            preview: (B, 3, H, W) in [0, 1], the intermediate result.
            stage: name of the stage, if the work has several. Bind it with `functools.partial`.
        """


def silent(done: int, total: int, preview: Tensor | None = None, *, stage: str = "") -> None:
    """Ignore the report."""


def stage(progress: Progress, index: int, count: int) -> Progress:
    """Return a callback for stage `index` of `count` stages with similar durations."""

    def report(done: int, total: int, preview: Tensor | None = None, *, stage: str = "") -> None:
        progress(index * total + done, count * total, preview)

    return report
