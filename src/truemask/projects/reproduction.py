"""The typed result of repeating a project, and its JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from truemask.errors import UsageError
from truemask.files import read_json, write_json
from truemask.projects.project import Column
from truemask.projects.trials import Status
from truemask.results import Interval

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A number of one run.

    Attributes:
        value: the number.
        interval: its 95 % interval; `None` for what is no score over images.
        trial: whose it is.
        doubt: why it cannot be held against a published one, such as "miniature"; else empty.
    """

    value: float
    interval: Interval | None
    trial: str
    doubt: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A number as it was published and as Truemask has it.

    Attributes:
        trial: the trial with the published settings.
        title: of that trial.
        quantity: which number, see `quantities.py`.
        published: what was published; `None` where nothing was.
        same: with the published settings; `None` where it was not trained.
        corrected: with the settings that mend them.
        bar: how far `same` may lie from `published`, as a share of it; `None` where none is set.
        note: what a reader must know to compare.
    """

    trial: str
    title: str
    quantity: str
    published: float | None
    same: Cell | None
    corrected: Cell | None
    bar: float | None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours over the published one; `None` where the two cannot be compared."""
        if self.published is None or self.published == 0 or self.same is None or self.same.doubt:
            return None
        return self.same.value / self.published

    @property
    def within(self) -> bool | None:
        """Whether ours lies within the bar; `None` where none is set or nothing to compare."""
        if self.ratio is None or self.bar is None:
            return None
        return abs(self.ratio - 1) <= self.bar


@dataclass(frozen=True, kw_only=True)
class TrialReport:
    """What became of a trial.

    Attributes:
        name: of the trial.
        title: in words.
        experiment: the experiment and what was changed in it, as the command line takes it.
        column: whether its settings are the published ones or mended ones.
        status: how it came by its run.
        run: the folder of its run; `None` where it has none.
        doubt: why its numbers cannot be held against published ones; else empty.
        images: of its training part.
        seconds: of its training.
        device: where it was trained.
    """

    name: str
    title: str
    experiment: str
    column: Column
    status: Status
    run: str | None
    doubt: str = ""
    images: int | None = None
    seconds: float | None = None
    device: str | None = None


@dataclass(frozen=True, kw_only=True)
class FigureReport:
    """A figure of the page; `missing` says why it is not there, else it is empty."""

    name: str
    title: str
    missing: str = ""


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A published project, repeated.

    Attributes:
        project: its name.
        title: what it is about.
        miniature: whether it ran on small made-up data, so that no number means anything.
        overrides: what the user changed in every trial.
        trials: what became of each.
        rows: the table.
        figures: of the page.
        notes: what else a reader must know, a sentence each.
        page: the page that shows it all.
    """

    project: str
    title: str
    miniature: bool
    overrides: list[str]
    trials: list[TrialReport]
    rows: list[Row]
    figures: list[FigureReport]
    notes: list[str]
    page: str

    @property
    def complete(self) -> bool:
        """Whether every trial has its run."""
        return all(trial.run is not None for trial in self.trials)

    def to_json(self) -> dict[str, Any]:
        """Plain values; each row also with its ratio and whether it is within its bar."""
        value = asdict(self)
        for row, plain in zip(self.rows, value["rows"], strict=True):
            plain |= {"ratio": row.ratio, "within": row.within}
        return _lists(value)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Reproduction":
        """The inverse of `to_json`.

        Raises:
            UsageError: a key is missing or unknown.
        """
        try:
            plain = dict(value)
            plain["trials"] = [TrialReport(**item) for item in plain["trials"]]
            plain["figures"] = [FigureReport(**item) for item in plain["figures"]]
            plain["rows"] = [_row(item) for item in plain["rows"]]
            return cls(**plain)
        except (TypeError, KeyError, AttributeError) as error:
            raise UsageError(f"this is no reproduction: {error}") from error


def save(reproduction: Reproduction, path: Path) -> None:
    """Write `reproduction.json`, atomically."""
    write_json(path, reproduction.to_json())


def load(path: Path) -> Reproduction:
    """Read what `save` wrote.

    Raises:
        UsageError: it is missing, or no reproduction.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise UsageError(f"{path} is no reproduction: make it with `truemask reproduce`")
    return Reproduction.from_json(value)


def _row(item: Mapping[str, Any]) -> Row:
    plain = {key: value for key, value in item.items() if key not in ("ratio", "within")}
    for key in ("same", "corrected"):
        cell = plain[key]
        if cell is not None:
            ends = cell["interval"]
            plain[key] = Cell(**{**cell, "interval": None if ends is None else (ends[0], ends[1])})
    return Row(**plain)


def _lists(value: T) -> T:
    """Tuples to lists, as JSON has them."""
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}  # type: ignore[return-value]
    if isinstance(value, list | tuple):
        return [_lists(item) for item in value]  # type: ignore[return-value]
    return value
