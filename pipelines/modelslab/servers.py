"""Servers and their keys: where they are named, and that a key goes to its own server alone."""

from __future__ import annotations

import codecs
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import InvalidInput
from .errors import AuthenticationFailed

API = "https://modelslab.com/api/v6"
DEFAULT = "modelslab.com"
KEY_VARIABLE, URL_VARIABLE = "MODELSLAB_API_KEY", "MODELSLAB_API_URL"
KEY_FILE, SERVERS_FILE = "modelslab_api_key.txt", "modelslab_servers.txt"
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
            return value.replace(self._secret, _HIDDEN) if self._secret else value
        if isinstance(value, list):
            return [self.redact(item) for item in value]
        if isinstance(value, dict):
            return {
                self.redact(name): self.redact(item)
                for name, item in value.items()
                if name != "key"
            }
        return value


@dataclass(frozen=True)
class Server:
    """A service that speaks ModelsLab's protocol.

    Attributes:
        api: its address, up to `/v6`.
        key: that it alone is given.
        named: whether the user has named it, so that it may be private and speak http.
    """

    api: str
    key: ApiKey
    named: bool = False

    @property
    def host(self) -> str:
        return urlsplit(self.api).hostname or ""


def server_names(folder: Path) -> list[str]:
    """Those that a user may choose from: ModelsLab, and the addresses of `SERVERS_FILE`."""
    try:
        return [DEFAULT, *(server.api for server in _of_file(folder / SERVERS_FILE))]
    except (AuthenticationFailed, InvalidInput):  # said where the server is asked for
        return [DEFAULT]


def find_server(name: str, folder: Path) -> Server:
    """A server by its name.

    Args:
        name: one of `server_names`; never an address that came with a workflow. `DEFAULT` is
            ModelsLab, or what the variable MODELSLAB_API_URL names.
        folder: of the user's files.

    Raises:
        InvalidInput: if there is none of this name, or an address is none.
        AuthenticationFailed: if it has no key, or others can read the file with the key.
    """
    if name != DEFAULT:
        for server in _of_file(folder / SERVERS_FILE):
            if server.api == name:
                return server
        raise InvalidInput(
            f"The server '{name[:200]}' is not in {folder / SERVERS_FILE}: add a line with its"
            " address and its key, or choose another."
        )
    secret, api = _checked(os.environ.get(KEY_VARIABLE, ""), KEY_VARIABLE), _api_of_environment()
    if api is not None:
        return Server(api, ApiKey(secret), named=True)
    file = folder / KEY_FILE
    if not secret and file.is_file():
        secret = _checked(_secret_text(file), str(file))
    if not secret:
        raise AuthenticationFailed(
            f"There is no ModelsLab API key: set the variable {KEY_VARIABLE}, or write the key into"
            f" {file}, readable by you alone."
        )
    return Server(API, ApiKey(secret))


def _api_of_environment() -> str | None:
    address = os.environ.get(URL_VARIABLE, "").strip()
    return _address(address, URL_VARIABLE) if address else None


def _of_file(file: Path) -> list[Server]:
    if not file.is_file():
        return []
    servers = []
    for line in _secret_text(file).splitlines():
        address, _, secret = line.strip().partition(" ")
        if address and not address.startswith("#"):
            key = ApiKey(_checked(secret, str(file)))
            servers.append(Server(_address(address, str(file)), key, named=True))
    return servers


def _address(text: str, where: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
    except ValueError:
        usable = False
    if not usable:
        raise InvalidInput(
            f"What {where} names is not an address of a server: it must look like"
            " http://192.168.1.20:8000/api/v6."
        )
    return text.rstrip("/")


def _checked(secret: str, where: str) -> str:
    secret = secret.strip()
    if not (secret.isascii() and secret.isprintable()) or " " in secret:
        raise AuthenticationFailed(
            f"What {where} holds is not an API key: it must be one line of letters and digits."
        )
    return secret


def _secret_text(file: Path) -> str:
    """The text of a file that its owner alone can read, as any editor saves it."""
    if os.name == "posix" and file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise AuthenticationFailed(
            f"Others can read {file}, which holds your ModelsLab API key: run 'chmod 600 {file}'."
        )
    content = file.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if wide else "utf-8-sig", errors="replace")
