"""Find servers and their API keys. A key is only sent to its own server."""

from __future__ import annotations

import codecs
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import InvalidInput
from ..net import parse_url
from .errors import AuthenticationFailed

API = "https://modelslab.com/api/v6"
DEFAULT = "modelslab.com"
KEY_VARIABLE, URL_VARIABLE = "MODELSLAB_API_KEY", "MODELSLAB_API_URL"
KEY_FILE, SERVERS_FILE = "modelslab_api_key.txt", "modelslab_servers.txt"
_HIDDEN = "<key>"


class ApiKey:
    """A secret that never appears in logs or messages.

    Call `reveal` only to build a request's body.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return f"ApiKey({_HIDDEN})"

    def __reduce__(self) -> Any:
        raise TypeError("An API key cannot be pickled.")

    def reveal(self) -> str:
        """Return the secret."""
        return self._secret

    def redact(self, value: Any) -> Any:
        """Remove the key from all texts in a JSON value."""
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
    """A service that implements ModelsLab's API.

    Attributes:
        api: base URL, up to and including `/v6`.
        key: API key, sent to no other server.
        named: whether the user configured this URL, which then may be private and use http.
    """

    api: str
    key: ApiKey
    named: bool = False

    @property
    def host(self) -> str:
        return urlsplit(self.api).hostname or ""


def server_names(folder: Path) -> list[str]:
    """Return the available servers: `DEFAULT` and the URLs in `SERVERS_FILE`."""
    try:
        return [DEFAULT, *(server.api for server in _read_servers(folder / SERVERS_FILE))]
    except (AuthenticationFailed, InvalidInput):  # `find_server` reports it
        return [DEFAULT]


def find_server(name: str, folder: Path) -> Server:
    """Find a server by its name.

    Args:
        name: one of `server_names`. Other URLs are refused, as they may come from an untrusted
            workflow. `DEFAULT` is ModelsLab, or the URL in the variable MODELSLAB_API_URL.
        folder: folder of the key file and `SERVERS_FILE`.

    Raises:
        InvalidInput: if the name is unknown or a URL is malformed.
        AuthenticationFailed: if the key is missing, or other users can read the file that holds it.
    """
    if name != DEFAULT:
        for server in _read_servers(folder / SERVERS_FILE):
            if server.api == name:
                return server
        raise InvalidInput(
            f"The server '{name[:200]}' is not in {folder / SERVERS_FILE}: add a line with its"
            " address and its key, or choose another."
        )
    secret = _check_key(os.environ.get(KEY_VARIABLE, ""), KEY_VARIABLE)
    if address := os.environ.get(URL_VARIABLE, "").strip():
        return Server(_address(address, URL_VARIABLE), ApiKey(secret), named=True)
    file = folder / KEY_FILE
    if not secret and file.is_file():
        secret = _check_key(_secret_text(file), str(file))
    if not secret:
        raise AuthenticationFailed(
            f"There is no ModelsLab API key: set the variable {KEY_VARIABLE}, or write the key"
            f" into {file}, readable by you alone."
        )
    return Server(API, ApiKey(secret))


def _read_servers(file: Path) -> list[Server]:
    if not file.is_file():
        return []
    servers = []
    for line in _secret_text(file).splitlines():
        address, _, secret = line.strip().partition(" ")
        if address and not address.startswith("#"):
            key = ApiKey(_check_key(secret, str(file)))
            servers.append(Server(_address(address, str(file)), key, named=True))
    return servers


def _address(text: str, where: str) -> str:
    try:
        usable = not parse_url(text).userinfo
    except InvalidInput:
        usable = False
    if not usable:
        raise InvalidInput(
            f"The server in {where} is malformed: it must look like"
            " http://192.168.1.20:8000/api/v6."
        )
    return text.rstrip("/")


def _check_key(secret: str, where: str) -> str:
    secret = secret.strip()
    if not (secret.isascii() and secret.isprintable()) or " " in secret:
        raise AuthenticationFailed(
            f"The content of {where} is not an API key: it must be one line of letters and digits."
        )
    return secret


def _secret_text(file: Path) -> str:
    """Read a UTF-8 or UTF-16 text file; raise if users other than its owner have access."""
    if os.name == "posix" and file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise AuthenticationFailed(
            f"Others can read {file}, which holds your ModelsLab API key: run 'chmod 600 {file}'."
        )
    content = file.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if wide else "utf-8-sig", errors="replace")
