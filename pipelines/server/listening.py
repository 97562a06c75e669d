"""Bind the server's sockets and run it until SIGTERM."""

from __future__ import annotations

import contextlib
import errno
import signal
import socket
import threading
from types import FrameType

import uvicorn
from fastapi import FastAPI

from ..errors import EnvironmentProblem

_GRACE_S = 3
_BACKLOG = 2048
#: Errors for an address that this machine lacks, such as ::1 of "localhost" without IPv6.
_MISSING_ADDRESS_ERRORS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def bind(host: str, port: int) -> list[socket.socket]:
    """Bind a port on all addresses of a host name.

    Args:
        host: a name or an address, such as "localhost", "0.0.0.0" or "::1".
        port: 0 chooses a free port.

    Raises:
        EnvironmentProblem: if the host or port cannot be bound.
    """
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            if port == 0 and sockets:  # all addresses get the same port
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            try:
                sockets.append(socket.create_server(address, family=family, backlog=_BACKLOG))
            except OSError as error:
                if error.errno not in _MISSING_ADDRESS_ERRORS:
                    raise
        if not sockets:
            raise OSError("this machine does not have that address")
    except (OSError, UnicodeError) as error:
        for listener in sockets:
            listener.close()
        raise EnvironmentProblem(
            f"could not listen on {_url(host, port)}: {error}. Choose another --host or --port."
        ) from error
    return sockets


def address_of(host: str, sockets: list[socket.socket]) -> str:
    """Return the address to open in a browser."""
    return _url(host, sockets[0].getsockname()[1])


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


class _Server(uvicorn.Server):
    """A uvicorn server that sets the event `closing` as soon as it receives a signal to stop."""

    def __init__(self, config: uvicorn.Config, closing: threading.Event) -> None:
        super().__init__(config)
        self._closing = closing

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._closing.set()
        super().handle_exit(sig, frame)


def run(app: FastAPI, sockets: list[socket.socket], closing: threading.Event) -> None:
    """Serve requests until SIGTERM or Ctrl-C.

    Args:
        app: the application.
        sockets: from `bind`; closed at the end.
        closing: event that is set as soon as the server receives a signal to stop.
    """
    config = uvicorn.Config(
        app, log_level="warning", timeout_graceful_shutdown=_GRACE_S, server_header=False, ws="none"
    )
    # uvicorn raises the signal again after it has stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        _Server(config, closing).run(sockets=sockets)
