"""The API key: where it comes from, and that it goes nowhere else."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from ..errors import AuthenticationFailed

VARIABLE = "MODELSLAB_API_KEY"
_HIDDEN = "<key>"


class ApiKey:
    """A secret that does not show itself.

    `reveal` is called where a request's body is made, and nowhere else.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return f"ApiKey({_HIDDEN})"

    def __reduce__(self) -> Any:
        raise TypeError("An API key is not written anywhere.")

    def reveal(self) -> str:
        """The secret itself."""
        return self._secret

    def redact(self, value: Any) -> Any:
        """What a server said, as JSON gives it, without the key in any text of it."""
        if isinstance(value, str):
            return value.replace(self._secret, _HIDDEN)
        if isinstance(value, list):
            return [self.redact(item) for item in value]
        if isinstance(value, dict):
            return {
                self.redact(name): self.redact(item)
                for name, item in value.items()
                if name != "key"
            }
        return value


def find_key(file: Path) -> ApiKey:
    """The key from the environment, or from a file that its owner alone can read.

    Raises:
        AuthenticationFailed: if there is none, or others can read the file.
    """
    secret = os.environ.get(VARIABLE, "").strip()
    if not secret and file.is_file():
        if os.name == "posix" and file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise AuthenticationFailed(
                f"Others can read {file}, which holds your ModelsLab API key: run 'chmod 600"
                f" {file}'."
            )
        secret = file.read_text(encoding="utf-8").strip()
    if not secret:
        raise AuthenticationFailed(
            f"There is no ModelsLab API key: set the variable {VARIABLE}, or write the key into"
            f" {file}, readable by you alone."
        )
    return ApiKey(secret)
