"""The typed result of holding runs against each other, and its JSON."""

from dataclasses import asdict, dataclass, field
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
class Needed:
    """What would show a difference of the size that was seen, four times in five.

    Attributes:
        images: how many images, of the same kind.
        seeds: how many runs of each group; `None` where more images alone would do.
    """

    images: int
    seeds: int | None = None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much a group is better than the best one: below 0 where it is worse, in any metric.

    Attributes:
        value: the difference of their means.
        interval: its 95 % interval, for itself alone; `None` where nothing is known of it.
        over: what the interval holds: what other "images" would change, other "seeds", or both.
        p: how likely so large a difference would be if there were none; `None` without interval.
        certain: whether it is told from 0 with 95 % confidence, together with all differences that
            it was tested with (Holm's correction of `p`).
        identical: whether the two gave the very same counts on every image.
        needed: what would show such a difference; `None` where it is certain, or not known.
    """

    value: float
    interval: Interval | None
    over: tuple[str, ...] = ()
    p: float | None = None
    certain: bool = False
    identical: bool = False
    needed: Needed | None = None


@dataclass(frozen=True, kw_only=True)
class Score:
    """A group's score of something: of a class, or of the images that share an attribute.

    Attributes:
        images: that it is of; for a class those in which it occurs.
        value: mean over the group's runs; `None` where a run has none.
        difference: to the best group; `None` for that itself, and where one has no score.
    """

    images: int
    value: float | None
    difference: Difference | None


@dataclass(frozen=True, kw_only=True)
class Details:
    """Where a group is better or worse.

    Attributes:
        classes: class -> its IoU.
        subgroups: attribute -> value -> the score of the images that have it.
    """

    classes: dict[str, Score]
    subgroups: dict[str, dict[str, Score]]


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
        details: where it is better; `None` for those far behind, and without counts.
    """

    name: str
    settings: dict[str, Any]
    runs: list[int]
    means: dict[str, float | None]
    deviations: dict[str, float | None]
    difference: Difference | None
    details: Details | None = None


@dataclass(frozen=True, kw_only=True)
class Images:
    """The images that the runs were judged on.

    Attributes:
        total: different ones, by name.
        common: those that all runs were judged on.
        other_truth: those whose true pixels are not the same in all runs.
        names: of those with a score in each of the first groups.
        scores: of each of these groups the score of each of them, mean over its runs.
    """

    total: int
    common: int
    other_truth: int
    names: list[str] = field(default_factory=list)
    scores: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """An image that is shown with every group's prediction.

    Attributes:
        name: of the image.
        kind: whether the best group gained most on it over the second, or lost most.
        scores: of the first groups.
        source: where its predictions come from: made again by the runs' weights, or the pictures
            that the runs kept; `None` where there are none.
    """

    name: str
    kind: Literal["gained", "lost"]
    scores: list[float]
    source: Literal["weights", "pictures"] | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs side by side.

    Attributes:
        headline: which is best, and how sure that is.
        metric: what they are judged by: the IoU, or the loss where all of them were chosen by it.
        chosen_by: the part whose scores order the groups: always validation.
        judged: the part whose differences are told: test where all runs have it.
        images: of the judged part; `None` where the runs cannot be held against each other.
        keys: the settings that differ, in order.
        repeats: those of them that make no group of their own, such as the seed.
        groups: the best first.
        runs: all of them, in the order in which they were given.
        chosen: images on which the best and the second differ most.
        notes: what else a reader must know, a sentence each.
        picture_notes: why some chosen images have no prediction of some run.
        page: the page that shows it all.
    """

    headline: str
    metric: Metric
    chosen_by: Part
    judged: Part
    images: Images | None
    keys: list[str]
    repeats: list[str]
    groups: list[Group]
    runs: list[ComparedRun]
    chosen: list[Chosen]
    notes: list[str]
    picture_notes: list[str]
    page: str

    @property
    def detailed(self) -> list[Group]:
        """The first groups, of which it is told where they are better."""
        return [group for group in self.groups if group.details is not None]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        plain: dict[str, Any] = asdict(self)
        return plain
