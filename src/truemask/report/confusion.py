"""The confusion matrix as a table of shares: what a class of the truth was taken for."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from truemask.errors import counted
from truemask.report.formats import percent


@dataclass(frozen=True)
class Cell:
    """A shaded cell of a table: a share from 0 to 1, its text, what it means.

    In a confusion matrix a `hit` tells what was found from what was taken for another class.
    """

    share: float
    text: str
    title: str
    hit: bool = False

    @property
    def shade(self) -> float:
        """The square root of the share, so that 2 % can be seen."""
        return round(math.sqrt(self.share), 2)

    @property
    def strong(self) -> bool:
        """Whether its text stands on a strong colour."""
        return self.shade > 0.62


@dataclass(frozen=True)
class ConfusionRow:
    """How a class was predicted; no cells where it does not occur in the truth."""

    name: str
    cells: tuple[Cell, ...]


def confusion_rows(counts: Sequence[Sequence[int]], names: Sequence[str]) -> list[ConfusionRow]:
    """The rows of a confusion matrix, as shares of their class.

    Among more than 64 classes a share below 1 % is left blank: the page would grow too big to open.
    """
    return [
        ConfusionRow(name, tuple(_confusion_cells(row, i, names)) if sum(row) > 0 else ())
        for i, (name, row) in enumerate(zip(names, counts, strict=True))
    ]


def _confusion_cells(row: Sequence[int], truth: int, names: Sequence[str]) -> Iterator[Cell]:
    least = 0.0 if len(names) <= 64 else 0.01
    total = sum(row)
    for j, pixels in enumerate(row):
        share = pixels / total
        if pixels == 0 or share < least:
            yield Cell(0.0, "", "", hit=j == truth)
            continue
        text = f"{share * 100:.0f}" if share >= 0.005 else ""
        said = "is found" if j == truth else f"is taken for {names[j]}"
        title = f"{percent(share)} of {names[truth]} {said} ({counted(pixels, 'pixel')})"
        yield Cell(share, text, title, hit=j == truth)


@dataclass(frozen=True)
class Confusion:
    """A share of a class of the truth that was taken for another class."""

    share: float
    truth: str
    prediction: str


def largest_confusions(rows: Sequence[ConfusionRow], *, most: int) -> list[Confusion]:
    """The cells of the matrix to read first: the largest off its diagonal, from 1 % on."""
    wrong = [
        Confusion(cell.share, row.name, other.name)
        for row in rows
        for cell, other in zip(row.cells, rows, strict=False)
        if not cell.hit and cell.share >= 0.01
    ]
    return sorted(wrong, key=lambda confusion: -confusion.share)[:most]
