"""By which names the server may be addressed.

A page of a stranger can have its own name lead to 127.0.0.1 (DNS rebinding): the browser then takes
this server for the stranger's, and lets the page read its answers. What it cannot do is change the
name that the browser sends in the header `Host`, so requests under unknown names are refused.
"""

import ipaddress
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from truemask.errors import UsageError
from truemask.inference.serve_metrics import App, Message, Receive, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""This machine, in its own words."""

_PROBED = "/health"
_LONGEST = 253
"""Signs of a name, as DNS has it."""


@dataclass(frozen=True)
class Hosts:
    """Names that the server answers to.

    Attributes:
        names: in lower case, without a port; `None` for all.
    """

    names: frozenset[str] | None = None

    @classmethod
    def of(cls, host: str, address: str, allowed: Sequence[str] = ()) -> "Hosts":
        """What a server answers to that listens at an address.

        Args:
            host: as the user gave it.
            address: what came of it. One that means all of the machine (0.0.0.0, ::) is open to
                everybody who reaches it, under any name, unless names are given.
            allowed: further names; "*" for all.

        Raises:
            UsageError: one of these is no name.
        """
        further = [_name(word) for word in allowed]
        everywhere = ipaddress.ip_address(address.partition("%")[0]).is_unspecified
        if "*" in further or (everywhere and not further):
            return cls()
        return cls(frozenset((*LOOPBACK, host.lower(), address, *further)))

    def answers(self, header: str | None, path: str) -> bool:
        """Whether a request is answered.

        Args:
            header: its `Host`. Without one, as in HTTP/1.0, no browser sent it.
            path: of its address. `/health` is answered under any address of IP, as load balancers
                ask for it: what leads a browser astray is a name.
        """
        if self.names is None or header is None:
            return True
        name = host_of(header)
        return name in self.names or (path == _PROBED and _is_ip(name))


def host_of(header: str) -> str:
    """The name in a header `Host`: in lower case, without port, brackets and final dot."""
    found = re.fullmatch(r"(?:\[([^\]]*)\]|([^:]*))(?::\d*)?", header.strip())
    name = header if found is None else (found[1] or found[2] or "")
    return name.lower().removesuffix(".")


class OnlyHosts:
    """Answers requests under unknown names of the server with status 400.

    Args:
        app: the application.
        hosts: the names.
    """

    def __init__(self, app: App, hosts: Hosts) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """As ASGI asks for."""
        if scope["type"] == "http":
            header = _header(scope["headers"])
            if not self.hosts.answers(header, scope["path"]):
                await _refuse(host_of(header or ""), send)
                return
        await self.app(scope, receive, send)


async def _refuse(name: str, send: Send) -> None:
    shown = "".join(sign if sign.isprintable() else "?" for sign in name[:_LONGEST])
    said = {
        "detail": f"this server is not called {shown!r}: start it with --allowed-host NAME for "
        "each name that it is to be reached by"
    }
    body = json.dumps(said).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _header(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    return next((value.decode("latin-1") for name, value in headers if name == b"host"), None)


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _name(word: str) -> str:
    name = word.strip().lower().removesuffix(".")
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    if name != "*" and not _is_ip(name) and not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", name):
        raise UsageError(
            f"--allowed-host {word} is no name of a machine: give such as roads.example.org, "
            "without http:// and port, or * for all"
        )
    return name
