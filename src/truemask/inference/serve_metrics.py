"""What the server counts, as Prometheus reads it."""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from truemask.inference.serve_queue import ModelQueue

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

CONTENT_TYPE: str = CONTENT_TYPE_LATEST

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_IMAGES = (1, 2, 3, 4, 6, 8, 12, 16, 32)

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Metrics:
    """The figures of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry, "namespace": "truemask"}
        self.requests = Counter(
            "requests", "Requests answered, by path and status", ("path", "status"), **own
        )
        self.seconds = Histogram(
            "request_seconds", "From the head of a request to the end of its answer", ("path",),
            buckets=_SECONDS, **own,
        )  # fmt: skip
        self.batch = Histogram(
            "batch_images", "Images that were computed together", ("model",), buckets=_IMAGES, **own
        )
        self.pixels = Counter("pixels", "Pixels of the images predicted", ("model",), **own)
        self.doubtful = Counter(
            "doubtful_images", "Images predicted that are unlike the training's", ("model",), **own
        )
        self.queued = Gauge(
            "queue_images", "Images accepted and not yet answered", ("model",), **own
        )
        self.wait = Gauge(
            "queue_seconds", "What an image would probably wait for its turn", ("model",), **own
        )
        ProcessCollector(registry=self.registry)

    def watch(self, queue: ModelQueue) -> None:
        """Show how many images are in a queue, and how long they take."""
        self.queued.labels(queue.model.name).set_function(lambda: queue.placed)
        self.wait.labels(queue.model.name).set_function(lambda: queue.wait)

    def text(self) -> bytes:
        """All figures in the text format."""
        text: bytes = generate_latest(self.registry)
        return text


class Measured:
    """Counts and times the requests of an application, and adds headers to its answers.

    Args:
        app: the application.
        metrics: where it is counted.
        paths: those that are counted by name; the world asks for any others.
        ending: whether the server is about to stop; then clients are told that their connection
            ends with the answer, before they send another request on it.
    """

    def __init__(
        self, app: App, metrics: Metrics, paths: frozenset[str], ending: Callable[[], bool]
    ) -> None:
        self.app, self.metrics, self.paths, self.ending = app, metrics, paths, ending

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """As ASGI asks for."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500
        path = scope["path"] if scope["path"] in self.paths else "other"

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), *_HEADERS]
                if self.ending() and not any(name == b"connection" for name, _ in headers):
                    headers.append((b"connection", b"close"))
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self.app(scope, receive, sending)
        finally:
            self.metrics.requests.labels(path, str(status)).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - started)
