"""Images from the web, where the user allows it: fetched within limits, from public addresses.

A URL is a request that this machine makes. One that somebody else wrote could ask a router, a
service of a cloud (169.254.169.254) or this very machine: so the address that a name stands for is
looked at before it is connected to, again at each redirection, and it is that address which is
connected to. Nothing is sent but the request: no cookies, no passwords, and no proxy is used.
"""

import hashlib
import http.client
import ipaddress
import os
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

from truemask.errors import UsageError

MAX_BYTES = 256 << 20
"""The most bytes of an image."""

_PAUSE_S = 20.0
"""How long a server may be silent."""

_TOTAL_S = 300.0
"""How long fetching an image may take."""

_CHUNK = 1 << 18


def is_url(text: str) -> bool:
    """Whether an input is to be fetched."""
    return text.lower().startswith(("http://", "https://"))


def fetch(url: str, folder: Path, *, local: bool = False, max_bytes: int = MAX_BYTES) -> Path:
    """Fetch an image into a folder.

    Its time of change is set by its content, so that the same content counts as the same file.

    Args:
        url: by http or https.
        folder: an empty one.
        local: whether it may lie on this machine or in its network.
        max_bytes: the most that are fetched.

    Returns:
        The file, by the name that the URL ends with.

    Raises:
        UsageError: it cannot be fetched, or goes beyond a limit; names the URL.
    """
    path = folder / _name(url)
    digest = hashlib.sha256()
    ends = time.monotonic() + _TOTAL_S
    try:
        with _opener(local).open(url, timeout=_PAUSE_S) as answer, path.open("wb") as file:
            while chunk := answer.read(_CHUNK):
                digest.update(chunk)
                if file.tell() + len(chunk) > max_bytes:
                    raise UsageError(
                        f"{url} has more than {max_bytes:,} bytes: fetch it by other means, and "
                        "give the file"
                    )
                if time.monotonic() > ends:
                    raise UsageError(f"{url} takes more than {_TOTAL_S:.0f} s: fetch it before")
                file.write(chunk)
    except UsageError as error:
        raise UsageError(str(error) if url in str(error) else f"{url}: {error}") from error
    except urllib.error.HTTPError as error:
        raise UsageError(
            f"cannot fetch {url}: the server says {error.code} {error.reason}"
        ) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, UsageError):
            raise UsageError(f"{url}: {reason}") from error
        raise UsageError(f"cannot fetch {url}: {reason}") from error
    stamp = int.from_bytes(digest.digest()[:7])
    os.utime(path, ns=(stamp, stamp))
    return path


def _name(url: str) -> str:
    last = urllib.parse.unquote(urllib.parse.urlsplit(url).path).rpartition("/")[2]
    kept = "".join(one for one in last if one.isprintable() and one not in '\\/:*?"<>|')
    return kept.lstrip(".")[-100:] or "image"


def _opener(local: bool) -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    # Only these: urllib's usual ones would read files and FTP, and ask a proxy.
    for handler in (
        _Handler(local),
        _SecureHandler(local),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    opener.addheaders = [("User-Agent", "truemask"), ("Accept", "image/*, */*;q=0.5")]
    return opener


class _Handler(urllib.request.HTTPHandler):
    def __init__(self, local: bool) -> None:
        super().__init__()
        self.local = local

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(partial(_Connection, local=self.local), req)


class _SecureHandler(urllib.request.HTTPSHandler):
    def __init__(self, local: bool) -> None:
        super().__init__()
        self.local = local

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(partial(_SecureConnection, local=self.local), req)


class _Connection(http.client.HTTPConnection):
    def __init__(self, host: str, *, local: bool, **options: Any) -> None:
        super().__init__(host, **options)
        self.local = local

    def connect(self) -> None:
        self.sock = _connect(self.host, self.port, self.timeout, local=self.local)


class _SecureConnection(_Connection):
    default_port = 443

    def connect(self) -> None:
        super().connect()
        context = ssl.create_default_context()
        self.sock = context.wrap_socket(self.sock, server_hostname=self.host)


def _connect(host: str, port: int, timeout: float | None, *, local: bool) -> socket.socket:
    """Connect to the very address that was looked at."""
    error: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM):
        place = ipaddress.ip_address(str(address[0]).partition("%")[0])
        if not local and not _is_public(place):
            raise UsageError(
                f"{host} is {place}, an address of this machine or its network: --allow-urls any "
                "allows that"
            )
        try:
            made = socket.socket(family, kind, protocol)
            made.settimeout(timeout)
            made.connect(address)
        except OSError as failed:
            error = failed
        else:
            return made
    raise error


def _is_public(place: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    inner = getattr(place, "ipv4_mapped", None) or getattr(place, "sixtofour", None)
    if inner is not None:
        return _is_public(inner)
    return place.is_global and not place.is_multicast
