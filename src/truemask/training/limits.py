"""When a training is over."""


class Limits:
    """How far a training is, by the limit that comes first.

    Args:
        steps: optimiser steps in all, or `None`.
        seconds: time in all, or `None`.
    """

    def __init__(self, *, steps: int | None, seconds: float | None) -> None:
        assert steps is not None or seconds is not None
        self.steps = steps
        self.seconds = seconds

    def fraction(self, *, step: int, seconds: float) -> float:
        """Share of the training that is done, 0 to 1."""
        shares = [0.0]
        if self.steps is not None:
            shares.append(step / self.steps)
        if self.seconds is not None:
            shares.append(seconds / self.seconds)
        return min(1.0, max(shares))
