"""Images to leave out and regions to ignore, listed in a CSV file: what `truemask audit` writes.

One row an image or a region. People edit it: a row may be deleted, `flagged` set to no, a box
drawn by hand. So whatever in it means nothing is an error that names the line.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from truemask.build import nearest
from truemask.datasets.layout import some
from truemask.datasets.paired import Size
from truemask.errors import UsageError
from truemask.untrusted import read_table

COLUMNS = (
    "what", "part", "name", "rank", "score", "flagged", "kind", "label", "prediction",
    "image_width", "image_height", "left", "top", "width", "height", "pixels", "cell", "runs",
    "note",
)  # fmt: skip
"""Only `name` is needed of an image; of a region the numbers from `image_width` to `height` too."""

_MOST_SIDE = 1 << 16
_RUN = re.compile(r"(\d{1,12})\+(\d{1,12})")


@dataclass(frozen=True, kw_only=True)
class RegionMark:
    """A region of one mask.

    Attributes:
        part: the part of the data that the image is in; `None` where the file does not say.
        name: of the image.
        size: height and width of the mask that the numbers are of.
        top: first row of the box.
        left: first column.
        height: rows of the box.
        width: columns of the box.
        cell: rows and columns of the squares that `runs` counts.
        runs: (start, length) of what belongs to the region, counted in squares along the rows of
            the box; `None` for the whole box.
        line: where it stands in the file.
    """

    part: str | None
    name: str
    size: Size
    top: int
    left: int
    height: int
    width: int
    cell: int = 1
    runs: tuple[tuple[int, int], ...] | None = None
    line: int = 0

    def inside(self) -> Bool[np.ndarray, "h w"]:
        """Which pixels of the box belong to the region."""
        if self.runs is None:
            return np.ones((self.height, self.width), dtype=bool)
        rows, columns = -(-self.height // self.cell), -(-self.width // self.cell)
        flat = np.zeros(rows * columns, dtype=bool)
        for start, length in self.runs:
            flat[start : start + length] = True
        grid = flat.reshape(rows, columns)
        whole = grid.repeat(self.cell, axis=0).repeat(self.cell, axis=1)
        return whole[: self.height, : self.width]


@dataclass(frozen=True, kw_only=True)
class ImageMark:
    """An image: its name, the part it is in (`None` where the file does not say), its line."""

    part: str | None
    name: str
    line: int = 0


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What a file lists, the flagged rows alone.

    Attributes:
        file: where it was read from.
        images: the images.
        regions: the regions.
        unflagged: rows of either kind that are not flagged.
        digest: SHA-256 of the file.
    """

    file: Path
    images: tuple[ImageMark, ...]
    regions: tuple[RegionMark, ...]
    unflagged: int
    digest: str


def encode_runs(inside: Bool[np.ndarray, "h w"]) -> str:
    """The runs of a box as text: START+LENGTH, counted along the rows."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], inside.ravel().astype(np.int8), [0]))))
    return " ".join(
        f"{start}+{end - start}" for start, end in zip(edges[::2], edges[1::2], strict=True)
    )


def read_runs(text: str) -> tuple[tuple[int, int], ...] | None:
    """The inverse of `encode_runs`; `None`, the whole box, for an empty text."""
    pairs = (word.split("+") for word in text.split())
    return tuple((int(start), int(length)) for start, length in pairs) or None


def read_marks(file: Path) -> Marks:
    """Read a list of images and regions.

    Raises:
        UsageError: the file cannot be read, or a line means nothing; names it.
    """
    rows = [
        {key.strip().removeprefix("\ufeff"): text.strip() for key, text in row.items()}
        for row in read_table(file)
    ]
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    if not rows:
        raise UsageError(f"{file} lists nothing: it has no line below its first")
    for column in rows[0]:
        if column not in COLUMNS:
            raise UsageError(
                f"{file} has a column {column!r}{nearest(column, COLUMNS)}: the columns are "
                f"{', '.join(COLUMNS)}"
            )
    if "name" not in rows[0]:
        raise UsageError(f"{file} has no column name, which says the images")
    images: list[ImageMark] = []
    regions: list[RegionMark] = []
    unflagged = 0
    for line, row in enumerate(rows, start=2):
        where = f"{file}, line {line}"
        if not row["name"]:
            raise UsageError(f"{where}: name is empty")
        if not _flagged(row, where):
            unflagged += 1
        elif _is_region(row, where):
            regions.append(_region(row, where, line))
        else:
            images.append(ImageMark(part=row.get("part") or None, name=row["name"], line=line))
    return Marks(
        file=file,
        images=tuple(images),
        regions=tuple(regions),
        unflagged=unflagged,
        digest=digest,
    )


def _flagged(row: Mapping[str, str], where: str) -> bool:
    text = row.get("flagged", "yes").lower()
    if text not in ("yes", "no"):
        raise UsageError(f"{where}: flagged is {text!r}, but must be yes or no")
    return text == "yes"


def _is_region(row: Mapping[str, str], where: str) -> bool:
    what = row.get("what", "")
    if what not in ("", "image", "region"):
        raise UsageError(f"{where}: what is {what!r}, but must be image or region")
    return what == "region" or (what == "" and any(row.get(key) for key in ("left", "top")))


def _region(row: Mapping[str, str], where: str, line: int) -> RegionMark:
    numbers = {
        key: _number(row, key, where, least=0 if key in ("left", "top") else 1)
        for key in ("image_width", "image_height", "left", "top", "width", "height")
    }
    cell = _number(row, "cell", where, least=1) if row.get("cell") else 1
    for low, extent, whole in (("left", "width", "image_width"), ("top", "height", "image_height")):
        if numbers[low] + numbers[extent] > numbers[whole]:
            raise UsageError(
                f"{where}: {low} + {extent} is {numbers[low] + numbers[extent]}, beyond {whole}, "
                f"{numbers[whole]}"
            )
    squares = -(-numbers["height"] // cell) * -(-numbers["width"] // cell)
    return RegionMark(
        part=row.get("part") or None,
        name=row["name"],
        size=(numbers["image_height"], numbers["image_width"]),
        top=numbers["top"],
        left=numbers["left"],
        height=numbers["height"],
        width=numbers["width"],
        cell=cell,
        runs=_runs(row["runs"], squares, where) if row.get("runs") else None,
        line=line,
    )


def _number(row: Mapping[str, str], key: str, where: str, *, least: int) -> int:
    text = row.get(key, "")
    if not re.fullmatch(r"\d{1,7}", text) or not least <= int(text) <= _MOST_SIDE:
        raise UsageError(f"{where}: {key} is {text!r}, but must be a whole number from {least} on")
    return int(text)


def _runs(text: str, squares: int, where: str) -> tuple[tuple[int, int], ...]:
    runs: list[tuple[int, int]] = []
    for word in text.split():
        found = _RUN.fullmatch(word)
        if found is None:
            raise UsageError(
                f"{where}: runs holds {word!r}, but must be START+LENGTH, such as 0+5 12+6; empty "
                "it to take the whole box"
            )
        start, length = int(found[1]), int(found[2])
        if length == 0 or start + length > squares:
            raise UsageError(f"{where}: the run {word} leaves the box, which has {squares} squares")
        runs.append((start, length))
    return tuple(runs)


def match(
    marks: Sequence[ImageMark] | Sequence[RegionMark],
    parts: Mapping[str, Sequence[str]],
    *,
    file: Path,
) -> dict[str, list[str]]:
    """Part -> the names in it that are marked, in the order of the part.

    Args:
        marks: images or regions.
        parts: part -> names of its samples.
        file: where the marks come from, for messages.

    Raises:
        UsageError: a name is unknown, or is in another part than the mark says.
    """
    owner = {name: part for part, names in parts.items() for name in names}
    unknown = [mark for mark in marks if mark.name not in owner]
    if unknown:
        first = unknown[0]
        raise UsageError(
            f"{file}, line {first.line}: the data has no image called "
            f"{some([mark.name for mark in unknown])}{nearest(first.name, owner)}"
        )
    for mark in marks:
        if mark.part is not None and mark.part != owner[mark.name]:
            raise UsageError(
                f"{file}, line {mark.line}: {mark.name} is in the {owner[mark.name]} part here, "
                f"not in {mark.part}: empty the column part to go by the names alone"
            )
    marked = {mark.name for mark in marks}
    return {part: [name for name in names if name in marked] for part, names in parts.items()}
