from __future__ import annotations


class PreviewText:
    def __init__(self, value: str) -> None:
        self.value = value
