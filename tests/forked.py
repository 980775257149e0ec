"""Processes that begin with everything imported.

They are forked from a process that has done nothing but import, which spares each of them the four
seconds that a training needs for it. What they run has memory of its own, and may be killed.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

_IMPORTED = [
    "truemask.compose",
    "truemask.inference.predict",
    "truemask.sweeps.sweep",
    "truemask.training.fit",
]


def _begin(
    output: str, variables: Mapping[str, str], function: Callable[..., object], *words: Any
) -> None:
    os.environ.update(variables)
    for number, ending in ((1, "out"), (2, "err")):
        with open(f"{output}.{ending}", "wb") as file:
            os.dup2(file.fileno(), number)
    function(*words)


class Forked:
    """A function that runs in a process of its own.

    Args:
        function: one of a module, that the process imports by its name.
        words: its arguments.
        output: where its standard output and errors go, with the endings `.out` and `.err`.
        variables: of its environment, beside those that the first such process found.

    Attributes:
        process: the process.
    """

    def __init__(
        self,
        function: Callable[..., object],
        *words: Any,
        output: Path,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        output.parent.mkdir(parents=True, exist_ok=True)
        self._output = output
        context: ForkServerContext = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_IMPORTED)
        self.process: ForkServerProcess = context.Process(
            target=_begin, args=(str(output), variables or {}, function, *words)
        )
        self.process.start()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.is_alive()

    @property
    def out(self) -> str:
        """Its standard output."""
        return self._output.with_name(f"{self._output.name}.out").read_text()

    @property
    def errors(self) -> str:
        """Its standard errors."""
        return self._output.with_name(f"{self._output.name}.err").read_text()

    def send(self, signal: int) -> None:
        """Send it a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal)

    def wait(self, seconds: float) -> int:
        """Its exit code, once it has ended; below 0 the signal that has ended it."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"it still ran after {seconds} s")
        return self.process.exitcode


def _program(words: list[str]) -> None:
    from truemask.__main__ import run

    sys.argv = ["truemask", *words]
    run()


def program(*words: str, output: Path) -> Forked:
    """The program `truemask` with these words, by what `python -m truemask` runs."""
    return Forked(_program, list(words), output=output)
