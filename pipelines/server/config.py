"""The server's configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ..settings import License

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Config:
    """Configuration of the application.

    Attributes:
        keys: SHA-256 digests of the accepted keys. If there are none, everybody may use the
            server.
        wait: seconds that a request waits for its job before the status is "processing".
        model: model of jobs that name none.
        models: further models that jobs may name; None allows all whose weights are complete.
        license: "commercial" refuses models whose weights forbid commercial use.
        models_dirs: folders to search for weights.
        public_url: prefix of links; None takes the address that the client used.
        hosts: accepted names of the Host header; None accepts any.
        cors_origins: origins of web pages that may use the endpoints; "*" for all.
        allow_private: whether images and webhooks may be in private networks.
        webhook_secret: key that signs webhooks; empty for unsigned webhooks.
        body_timeout_s: seconds within which a request's body must arrive.
    """

    keys: frozenset[str] = frozenset()
    wait: float = 2.0
    model: str = "photo"
    models: Sequence[str] | None = None
    license: License = "any"
    models_dirs: Sequence[Path] = ()
    public_url: str | None = None
    hosts: Sequence[str] | None = None
    cors_origins: Sequence[str] = ()
    allow_private: bool = False
    webhook_secret: str = field(default="", repr=False)
    body_timeout_s: float = 60.0

    @property
    def root_path(self) -> str:
        """Path of `public_url`, under which a proxy serves the application; "" for none."""
        return urlsplit(self.public_url or "").path.rstrip("/")
