"""A tracker's own process: it takes messages from the training, and gives them to the library.

A process and not a thread, so that whatever a library does stays there: a call that hangs can be
ended, nothing is printed among the results, environment variables, signal handlers and exit hooks
are not the training's, and loading processes are never forked while a library holds a lock. It ends
when the training does, however that ends.

Messages and replies are lines of JSON on the standard input and output.
"""

import base64
import hashlib
import json
import math
import os
import shutil
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from truemask.errors import UsageError
from truemask.training.tracker_client import Client, Job

_WAITING = 2000
"""Messages that are kept for when the tracker answers again."""

_TRIES = 3
"""How often a message is tried; one that the tracker refuses must not hold up the others."""

_PAUSE = 5.0
"""Seconds between attempts to open a tracker."""

_LAST = 20.0
"""Seconds in which all must be over where the training ended without a word."""

_LINE = 200
"""Letters of a reason."""

Message = dict[str, Any]
Reply = Callable[[dict[str, Any]], None]


class Delivery:
    """Gives messages to a client; what fails waits, and is tried again after the next success.

    Args:
        client: not yet opened.
        reply: takes what the training should know.
        folder: for pictures on their way.
    """

    def __init__(self, client: Client, reply: Reply, *, folder: Path) -> None:
        self.client = client
        self.reply = reply
        self.folder = folder
        self.waiting: deque[tuple[Message, int]] = deque()
        self._opening: Message = {}
        self._is_open = False
        self._attempt = -math.inf
        self._before = -1
        self._reason = ""

    def take(self, message: Message) -> None:
        """Deliver a message, or keep it."""
        if message["kind"] == "open":
            self._opening = message
        if self._try(message):
            self._again()
            return
        self.waiting.append((message, 1))
        if len(self.waiting) > _WAITING:
            self._lose(self.waiting.popleft()[0])

    def close(self, status: str) -> None:
        """Deliver what waits, then end the tracker's run."""
        self._attempt = -math.inf
        for _ in range(_TRIES):
            self._again()
        if self._try({"kind": "close", "number": -1, "status": status}):
            self.reply({"closed": True})

    def _again(self) -> None:
        """Try what waits, up to the first failure."""
        while self.waiting:
            message, tries = self.waiting.popleft()
            if self._try(message):
                continue
            if tries + 1 < _TRIES:
                self.waiting.appendleft((message, tries + 1))
                return
            self._lose(message)

    def _try(self, message: Message) -> bool:
        try:
            self._open()
            self._deliver(message)
        # Whatever a library raises, it is a tracker's failure and no more.
        except Exception as error:
            self._reason = describe(error)
            self.reply({"failed": message["kind"], "reason": self._reason})
            return False
        self.reply({"done": message["number"]})
        return True

    def _open(self) -> None:
        if self._is_open:
            return
        if time.monotonic() - self._attempt < _PAUSE:
            raise ConnectionError(self._reason)
        job, saved = Job(**self._opening["job"]), self._opening["saved"]
        where = hashlib.sha256(self.client.where(job).encode()).hexdigest()[:16]
        known = saved["id"] if saved.get("where") == where else None
        try:
            place = self.client.open(replace(job, known=known))
        finally:
            self._attempt = time.monotonic()
        self._is_open = True
        # A run that goes on goes through some steps again.
        self._before = int(saved["step"]) if place.id == known else -1
        self.reply({"opened": {**asdict(place), "where": where, "step": self._before}})

    def _deliver(self, message: Message) -> None:
        kind, client = message["kind"], self.client
        if kind == "row":
            rows = message["rows"]
            while rows:  # those that are delivered are not delivered again
                step = rows[0]["step"]
                if step > self._before:
                    client.row(rows[0]["values"], step=step, time=rows[0]["time"])
                    self.reply({"step": step})
                del rows[0]
        elif kind == "result":
            client.results(message["values"], step=message["step"], time=message["time"])
        elif kind == "picture":
            path = self.folder / f"{message['name']}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(base64.b64decode(message["content"]))
            client.picture(path, name=message["name"], step=message["step"])
            path.unlink()
        elif kind == "file":
            client.file(Path(message["path"]))
        elif kind == "close":
            client.close(message["status"])

    def _lose(self, message: Message) -> None:
        self.reply({"lost": message["number"], "reason": self._reason})


def describe(error: BaseException) -> str:
    """An error on one line, without escape sequences, as a server may have sent it.

    What the operating system said comes first, since libraries wrap it many times.
    """
    text, root = str(error) or type(error).__name__, error
    while (inner := root.__cause__ or root.__context__) is not None:
        root = inner
    if isinstance(root, OSError) and not isinstance(error, OSError | UsageError):
        text = f"{root.strerror or root}: {text}"
    line = " ".join(text.split())
    return "".join(letter for letter in line if letter.isprintable())[:_LINE]


def serve(client: Client, messages: Iterable[Message], reply: Reply, *, folder: Path) -> None:
    """Give all messages to a client, up to the one that closes it, or the end of the training."""
    delivery = Delivery(client, reply, folder=folder)
    for message in messages:
        if message["kind"] == "close":
            delivery.close(message["status"])
            return
        delivery.take(message)
    delivery.close("failed")  # the training was killed


def _report_work(reply: Reply) -> None:
    """Tell every second in which this process computed: what computes does not hang."""
    before = time.process_time()
    while True:
        time.sleep(1)
        now = time.process_time()
        if now - before > 0.05:
            reply({"busy": True})
        before = now


def _lines(stream: Any) -> Iterable[Message]:
    for line in stream:
        yield json.loads(line)
    # Nobody waits any more; an attempt that hangs must not stay behind.
    end = threading.Timer(_LAST, os._exit, [1])
    end.daemon = True
    end.start()


def main(arguments: list[str]) -> None:
    """Serve one tracker: its module, its class, its settings as JSON, a folder of its own."""
    # What libraries print goes to the standard error, and their processes get neither pipe.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    messages = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # Signals are for the training, which says how it ended.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    lock = threading.Lock()

    def reply(value: dict[str, Any]) -> None:
        with lock, suppress(OSError):  # the training may be gone
            print(json.dumps(value), file=replies, flush=True)

    reply({"busy": True})
    threading.Thread(target=_report_work, args=[reply], daemon=True).start()
    module, name, settings, folder = arguments
    client = getattr(import_module(module), name)(**json.loads(settings))
    try:
        serve(client, _lines(messages), reply, folder=Path(folder))
    except SystemExit as error:  # a library that ends the program
        reply({"failed": "all", "reason": describe(error)})
    shutil.rmtree(folder, ignore_errors=True)
    replies.close()
    # Without the libraries' exit hooks, which may wait for a server; the run is closed.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
