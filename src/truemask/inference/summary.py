"""What a prediction of many images ends with: a typed result, and its table `predictions.csv`.

Several processes may write into one folder: each adds its lines to those that are there, while the
others wait.
"""

import csv
import io
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from truemask.errors import UsageError
from truemask.files import explain_os_errors, remove_partial, write_text
from truemask.labels import LabelMap

SUMMARY = "predictions.csv"

Rows = dict[str, dict[str, str]]
"""Lines of the table by the path of their mask."""

_NOT_COUNTED = ("file", "mask", "key", "size")

_STALE_S = 60.0
"""A lock that is older was left by a process that was killed; see `alone`."""


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
        entropy: mean over pixels of the entropy of the probabilities, as a share of the largest
            that there is: 0 where all is certain, 1 where all classes are equally probable.
        pixels: class -> pixels that are predicted as it. A raster's pixels without data belong to
            none.
        areas: class -> square metres, where a raster lies in a projected coordinate system.
        unlikeness: distance to the training images, above 1 it is unlike them; `None` where these
            are not known. See `inference.doubt`.
        warning: one line where the mask should not be trusted without looking.
        key: what decided the mask: see `records.image_key`.
        size: of the mask in bytes, where it lies in a bucket.
    """

    file: str
    mask: str
    height: int
    width: int
    shares: dict[str, float]
    confidence: float
    entropy: float
    pixels: dict[str, int]
    areas: dict[str, float] | None = None
    unlikeness: float | None = None
    warning: str | None = None
    key: str = field(default="", compare=False)
    size: int = field(default=0, compare=False)

    def figures(self) -> dict[str, Any]:
        """What its mask keeps of it: what was counted."""
        value = asdict(self)
        for name in _NOT_COUNTED:
            del value[name]
        return value

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"file": self.file, "mask": self.mask, **self.figures()}

    @classmethod
    def from_figures(
        cls, file: str, mask: str, figures: Mapping[str, Any], *, key: str
    ) -> "PredictedImage | None":
        """The inverse of `figures`; `None` where another version wrote others."""
        if set(figures) != {each.name for each in fields(cls)} - set(_NOT_COUNTED):
            return None
        return cls(file=file, mask=mask, key=key, **figures)


@dataclass(frozen=True, kw_only=True)
class PredictResult:
    """What was predicted and what could not be.

    Attributes:
        out: the folder of the masks.
        written: the predicted images, in order.
        kept: images whose mask was there already, made by this model with these settings.
        failed: images that were left out, each with the reason.
        coco: one COCO file of all images in `out`, where one was asked for.
    """

    out: str
    written: list[PredictedImage]
    kept: list[PredictedImage]
    failed: list[tuple[str, str]]
    coco: str | None = None

    @property
    def warned(self) -> list[PredictedImage]:
        """The images with a warning, the most unlike first."""
        warned = [image for image in (*self.written, *self.kept) if image.warning is not None]
        return sorted(warned, key=lambda image: -(image.unlikeness or 0.0))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "out": self.out,
            "written": [image.to_json() for image in self.written],
            "kept": [image.to_json() for image in self.kept],
            "failed": [{"file": file, "reason": reason} for file, reason in self.failed],
            "coco": self.coco,
        }


def read_summary(out: Path, labels: LabelMap) -> Rows:
    """The table that an earlier prediction left, to be added to; empty where none did.

    A column that an earlier version did not write is empty.

    Raises:
        UsageError: there is a table, but of other classes or of something else.
    """
    file = out / SUMMARY
    if not file.exists():
        return {}
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {file} ({error}): choose another --out") from error
    return rows_of(content, labels, file)


def rows_of(content: bytes, labels: LabelMap, file: Path | str) -> Rows:
    """The lines of a table.

    Args:
        content: the table.
        labels: the classes.
        file: what it is called.

    Raises:
        UsageError: it is one of other classes or of something else.
    """
    try:
        lines = list(csv.reader(io.StringIO(content.decode("utf-8"), newline="")))
    except (ValueError, csv.Error) as error:
        raise UsageError(f"cannot read {file} ({error}): choose another --out") from error
    head, rows = (lines[0], lines[1:]) if lines else ([], [])
    columns = columns_of(labels)
    needed = [name for name in columns if name.startswith("share_")]
    ours = {"file", "mask", "height", "width", *needed} <= set(head) <= set(columns)
    if not ours or any(len(row) != len(head) for row in rows):
        raise UsageError(
            f"{file} is no table of predictions of the same classes: choose another --out"
        )
    found = [dict(zip(head, row, strict=True)) for row in rows]
    return {row["mask"]: row for row in found}


def add_to_summary(out: Path, images: Sequence[PredictedImage], labels: LabelMap) -> None:
    """Put images into the table, after those lines of it that are of other masks.

    Raises:
        UsageError: there is a table of something else, or it cannot be written.
    """
    with alone(out, SUMMARY):
        remove_partial([out / SUMMARY])
        rows = read_summary(out, labels)
        put_rows(rows, images)
        write_text(out / SUMMARY, table_of(rows, labels))


def put_rows(rows: Rows, images: Iterable[PredictedImage]) -> None:
    """Put images after the lines that are of other masks."""
    for image in images:
        row = _row(image)
        rows.pop(row["mask"], None)
        rows[row["mask"]] = row


def table_of(rows: Rows, labels: LabelMap) -> str:
    """The table's text."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns_of(labels), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows.values())
    return text.getvalue()


def columns_of(labels: LabelMap) -> tuple[str, ...]:
    """The columns of the table."""
    shares, pixels, areas = (
        [f"{kind}_{name}" for name in labels.names] for kind in ("share", "pixels", "area_m2")
    )
    sure = ("confidence", "unlikeness", "warning", "entropy")
    return ("file", "mask", "height", "width", *shares, *sure, *pixels, *areas)


def _text(name: str) -> str:
    """As a table can hold it and give it back: bytes that are no UTF-8 as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _row(image: PredictedImage) -> dict[str, str]:
    row = {
        "file": _text(image.file),
        "mask": _text(image.mask),
        "height": str(image.height),
        "width": str(image.width),
        "confidence": f"{image.confidence:.6f}",
        "entropy": f"{image.entropy:.6f}",
        "unlikeness": "" if image.unlikeness is None else f"{image.unlikeness:.4f}",
        "warning": image.warning or "",
    }
    row |= {f"share_{name}": f"{share:.6f}" for name, share in image.shares.items()}
    row |= {f"pixels_{name}": str(count) for name, count in image.pixels.items()}
    row |= {f"area_m2_{name}": f"{area:.2f}" for name, area in (image.areas or {}).items()}
    return row


@contextmanager
def alone(out: Path, name: str) -> Iterator[Callable[[], None]]:
    """Hold a file that many write, against other processes and machines.

    A file that only one can make, since locks of the system do not reach other machines everywhere.

    Args:
        out: the folder.
        name: of the file in it.

    Yields:
        A function, to be called now and then by whoever holds it for longer than moments.

    Raises:
        UsageError: the folder cannot be written.
    """
    lock = out / f".{name}.lock"
    while True:
        with explain_os_errors(lock):
            try:
                lock.touch(exist_ok=False)
                break
            except FileExistsError:
                pass
        try:
            if time.time() - lock.stat().st_mtime > _STALE_S:
                lock.unlink(missing_ok=True)
        except FileNotFoundError:
            continue
        time.sleep(0.02 + 0.05 * (os.getpid() % 7) / 7)
    due = time.monotonic() + _STALE_S / 6

    def alive() -> None:
        nonlocal due
        if time.monotonic() >= due:
            lock.touch()
            due = time.monotonic() + _STALE_S / 6

    try:
        yield alive
    finally:
        lock.unlink(missing_ok=True)
