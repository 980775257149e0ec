"""The typed result of holding runs against each other, and its JSON."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from truemask.results import Interval

Metric = Literal["iou", "loss"]
Part = Literal["validation", "test"]

SAID: dict[str, str] = {"iou": "IoU", "loss": "loss"}


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """A run among others.

    Attributes:
        name: what tells it from the others.
        run: its folder.
        settings: key -> value of what differs among the runs; a key that it does not have is left
            out.
        scores: part -> its score; `None` where it has none.
        intervals: part -> the 95 % interval of that over images, where there is one.
        epochs: that it was trained.
        seconds: that it took.
        stopped: why it ended.
    """

    name: str
    run: str
    settings: dict[str, Any]
    scores: dict[str, float | None]
    intervals: dict[str, Interval]
    epochs: int | None
    seconds: float | None
    stopped: str | None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much a group is better than the best one: below 0 where it is worse, in any metric.

    Attributes:
        value: the difference of their means on the judged part.
        interval: its 95 % interval; `None` where nothing is known of it.
        over: what the interval holds: what other "images" would change, other "seeds", or both.
    """

    value: float
    interval: Interval | None
    over: tuple[str, ...] = ()

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs that differ in nothing but the seed or the fold.

    Attributes:
        name: what tells it from the others.
        settings: what its runs share of what differs among all.
        runs: their places among all runs.
        means: part -> mean of their scores; `None` where one has none.
        deviations: part -> standard deviation of one run's score; `None` for a single run.
        difference: to the best group; `None` for that itself, and where it cannot be told.
    """

    name: str
    settings: dict[str, Any]
    runs: list[int]
    means: dict[str, float | None]
    deviations: dict[str, float | None]
    difference: Difference | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs side by side.

    Attributes:
        headline: which is best, and how sure that is.
        metric: what they are judged by: the IoU, or the loss where all of them were chosen by it.
        chosen_by: the part whose scores order the groups: always validation.
        judged: the part whose differences are told: test where all runs have it.
        images: of the judged part; `None` where the runs were judged on different images.
        keys: the settings that differ, in order.
        repeats: those of them that make no group of their own, such as the seed.
        groups: the best first.
        runs: all of them, in the order in which they were given.
        notes: what else a reader must know, a sentence each.
        page: the page that shows it all.
    """

    headline: str
    metric: Metric
    chosen_by: Part
    judged: Part
    images: int | None
    keys: list[str]
    repeats: list[str]
    groups: list[Group]
    runs: list[ComparedRun]
    notes: list[str]
    page: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        plain: dict[str, Any] = asdict(self)
        return plain
