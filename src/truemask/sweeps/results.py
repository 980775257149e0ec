"""The typed result of a sweep."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

JobState = Literal["waiting", "queued", "running", "done", "pruned", "failed", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What became of a job.

    Attributes:
        number: counted from 0.
        settings: key -> value of what the sweep varies.
        state: "queued" is with the launcher, "pruned" is done, but ended early by the sweep.
        run: the folder of its run; `None` where it has none.
        monitor: what its weights are best at: "validation_iou" or "validation_loss".
        score: the best of that so far.
        stopped: why the training ended, where it is done.
        error: why it is not.
        seconds: that it took, the last time it was started.
    """

    number: int
    settings: dict[str, Any]
    state: JobState
    run: str | None
    monitor: str
    score: float | None
    stopped: str | None
    error: str | None
    seconds: float | None

    @property
    def name(self) -> str:
        """Such as "optimizer.lr=0.1 seed=2"."""
        return describe(self.settings)

    @property
    def rank(self) -> float:
        """By this the best come first; those without a score come last."""
        if self.score is None:
            return math.inf
        return self.score if self.monitor == "validation_loss" else -self.score


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """A sweep.

    Attributes:
        folder: where everything is.
        method: how the values were chosen.
        launcher: where the jobs ran.
        jobs: what became of each.
        headline: which is best and how sure that is; `None` where no job is done.
        page: the comparison of those that are done; `None` where no job is.
    """

    folder: str
    method: str
    launcher: str
    jobs: list[JobResult]
    headline: str | None
    page: str | None

    @property
    def complete(self) -> bool:
        """Whether every job is done."""
        return all(job.state in ("done", "pruned") for job in self.jobs)

    @property
    def ranked(self) -> list[JobResult]:
        """The jobs, the best first."""
        return sorted(self.jobs, key=lambda job: job.rank)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "complete": self.complete}


def describe(settings: dict[str, Any]) -> str:
    """Settings on one line."""
    return " ".join(f"{key}={show(value)}" for key, value in settings.items()) or "no settings"


def show(value: Any) -> str:
    """A setting's value as the command line writes it, numbers in six digits."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)
