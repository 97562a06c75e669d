"""Check within seconds whether a host is reachable.

Without this check, libraries retry for half a minute before they report a missing network.
"""

from __future__ import annotations

import socket
import threading
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_DEFAULT_PORTS = {"https": 443, "http": 80, "socks5": 1080, "socks5h": 1080}


def is_reachable(url: str, timeout_s: float = 2.0) -> bool:
    """Return whether a URL's host, or the proxy for it, accepts a connection within a timeout.

    No data is sent. The connection is made in a thread, because resolving a name has no timeout.
    """
    host, port = _first_hop(url)
    answered = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=timeout_s).close()
        except OSError:
            return
        answered.append(True)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(timeout_s)
    return bool(answered)


def _first_hop(url: str) -> tuple[str, int]:
    """Return the host and port that a request for a URL connects to first."""
    target = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(target.scheme) or proxies.get("all")
    if proxy and not proxy_bypass(target.hostname or ""):
        target = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return target.hostname or "", target.port or _DEFAULT_PORTS.get(target.scheme, 443)
