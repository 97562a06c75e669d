from __future__ import annotations


class PromptServer:
    instance: PromptServer

    def __init__(self) -> None:
        self.last_node_id = "running"
        self.texts: list[tuple[str, str]] = []

    def send_progress_text(self, text: str, node_id: str) -> None:
        self.texts.append((node_id, text))


PromptServer.instance = PromptServer()
