"""What a training wrote down row by row, whoever's it is: columns of numbers and what they mean."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from truemask.errors import UsageError
from truemask.untrusted import read_table

Table = str | Path | Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]]
"""A CSV file, rows, or columns."""

_HELD_OUT = {"val", "valid", "validation", "eval", "test", "dev", "holdout"}
_SCORES = {
    "iou", "miou", "jaccard", "dice", "f1", "acc", "accuracy", "precision", "recall", "auc",
    "overlap", "score",
}  # fmt: skip
_RATES = {"lr", "rate"}


@dataclass(frozen=True)
class Column:
    """One figure over the training.

    Attributes:
        name: as the table calls it.
        places: rows that have the figure, from 0 on.
        values: the figures; NaN and infinity are kept.
    """

    name: str
    places: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def words(self) -> set[str]:
        """The words of the name, in small letters: "val/mIoU" has "val" and "miou"."""
        return set(re.findall(r"[a-z]+[0-9]*", self.name.lower()))

    @property
    def held_out(self) -> bool:
        """Whether it is of images that were not trained on."""
        return bool(self.words & _HELD_OUT)

    @property
    def is_loss(self) -> bool:
        """Whether lower is better."""
        return any("loss" in word for word in self.words)

    @property
    def is_score(self) -> bool:
        """Whether higher is better."""
        return not self.is_loss and bool(self.words & _SCORES)

    @property
    def overlap(self) -> bool:
        """Whether it is a score that a prediction without any hit brings to 0."""
        return bool(self.words & {"iou", "miou", "jaccard", "dice", "f1"})

    @property
    def finite(self) -> list[float]:
        """The values that are numbers."""
        return [value for value in self.values if math.isfinite(value)]


@dataclass(frozen=True)
class History:
    """The columns of a table by name, and where it is from."""

    columns: Mapping[str, Column]
    source: str

    @classmethod
    def of(cls, table: Table, *, source: str = "history") -> "History":
        """Read a table; cells that hold no number are left out, NaN and infinity are numbers.

        Raises:
            UsageError: the file cannot be read, or the table holds no number.
        """
        if isinstance(table, str | Path):
            source, table = str(table), read_table(Path(table))
        if isinstance(table, Mapping):
            series = {str(name): list(values) for name, values in table.items()}
        else:
            names = dict.fromkeys(str(name) for row in table for name in row)
            series = {name: [row.get(name) for row in table] for name in names}
        columns = {name: _column(name, values) for name, values in series.items()}
        return cls({name: column for name, column in columns.items() if column.values}, source)

    def losses(self, *, held_out: bool) -> list[Column]:
        """Losses of held-out or of training images."""
        return [c for c in self.columns.values() if c.is_loss and c.held_out == held_out]

    def scores(self, *, held_out: bool) -> list[Column]:
        """Scores of held-out or of training images."""
        return [c for c in self.columns.values() if c.is_score and c.held_out == held_out]

    @property
    def rates(self) -> Column | None:
        """The learning rate."""
        return next((c for c in self.columns.values() if c.words & _RATES), None)

    def monitored(self, name: str | None) -> Column | None:
        """The column that chose the best weights: `name`, else a held-out score, else a loss.

        Raises:
            UsageError: there is no column of that name.
        """
        if name is not None:
            if name not in self.columns:
                known = ", ".join(self.columns)
                raise UsageError(f"{self.source} has no column {name!r} (it has {known})")
            return self.columns[name]
        found = sorted(self.scores(held_out=True), key=lambda column: not column.overlap)
        return next(iter(found or self.losses(held_out=True)), None)

    def place(self, row: int) -> str:
        """How a row is called: "epoch 7", or "row 7"."""
        for name in ("epoch", "step", "iteration"):
            column = self.columns.get(name)
            if column is not None and row in column.places:
                return f"{name} {column.values[column.places.index(row)]:g}"
        return f"row {row}"


def _column(name: str, values: Sequence[Any]) -> Column:
    found = [(place, _number(value)) for place, value in enumerate(values)]
    known = [(place, value) for place, value in found if value is not None]
    return Column(name, tuple(p for p, _ in known), tuple(v for _, v in known))


def _number(value: Any) -> float | None:
    if value is None or value == "" or isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def trend(values: Sequence[float]) -> float:
    """How surely values rise (positive) or fall (negative): the z value of Mann and Kendall.

    It compares every value with every later one, so that neither the shape of the curve nor the
    size of the noise matters (Kendall, Rank Correlation Methods, 1975, with the correction for
    ties). Beyond 1.645 the chance of noise alone is below 5 % in that direction; fewer than four
    values are never sure.
    """
    n = len(values)
    if n < 4:
        return 0.0
    rising = sum(
        (later > value) - (later < value)
        for i, value in enumerate(values)
        for later in values[i + 1 :]
    )
    ties = [values.count(value) for value in dict.fromkeys(values)]
    variance = (n * (n - 1) * (2 * n + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties)) / 18
    if variance == 0:
        return 0.0
    return (rising - math.copysign(1, rising)) / math.sqrt(variance) if rising else 0.0


def thinned(values: Sequence[float], most: int = 200) -> list[float]:
    """At most so many values: means of neighbours, where there are more."""
    if len(values) <= most:
        return list(values)
    edges = [round(i * len(values) / most) for i in range(most + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in zip(edges, edges[1:], strict=False) if b > a]
