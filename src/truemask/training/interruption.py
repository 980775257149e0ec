"""Signals: Ctrl-C, and what a batch system sends before it takes the machine away.

Within the steps a signal only leaves a note, so that the step at hand is finished and everything is
saved; elsewhere, where nothing is at stake, it ends the program.
"""

import os
import signal
import sys
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


_PAUSE_S = 0.05
"""Until a signal that came where nothing can be raised is looked at again."""

_FRAGILE = ("__del__", "_launch", "_find_and_load")
"""Functions that are not broken off: finalizers, how `multiprocessing` starts a process, imports.

An extension that calls Python while it is imported, as PyTorch does, aborts the process where an
exception that it does not know comes out of the call.
"""


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
        self._raised = False
        self._owner = os.getpid()
        self._hook = sys.unraisablehook

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
        if hasattr(signal, "SIGALRM"):
            before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._look_again)
        self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        try:
            yield
        except _Ended as error:
            raise self._failure() from error
        except Exception as error:
            # A library may turn everything that is raised in it into an error of its own.
            if self._raised and not isinstance(error, JobFailed):
                raise self._failure() from error
            raise
        finally:
            sys.unraisablehook = self._hook
            _look_again_after(0)  # that is, never
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.ending:  # raised where somebody kept it
            raise self._failure()

    def _failure(self) -> JobFailed:
        return JobFailed(f"ended by {self.ending}{self.hint}")

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
        self._end(frame)

    def _look_again(self, number: int, frame: FrameType | None) -> None:
        if self.ending and os.getpid() == self._owner:
            self._end(frame)

    def _unraisable(self, told: "sys.UnraisableHookArgs") -> None:
        """Called where Python would print an exception and forget it, such as in a callback."""
        if issubclass(told.exc_type, _Ended):
            _look_again_after(_PAUSE_S)
        else:
            self._hook(told)

    def _end(self, frame: FrameType | None) -> None:
        if self._deferred:
            return
        if _is_fragile(frame):
            _look_again_after(_PAUSE_S)
        else:
            self._raised = True
            raise _Ended


def _is_fragile(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name in _FRAGILE:
            return True
        frame = frame.f_back
    return False


def _look_again_after(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def spare_worker(worker: int) -> None:
    """Let a loading process outlive a signal to the whole group, for the main one saves first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        for number in _ENDING:
            # Should nobody end it: it ends by itself.
            signal.signal(number, lambda *_: signal.alarm(30))
