"""How the server behaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Config:
    """How the server behaves.

    Attributes:
        keys: SHA-256 digests of the accepted keys; without any, everybody may use the server.
        wait: seconds that a request waits for its job before the answer is "processing".
        model: what a job without a model's name uses.
        models: further models that jobs may name; None allows those whose weights are here.
        models_dirs: folders of weights.
        public_url: what links begin with; None takes the address that the client has used.
        hosts: names by which the server may be called; None for any.
        cors_origins: origins of web pages that may use the endpoints; "*" for all.
        allow_private: whether images and webhooks may be in private networks.
        webhook_secret: signs webhooks, if not empty.
        body_timeout_s: within which a request's body must arrive.
    """

    keys: frozenset[str] = frozenset()
    wait: float = 2.0
    model: str = "photo"
    models: Sequence[str] | None = None
    models_dirs: Sequence[Path] = ()
    public_url: str | None = None
    hosts: Sequence[str] | None = None
    cors_origins: Sequence[str] = ()
    allow_private: bool = False
    webhook_secret: str = field(default="", repr=False)
    body_timeout_s: float = 60.0

    @property
    def root_path(self) -> str:
        """The path of `public_url`, below which a proxy serves the server; "" for none."""
        return urlsplit(self.public_url or "").path.rstrip("/")
