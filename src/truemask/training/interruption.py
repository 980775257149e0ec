"""Signals: Ctrl-C, and what a batch system sends before it takes the machine away.

Within the steps a signal only leaves a note, so that the step at hand is finished and everything is
saved; elsewhere, where nothing is at stake, it ends the program.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console

from truemask.errors import JobFailed

_ENDING = {
    number: name
    for name in ("SIGTERM", "SIGUSR1", "SIGHUP")
    if (number := getattr(signal, name, None)) is not None
}
"""What a batch system warns with: the run is saved, and can go on elsewhere."""


class _Ended(BaseException):
    """No `Exception`, as whoever turns these into messages of its own would keep it."""


class Interruption:
    """What was asked for while a training runs.

    Attributes:
        stop: whether the user wants the training to end, and the best weights to be tested.
        ending: the name of the signal that ends the process, or empty.
        hint: what to do when one has ended it.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.stop = False
        self.ending = ""
        self.hint = ""
        self._deferred = False
        self._owner = os.getpid()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Take the signals; in another thread than the main one they cannot be taken.

        Raises:
            JobFailed: one came where nothing had to be saved.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # What is ignored stays so: nohup ignores that the terminal is closed, and is meant to.
        numbers = [
            number
            for number in (signal.SIGINT, *_ENDING)
            if signal.getsignal(number) is not signal.SIG_IGN
        ]
        before = {number: signal.signal(number, self._handle) for number in numbers}
        try:
            yield
        except _Ended as error:
            raise JobFailed(f"ended by {self.ending}{self.hint}") from error
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within this, signals are noted, and whoever is inside looks at the notes."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:  # a child that inherited the handler
            return
        if number == signal.SIGINT:
            if self.stop or not self._deferred:
                raise KeyboardInterrupt
            self.stop = True
            self.console.print(
                "Ending after this step, then testing the best weights (Ctrl-C again: at once)."
            )
            return
        self.ending = _ENDING[signal.Signals(number)]
        if not self._deferred:
            raise _Ended


def spare_worker(worker: int) -> None:
    """Let a loading process outlive a signal to the whole group, for the main one saves first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGALRM"):
        for number in _ENDING:
            # Should nobody end it: it ends by itself.
            signal.signal(number, lambda *_: signal.alarm(30))
