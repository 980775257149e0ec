"""uvicorn, with patience that ends: for clients that send slowly, and for those that stay.

uvicorn waits for the head of a request for ever, so a client that sends a byte now and then holds
a connection as long as it likes. And when it stops, it closes every idle connection at once, also
one on which a request is just arriving, which is lost. Both are mended here.
"""

import asyncio
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from truemask.errors import UsageError
from truemask.inference.serve import Service

KEEP_ALIVE = 30
"""Seconds that a connection may be idle between requests."""

HEAD_SECONDS = 10.0
"""For a request's head to arrive."""

TAKING_SECONDS = 30.0
"""For a client to take what fills the buffers before it."""

_LINGER = 0.5
"""Seconds that an idle connection is kept while the server stops, for what is on its way."""


class PatientProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, with a time limit for heads and a soft end."""

    _head: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Take what has come; once a request's head is there, its own limits hold."""
        super().data_received(data)
        if not self._idle:
            self._forget_head()
        elif self._head is None:
            self._expect_head()

    def pause_writing(self) -> None:
        """Wait until the client has taken what was sent, but not for ever."""
        super().pause_writing()
        self._expect_taking()

    def on_response_complete(self) -> None:
        """Wait for what the buffers still hold of the answer, but not for ever."""
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._expect_taking()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that was idle too long, whatever of its answer was not taken."""
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._forget_head()
        self._forget_taking()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """End after the request at hand, or after one that is on its way."""
        if self._idle:
            self.loop.call_later(_LINGER, self._end)
        else:
            super().shutdown()

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _end(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()

    def _expect_head(self) -> None:
        self._head = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _forget_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _expect_taking(self) -> None:
        if self._taking is None:
            self._taking = self.loop.call_later(TAKING_SECONDS, self._take_back)

    def _take_back(self) -> None:
        self._taking = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _forget_taking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _give_up(self) -> None:
        self._head = None
        if self._idle:
            self.transport.abort()


class _Server(uvicorn.Server):
    """Tells the application when it is about to stop, and ends with exit code 0 then."""

    def __init__(
        self, config: uvicorn.Config, service: Service, started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._service, self._when_started = service, started
        self._end: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self._when_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop once all requests are answered; a second Ctrl-C does not wait."""
        if not self._service.draining:
            self._service.draining = True
            self._end = time.monotonic() + self._service.limits.drain
        elif sig == signal.SIGINT:
            self.force_exit = self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop now; asked ten times a second."""
        if self._end is not None and time.monotonic() >= self._end:
            self.should_exit = True
        return await super().on_tick(counter)


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: name or address.
        port: 0 takes a free one.

    Raises:
        UsageError: the address is not here, or is taken.
    """
    if not 0 <= port < 2**16:
        raise UsageError(f"--port is {port}, but ports reach from 0 to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise UsageError(f"cannot listen at {host}:{port}: {error}: choose another --port") from (
            error
        )


def run_server(app: FastAPI, listening: socket.socket, *, started: Callable[[], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; what was accepted until then is answered.

    Args:
        app: of `serve.create_app`.
        listening: of `open_socket`; closed in the end.
        started: called when requests are answered from now on.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    _Server(_config(app), app.state.service, started).run([listening])


def run_in_thread(app: FastAPI) -> tuple[str, Callable[[], None]]:
    """Serve at a free port of this machine, in a thread.

    Returns:
        The address, and a function that stops the server.
    """
    listening = open_socket("127.0.0.1", 0)
    ready = threading.Event()
    server = _Server(_config(app), app.state.service, ready.set)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    if not ready.wait(30):
        raise TimeoutError("the server did not start")

    def stop() -> None:
        server.handle_exit(signal.SIGTERM, None)
        thread.join()

    return f"http://127.0.0.1:{listening.getsockname()[1]}", stop


def _config(app: FastAPI) -> uvicorn.Config:
    limits = app.state.service.limits
    return uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        limit_concurrency=limits.connections,
        # An upload and its answer may each take the limit.
        timeout_graceful_shutdown=int(2 * limits.seconds) + 5,
    )
