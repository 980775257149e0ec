"""What a prediction of many images ends with: a typed result, and its table `predictions.csv`."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from truemask.errors import UsageError
from truemask.files import write_text
from truemask.labels import LabelMap

SUMMARY = "predictions.csv"

_DOUBT = ("unlikeness", "warning")
"""The last columns of the table."""

Rows = dict[str, list[str]]
"""Lines of the table by the path of their mask."""


@dataclass(frozen=True, kw_only=True)
class PredictedImage:
    """One image and its mask.

    Attributes:
        file: the image.
        mask: the mask, relative to the folder of all masks.
        height: of both, in pixels.
        width: of both, in pixels.
        shares: class -> share of the pixels that are predicted as it; they sum to 1.
        confidence: mean over pixels of the predicted class's probability.
        unlikeness: distance to the training images, above 1 it is unlike them; `None` where these
            are not known. See `inference.doubt`.
        warning: one line where the mask should not be trusted without looking.
    """

    file: str
    mask: str
    height: int
    width: int
    shares: dict[str, float]
    confidence: float
    unlikeness: float | None = None
    warning: str | None = None


@dataclass(frozen=True, kw_only=True)
class PredictResult:
    """What was predicted and what could not be.

    Attributes:
        out: the folder of the masks.
        written: the predicted images, in order.
        failed: images that were left out, each with the reason.
    """

    out: str
    written: list[PredictedImage]
    failed: list[tuple[str, str]]

    @property
    def warned(self) -> list[PredictedImage]:
        """The images with a warning, the most unlike first."""
        warned = [image for image in self.written if image.warning is not None]
        return sorted(warned, key=lambda image: -(image.unlikeness or 0.0))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "out": self.out,
            "written": [asdict(image) for image in self.written],
            "failed": [{"file": file, "reason": reason} for file, reason in self.failed],
        }


def read_summary(out: Path, labels: LabelMap) -> Rows:
    """The table that an earlier prediction left, to be added to; empty where none did.

    Raises:
        UsageError: there is a table, but of other classes or of something else.
    """
    file = out / SUMMARY
    if not file.exists():
        return {}
    columns = _columns(labels)
    try:
        rows = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8"), newline="")))
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"cannot read {file} ({error}): choose another --out") from error
    if rows and tuple(rows[0]) == columns[: -len(_DOUBT)]:  # as version 0.1 wrote them
        rows = [list(columns), *([*row, *("" for _ in _DOUBT)] for row in rows[1:])]
    if not rows or any(len(row) != len(columns) for row in rows) or tuple(rows[0]) != columns:
        raise UsageError(
            f"{file} is no table of predictions of the same classes: choose another --out"
        )
    return {row[columns.index("mask")]: row for row in rows[1:]}


def write_summary(
    out: Path, earlier: Rows, images: Sequence[PredictedImage], labels: LabelMap
) -> None:
    """Write the table: the earlier lines but those of the same masks, then the new ones."""
    rows = dict(earlier)
    for image in images:
        rows.pop(image.mask, None)
        numbers = (*image.shares.values(), image.confidence)
        size = (str(image.height), str(image.width))
        unlikeness = "" if image.unlikeness is None else f"{image.unlikeness:.4f}"
        rows[image.mask] = [
            image.file,
            image.mask,
            *size,
            *(f"{n:.6f}" for n in numbers),
            unlikeness,
            image.warning or "",
        ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_columns(labels))
    writer.writerows(rows.values())
    write_text(out / SUMMARY, text.getvalue())


def _columns(labels: LabelMap) -> tuple[str, ...]:
    shares = (f"share_{name}" for name in labels.names)
    return ("file", "mask", "height", "width", *shares, "confidence", *_DOUBT)
