"""One tracker as the training sees it: messages go out, and nothing there holds it up."""

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from truemask.training.tracker_process import describe

QUEUE = 1000
"""Messages on their way; a tracker that does not take them loses the newest."""

SILENCE = 30.0
"""Seconds without an answer during the training before it is said that there is none."""

PATIENCE = 10.0
"""Seconds without an answer, or any work, after which the end is no longer waited for."""

LONGEST = 30.0
"""Seconds that the end is waited for at all."""

SHORTEST = 2.0
"""Seconds that the end of a tracker is waited for that did not answer before."""


class Link:
    """A tracker's process, and threads that write to it and read from it.

    Args:
        name: of the tracker.
        command: of the process.
        warn: shows a line.
        opened: called with what the process tells when the tracker's run is open.
        delivered: called with each step whose row is delivered.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        warn: Callable[[str], None],
        opened: Callable[[str, dict[str, Any]], None],
        delivered: Callable[[str, int], None],
    ) -> None:
        self.name = name
        self._tell = warn
        self._opened = opened
        self._delivered = delivered
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(QUEUE)
        self._lock = threading.Lock()
        self._sent: dict[int, str] = {}
        self._missing: Counter[str] = Counter()
        self._number = 0
        self._progress = time.monotonic()
        self._ended = threading.Event()
        self._heard = False
        self._closed = False
        self._reason = ""
        self._rescue = "the run folder has everything"
        self._warned = False
        self._silent = 0.0
        self._start(command)

    def send(self, kind: str, **content: Any) -> None:
        """Hand a message over; never waits, and counts what cannot be taken."""
        with self._lock:
            if not self._sent:
                self._progress = time.monotonic()
            self._number += 1
            message = {"kind": kind, "number": self._number, **content}
            try:
                if self._ended.is_set():
                    raise queue.Full
                self._queue.put_nowait(message)
                self._sent[self._number] = kind
            except queue.Full:
                self._missing[kind] += 1
        if self.silence > SILENCE:
            self._warn(f"no answer for {self.silence:.0f} s; it is asked on")

    @property
    def silence(self) -> float:
        """Seconds for which an answer is overdue."""
        return time.monotonic() - self._progress if self._sent else 0.0

    def end(self, status: str) -> None:
        """Ask the process to end the tracker's run; `wait` follows."""
        self._silent = self.silence
        self.send("close", status=status)
        with suppress(queue.Full):
            self._queue.put_nowait(None)

    def wait(self, *, start: float, longest: float) -> None:
        """Wait for the process as long as it answers or works, but not for ever.

        Args:
            start: when the waiting began, by the monotonic clock.
            longest: seconds after which it is over in any case.
        """
        patience = SHORTEST if self._silent > PATIENCE else PATIENCE
        while not self._ended.wait(0.02):
            waited = time.monotonic() - start
            # Until it says its first word it is being started, which a busy machine may take over.
            quiet = min(waited, time.monotonic() - self._progress) if self._heard else 0.0
            if waited > longest or quiet > patience:
                self._reason = self._reason or f"no answer within {max(waited, self._silent):.0f} s"
                return

    def kill(self) -> None:
        """End the process, if it is there still, and say what is missing."""
        self._say_what_is_missing()
        self._warned = True  # all is said
        if self._process is not None:
            with suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
            # Where a file system hangs, nothing can end a process.
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=1)
            self._ended.wait(1)
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _errors(self) -> Path:
        return Path(self._folder) / "errors.txt"

    def _start(self, command: list[str]) -> None:
        # The process finds the same code as this one, wherever that was started.
        path = os.pathsep.join(folder for folder in sys.path if folder)
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = ""
        try:
            # The process removes it when it ends; this one, where it had to be killed.
            self._folder = tempfile.mkdtemp(prefix="truemask-")
            with self._errors.open("wb") as errors:
                self._process = subprocess.Popen(
                    [*command, self._folder],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env={**os.environ, "PYTHONPATH": path, "TMPDIR": self._folder},
                    start_new_session=True,
                )
        except OSError as error:
            self._reason = f"its process cannot be started: {describe(error)}"
            self._ended.set()
            self._warn(self._reason)
            return
        for target in (self._write, self._read):
            threading.Thread(target=target, args=[self._process], daemon=True).start()

    def _write(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        # The process may be gone: the reading thread says so.
        with suppress(OSError, ValueError), process.stdin as pipe:
            while (message := self._queue.get()) is not None:
                pipe.write(json.dumps(message).encode() + b"\n")
                pipe.flush()

    def _read(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        try:
            with suppress(OSError, ValueError), process.stdout as pipe:
                for line in pipe:
                    self._handle(json.loads(line))
            if not self._closed:
                self._reason = self._reason or self._last_words(process)
                self._warn(self._reason)
        finally:
            self._ended.set()

    def _handle(self, reply: Mapping[str, Any]) -> None:
        with self._lock:
            self._heard = True
            self._progress = time.monotonic()
            kind = self._sent.pop(reply.get("done", reply.get("lost")), None)
            if "lost" in reply and kind is not None:
                self._missing[kind] += 1
            if "done" in reply and not self._missing:
                self._reason = ""  # it answers again
        if "reason" in reply:
            self._reason = reply["reason"]
            self._warn(reply["reason"])
        if "step" in reply:
            self._delivered(self.name, reply["step"])
        if "opened" in reply:
            self._rescue = str(reply["opened"]["rescue"])
            self._opened(self.name, reply["opened"])
        self._closed = self._closed or "closed" in reply

    def _last_words(self, process: "subprocess.Popen[bytes]") -> str:
        code = process.wait()
        words: list[str] = []
        with suppress(OSError):
            lines = self._errors.read_text(encoding="utf-8", errors="replace").split("\n")
            words = [line for line in lines if line.strip()]
        return f"its process ended with code {code}" + (
            f": {describe(RuntimeError(words[-1]))}" if words else ""
        )

    def _say_what_is_missing(self) -> None:
        with self._lock:
            missing = self._missing + Counter(self._sent.values())
            self._sent.clear()
        del missing["open"], missing["close"]
        if missing or not self._closed:
            kinds = [f"{n} {kind}{'' if n == 1 else 's'}" for kind, n in sorted(missing.items())]
            self._tell(
                f"{self.name}: not delivered: {', '.join(kinds) or 'how the run ended'} "
                f"({self._reason or 'no answer'}); {self._rescue}"
            )

    def _warn(self, reason: str) -> None:
        """Say once that something is wrong; what becomes of it is said at the end."""
        if not self._warned:
            self._warned = True
            self._tell(f"{self.name} cannot log, the training goes on: {reason}")
