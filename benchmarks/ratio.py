"""Timing two ways of doing the same, in turn, so that a machine's drift meets both."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """Seconds of ours and of the baseline, medians over the pairs, and the median of the ratios."""

    name: str
    baseline_name: str
    ours: float
    baseline: float
    speedup: float

    def __str__(self) -> str:
        return (
            f"{self.name:<44} {self.ours * 1e3:>9.2f} ms   {self.baseline_name:<40} "
            f"{self.baseline * 1e3:>9.2f} ms   {self.speedup:>7.2f} x"
        )


def compare(
    name: str,
    ours: Callable[[], object],
    baseline_name: str,
    baseline: Callable[[], object],
    *,
    pairs: int = 7,
) -> Ratio:
    """Time both, one after the other, after one warm-up each."""

    def seconds(action: Callable[[], object]) -> float:
        start = time.perf_counter()
        action()
        return time.perf_counter() - start

    ours()
    baseline()
    times = [(seconds(ours), seconds(baseline)) for _ in range(pairs)]
    return Ratio(
        name,
        baseline_name,
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
        statistics.median(b / a for a, b in times),
    )
