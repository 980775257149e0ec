"""The page of an audit: a gallery to flip through, the scores, and the commands to go on with."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from truemask.analysis.audit_pictures import AuditPicture, pale, tinted
from truemask.analysis.audit_result import KINDS, AuditedImage, AuditedRegion, AuditResult
from truemask.analysis.charts import Chart, Line, lines_chart
from truemask.data.marked import places
from truemask.data.marks import RegionMark, read_runs
from truemask.errors import counted
from truemask.files import write_text
from truemask.labels import LabelMap
from truemask.report import pictures
from truemask.report.gallery import GalleryItem, gallery_content
from truemask.report.pages import render_page
from truemask.report.pictures import QUALITIES, WRONG, Quality
from truemask.runs import Run

MOST = 5000
"""Images of the gallery; those after them are far from any threshold, and stand in the CSV."""

_ROOM = (60, 150, 400, 1000, 2000)
"""Up to so many images have pictures of the best quality, of the second, and so on."""

_QUALITIES = (*QUALITIES, Quality(96, 35))
_GREY = (90, 90, 90)


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """Flagged regions of one label and one prediction."""

    label: str
    prediction: str
    regions: int
    images: int
    pixels: int


def write_page(
    result: AuditResult,
    taken: Mapping[tuple[str, str], AuditPicture],
    *,
    labels: LabelMap,
    path: Path,
) -> None:
    """Render the audit.

    Args:
        result: the audit.
        taken: (part, name) -> pictures.
        labels: the classes, with their colours.
        path: the page.

    Raises:
        UsageError: the page cannot be written.
    """
    shown = [image for image in result.images if (image.part, image.name) in taken][:MOST]
    quality = _QUALITIES[sum(len(shown) > room for room in _ROOM)]
    items = [_item(image, taken[image.part, image.name], labels, quality) for image in shown]
    context = {
        "result": result,
        "labels": labels,
        "headline": _headline(result),
        "lead": _lead(result),
        "notes": result.notes,
        "content": gallery_content(items),
        "left": len(result.images) - len(shown),
        "drawn": _drawn(result),
        "scores_text": _SCORES.format(threshold=result.threshold),
        "pairs": _pairs(result),
        "commands": commands(result),
    }
    write_text(path, render_page("audit.html", context))


_SCORES = (
    "Every image by its rank. A score is how far the evidence against the label lies above the "
    "median of all images, in robust standard deviations of its logarithm; from {threshold:g} on "
    "an image is flagged. A curve that falls steeply at first and is flat then means that what "
    "comes first stands out."
)


def commands(result: AuditResult) -> list[str]:
    """How to train without what is flagged, and by the same plan, so that nothing else differs."""
    file = shlex.quote(str(Path(result.out) / "audit.csv"))
    plan = Run(Path(result.run)).plan_path
    same = (
        f"SAME_ARGUMENTS experiment={shlex.quote(str(plan))}"
        if plan.is_file()
        else "SAME_ARGUMENTS"
    )
    return [
        f"truemask train {same} data.exclude={file}",
        f"truemask train {same} data.ignore_regions={file}",
    ]


def _headline(result: AuditResult) -> str:
    flagged, every = len(result.flagged), len(result.images)
    if every == 0:
        return "No labels to audit"
    verb = "is" if flagged == 1 else "are"
    if flagged == 0:
        return f"None of {counted(every, 'label')} stands out"
    return f"{flagged:,} of {counted(every, 'label')} {verb} probably wrong somewhere"


def _lead(result: AuditResult) -> str:
    parts = ", ".join(f"{count:,} {name}" for name, count in result.parts.items())
    judged = f"Audited: {parts}."
    kinds = [
        f"{len(found):,} × {text}"
        for kind, text in KINDS.items()
        if (found := [image for image in result.flagged if image.kind == kind])
    ]
    return f"{judged} Flagged: {'; '.join(kinds)}." if kinds else judged


def _item(
    image: AuditedImage, taken: AuditPicture, labels: LabelMap, quality: Quality
) -> GalleryItem:
    layers = (
        ("Disputed", pictures.photo(disputed(image, taken, labels.ignore_index), quality)),
        ("Image", pictures.photo(taken.image, quality)),
        ("Label", pictures.mask(taken.label, labels, quality)),
        ("Prediction", pictures.mask(taken.prediction, labels, quality)),
    )
    return GalleryItem(
        name=image.name,
        pictures=layers,
        facts={
            "score": round(image.score, 2),
            "rank": image.rank,
            "disagreement": round(image.disagreement, 4),
            "part": image.part,
            "suspicion": KINDS[image.kind],
            "flagged": "yes" if image.flagged else "no",
        },
        note=image.reason,
    )


def disputed(image: AuditedImage, taken: AuditPicture, ignored: int) -> UInt8[np.ndarray, "h w 3"]:
    """The pale image: grey where label and model disagree, orange where that is flagged."""
    differs = (taken.label != taken.prediction) & (taken.label != ignored)
    drawn = tinted(pale(taken.image), differs, _GREY, strength=0.35)
    height, width = differs.shape
    for region in image.regions:
        if region.flagged and region.label:
            inside = np.zeros_like(differs)
            inside[places(_mark(region, image), height, width)] = True
            drawn = tinted(drawn, inside, WRONG, strength=0.6)
    return drawn


def _mark(region: AuditedRegion, image: AuditedImage) -> RegionMark:
    return RegionMark(
        part=image.part,
        name=image.name,
        size=(image.height, image.width),
        top=region.top,
        left=region.left,
        height=region.height,
        width=region.width,
        cell=region.cell,
        runs=read_runs(region.runs),
    )


def _pairs(result: AuditResult) -> Sequence[_Pair]:
    found: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for image in result.images:
        for region in image.regions:
            if region.flagged and region.label:
                found.setdefault((region.label, region.prediction), []).append(
                    (image.name, region.pixels)
                )
    pairs = [
        _Pair(
            label=label,
            prediction=prediction,
            regions=len(members),
            images=len({name for name, _ in members}),
            pixels=sum(pixels for _, pixels in members),
        )
        for (label, prediction), members in found.items()
    ]
    return sorted(pairs, key=lambda pair: (-pair.regions, -pair.pixels, pair.label))


def _drawn(result: AuditResult) -> Chart | None:
    if len(result.images) < 2:
        return None
    points = [(float(image.rank), image.score) for image in result.images]
    # A thousand points draw the same curve as ten thousand.
    step = max(1, len(points) // 1000)
    kept = points[:200] + points[200::step]
    ends = (points[0][0], points[-1][0])
    return lines_chart(
        [
            Line(name="images", points=kept),
            Line(name="threshold", points=[(x, result.threshold) for x in ends], dashes=":"),
        ],
        x="rank",
        y="score",
        said="Scores by rank",
    )
