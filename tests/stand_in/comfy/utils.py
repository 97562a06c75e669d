from __future__ import annotations

from typing import Any

bars: list[ProgressBar] = []


class ProgressBar:
    def __init__(self, total: int) -> None:
        self.total = total
        self.steps: list[tuple[int, int, Any]] = []
        bars.append(self)

    def update_absolute(self, value: int, total: int | None = None, preview: Any = None) -> None:
        self.steps.append((value, total or self.total, preview))
