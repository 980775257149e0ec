"""What an audit ends with, its JSON, and the CSV file that a training takes."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from truemask.data.marks import COLUMNS
from truemask.files import write_json, write_text

Kind = Literal["region", "moved", "border", "mask"]

KINDS: Mapping[Kind, str] = {
    "region": "a region of another class",
    "moved": "the mask lies off",
    "border": "a class too large or too small",
    "mask": "hardly anything fits",
}
"""What may be wrong, and how it is told."""


@dataclass(frozen=True, kw_only=True)
class AuditedRegion:
    """A disputed region of an image.

    Attributes:
        score: how unusual its evidence is, as the image's score.
        flagged: whether the score reaches the threshold.
        kind: what may be wrong.
        label: the class that the label gives; empty for a whole mask.
        prediction: the class that the model gives; empty for a whole mask.
        left: first column of its box, in pixels of the mask.
        top: first row.
        width: columns of the box.
        height: rows.
        pixels: of the region.
        cell: side of the squares that `runs` counts, in pixels.
        runs: START+LENGTH of its squares, along the rows of the box; empty for the whole box.
    """

    score: float
    flagged: bool
    kind: Kind
    label: str
    prediction: str
    left: int
    top: int
    width: int
    height: int
    pixels: int
    cell: int
    runs: str


@dataclass(frozen=True, kw_only=True)
class AuditedImage:
    """An image of the audit.

    Attributes:
        rank: 1 for the one whose label is most likely wrong.
        part: of the data.
        name: of the sample.
        score: the largest of `scores`.
        flagged: whether the score reaches the threshold.
        kind: what `score` is of.
        reason: that in a sentence.
        scores: for each kind how unusual its evidence is among all images of the audit: a modified
            z-score, about 0 for half of them.
        disagreement: share of the labelled pixels to which the model gives another class.
        height: of the mask.
        width: of the mask.
        regions: the disputed regions, the worst first.
    """

    rank: int
    part: str
    name: str
    score: float
    flagged: bool
    kind: Kind
    reason: str
    scores: dict[str, float]
    disagreement: float
    height: int
    width: int
    regions: tuple[AuditedRegion, ...]


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """An audit.

    Attributes:
        run: the folder of the run.
        out: the folder of the audit.
        parts: part -> images audited.
        folds: into how many the training part was cut; `None` where it was not audited.
        threshold: from which score on an image or a region is flagged.
        temperature: part -> by which the logits were divided.
        loss_before: part -> mean -log p(label) before calibration.
        loss_after: part -> the same after it.
        notes: what a reader must know, one sentence each.
        images: those with a labelled pixel, ranked.
        void: names of images without one.
    """

    run: str
    out: str
    parts: dict[str, int]
    folds: int | None
    threshold: float
    temperature: dict[str, float]
    loss_before: dict[str, float]
    loss_after: dict[str, float]
    notes: tuple[str, ...]
    images: tuple[AuditedImage, ...]
    void: tuple[str, ...]

    @property
    def flagged(self) -> tuple[AuditedImage, ...]:
        """The images at or above the threshold."""
        return tuple(image for image in self.images if image.flagged)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def save(self, folder: Path) -> None:
        """Write `audit.json` and `audit.csv`.

        Raises:
            UsageError: a file cannot be written.
        """
        write_json(folder / "audit.json", self.to_json())
        write_text(folder / "audit.csv", csv_text(self))


def csv_text(result: AuditResult) -> str:
    """The file that `data.exclude` and `data.ignore_regions` take: images first, then regions."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(COLUMNS), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_image_rows(result))
    writer.writerows(_region_rows(result))
    return text.getvalue()


def _image_rows(result: AuditResult) -> Iterator[dict[str, Any]]:
    for image in result.images:
        yield {
            "what": "image",
            "part": image.part,
            "name": image.name,
            "rank": image.rank,
            "score": f"{image.score:.2f}",
            "flagged": _yes(image.flagged),
            "kind": image.kind,
            "image_width": image.width,
            "image_height": image.height,
        }


def _region_rows(result: AuditResult) -> Iterator[dict[str, Any]]:
    found = [(image, region) for image in result.images for region in image.regions]
    found.sort(key=lambda pair: (-pair[1].score, pair[0].rank))
    for rank, (image, region) in enumerate(found, start=1):
        yield {
            "what": "region",
            "part": image.part,
            "name": image.name,
            "rank": rank,
            "score": f"{region.score:.2f}",
            "flagged": _yes(region.flagged),
            "kind": region.kind,
            "label": region.label,
            "prediction": region.prediction,
            "image_width": image.width,
            "image_height": image.height,
            "left": region.left,
            "top": region.top,
            "width": region.width,
            "height": region.height,
            "pixels": region.pixels,
            "cell": region.cell,
            "runs": region.runs,
        }


def _yes(value: bool) -> str:
    return "yes" if value else "no"
