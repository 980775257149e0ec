"""What an audit ends with, its JSON, and the CSV file that a training takes."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from truemask.analysis.audit_calibration import Calibration
from truemask.analysis.audit_image import FoundRegion
from truemask.analysis.audit_ranking import Kind, Ranked
from truemask.data.marks import COLUMNS
from truemask.files import explain_os_errors, require_replaceable, write_json, write_text
from truemask.labels import LabelMap

LISTED = 1.0
"""Score from which on a region is listed: what lies below is usual."""

KINDS: Mapping[Kind, str] = {
    "region": "a region of another class",
    "moved": "the mask lies off",
    "border": "a class too large or too small",
    "mask": "the mask of another image",
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
        score: the sum of those of `scores` that are above 0.
        flagged: whether the score reaches the threshold.
        kind: what it looks like most.
        reason: that in a sentence.
        scores: for each kind how unusual its evidence is among all images of the audit: 0 is the
            median, 1 a robust standard deviation of the logarithm above it, for `moved` and
            `border` five of them.
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
        calibrations: model -> `images` that were looked at, `temperature`, and the mean
            -log p(label) before and after, of those that were fitted to.
        notes: what a reader must know, one sentence each.
        images: those with a labelled pixel, ranked.
        void: names of images without one.
    """

    run: str
    out: str
    parts: dict[str, int]
    folds: int | None
    threshold: float
    calibrations: dict[str, dict[str, float]]
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

    def save(self, folder: Path) -> Path | None:
        """Write `audit.json` and `audit.csv`.

        Returns:
            Where an `audit.csv` of another content was moved to, as somebody may have edited it.

        Raises:
            UsageError: a file cannot be written.
        """
        file, text, kept = folder / "audit.csv", csv_text(self), None
        with explain_os_errors(file):
            if file.exists() and file.read_bytes() != text.encode():
                stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
                kept = file.rename(folder / f"audit-until-{stamp}.csv")
        write_json(folder / "audit.json", self.to_json())
        write_text(file, text)
        return kept


def require_ours(folder: Path) -> None:
    """Hold a folder against what an audit would write into it.

    Raises:
        UsageError: a file of that name is there, and no audit made it.
    """
    require_replaceable(
        folder / "audit.json",
        folder / "audit.html",
        maker="audit",
        ours=lambda found: "calibrations" in found,
    )


def audited(
    ranked: Sequence[Ranked],
    *,
    labels: LabelMap,
    run: str,
    out: str,
    folds: int | None,
    threshold: float,
    calibrations: Mapping[str, Calibration],
    notes: Sequence[str],
    void: Sequence[str],
) -> AuditResult:
    """The result that a ranking is."""
    parts: dict[str, int] = {}
    for one in ranked:
        parts[one.evidence.part] = parts.get(one.evidence.part, 0) + 1
    return AuditResult(
        run=run,
        out=out,
        parts=parts,
        folds=folds,
        threshold=threshold,
        calibrations={
            name: {
                "images": one.images,
                "temperature": one.temperature,
                "loss_before": one.loss_before,
                "loss_after": one.loss_after,
            }
            for name, one in calibrations.items()
        },
        notes=tuple(notes),
        images=tuple(
            _image(one, place, labels, threshold) for place, one in enumerate(ranked, start=1)
        ),
        void=tuple(void),
    )


def _image(one: Ranked, place: int, labels: LabelMap, threshold: float) -> AuditedImage:
    evidence = one.evidence
    flagged = one.score >= threshold
    regions = [
        _region(region, score, labels, threshold)
        for region, score in one.regions
        if score >= LISTED
    ]
    if one.kind in ("mask", "moved") and flagged:
        regions.insert(0, _whole(one))
    return AuditedImage(
        rank=place,
        part=evidence.part,
        name=evidence.name,
        score=one.score,
        flagged=flagged,
        kind=one.kind,
        reason=_reason(one, labels),
        scores=one.scores,
        disagreement=evidence.disagreement,
        height=evidence.height,
        width=evidence.width,
        regions=tuple(regions),
    )


def _region(region: FoundRegion, score: float, labels: LabelMap, threshold: float) -> AuditedRegion:
    return AuditedRegion(
        score=score,
        flagged=score >= threshold,
        kind="region",
        label=labels.names[region.label],
        prediction=labels.names[region.prediction],
        left=region.left,
        top=region.top,
        width=region.width,
        height=region.height,
        pixels=region.pixels,
        cell=region.cell,
        runs=region.runs,
    )


def _whole(one: Ranked) -> AuditedRegion:
    """All of a mask that lies off or belongs to another image: no region of it is right."""
    evidence = one.evidence
    return AuditedRegion(
        score=one.score,
        flagged=True,
        kind=one.kind,
        label="",
        prediction="",
        left=0,
        top=0,
        width=evidence.width,
        height=evidence.height,
        pixels=evidence.width * evidence.height,
        cell=1,
        runs="",
    )


def _reason(one: Ranked, labels: LabelMap) -> str:
    evidence = one.evidence
    if one.kind == "moved":
        moves = evidence.translation
        ways = [
            f"{abs(pixels)} pixels {words[pixels < 0]}"
            for pixels, words in ((moves.down, ("down", "up")), (moves.right, ("right", "left")))
            if pixels
        ]
        return f"The mask would fit better {' and '.join(ways) or 'elsewhere'}."
    if one.kind == "border" and one.step is not None:
        step = one.step
        way = "further out" if step.pixels > 0 else "further in"
        return (
            f"The border of {labels.names[step.label]} would fit better {abs(step.pixels)} pixels "
            f"{way}."
        )
    if one.like is not None:
        return (
            f"Of the label's classes {one.like.other:.0%} is what the model sees in "
            f"{one.like.name}, and {one.like.own:.0%} in this image: the masks may be mixed up."
        )
    if one.kind == "mask":
        return (
            f"The model is sure of another class in {evidence.contradicted:.0%} of what is "
            "labelled: the mask may be that of another image."
        )
    if not one.regions:
        return "Nothing is disputed."
    region, _ = one.regions[0]
    share = region.pixels / (evidence.height * evidence.width)
    return (
        f"The label says {labels.names[region.label]} where the model says "
        f"{labels.names[region.prediction]}: a region of {share:.1%} of the image."
    )


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
