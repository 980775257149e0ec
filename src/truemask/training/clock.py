"""Seconds in named sections of a training step."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from truemask.training.peak import wait_for

FIRST = "data"
"""The section that a step begins with."""


class StepClock:
    """Measures sections of a step: `with clock("forward"): ...`.

    A section begins and ends when the device has done its work, so that each gets the time that it
    caused. A section within a section is taken off the outer one.

    Args:
        device: whose work is waited for.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._sections: dict[str, float] = {}
        self._begin: float | None = None
        self._inner = 0.0

    def __call__(self, name: str) -> AbstractContextManager[None]:
        """Measure what is inside as part of the section `name`; "data" begins a step."""
        return self._section(name)

    def end_step(self) -> tuple[float, dict[str, float]]:
        """The step that ends here.

        Returns:
            Its seconds, and section -> seconds; "other" is what no section covers.
        """
        assert self._begin is not None, f"no section {FIRST!r} since the step before"
        seconds = self._now() - self._begin
        sections, self._sections, self._begin = self._sections, {}, None
        return seconds, sections | {"other": max(0.0, seconds - sum(sections.values()))}

    def _now(self) -> float:
        wait_for(self.device)
        return time.perf_counter()

    @contextmanager
    def _section(self, name: str) -> Iterator[None]:
        outer, self._inner = self._inner, 0.0
        start = self._now()
        if name == FIRST:
            # Where a round has ended there was no step after it, but a validation, say.
            self._begin, self._sections = start, {}
        try:
            yield
        finally:
            took = self._now() - start
            self._sections[name] = self._sections.get(name, 0.0) + took - self._inner
            self._inner = outer + took
