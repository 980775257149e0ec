"""The images that runs were judged on, held against each other by name.

Runs need not have been judged on the very same images: what an image does to a run's score is known
of each run by itself (`differences.Doubt`), so that the images two runs share are paired, and the
others count as further images of the same kind. Only runs with other classes cannot be compared.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64

from truemask.analysis.comparison import Metric, Part
from truemask.analysis.differences import Doubt, doubt, mean_doubt
from truemask.analysis.quantities import part_evaluation
from truemask.errors import counted
from truemask.metrics.confusion import Margins, headline, iou, margins
from truemask.per_image import Evaluation
from truemask.runs import Run

_SAME_TRUTH = 1e-3
"""Share of an image's true pixels that may differ: masks that are generated differ by rounding."""


@dataclass(frozen=True, kw_only=True, eq=False)
class JudgedRun:
    """What a run made of its images.

    Attributes:
        places: of its n images among those of all runs, increasing.
        counts: [n, K] each.
        losses: of each image; NaN where it is not known.
    """

    places: Int64[np.ndarray, " n"]
    counts: Margins
    losses: Float64[np.ndarray, " n"]

    def of(self, chosen: Bool[np.ndarray, " N"]) -> "JudgedRun":
        """The same of some of all images."""
        mine = chosen[self.places]
        return JudgedRun(
            places=self.places[mine],
            counts=Margins(*(part[mine] for part in self.counts)),
            losses=self.losses[mine],
        )

    def equals(self, other: "JudgedRun", *, losses: bool) -> bool:
        """Whether both have the same counts on the same images, and the same losses if asked."""
        mine, its = (self.places, *self.counts), (other.places, *other.counts)
        return all(map(np.array_equal, mine, its)) and (
            not losses or np.array_equal(self.losses, other.losses)
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class JudgedImages:
    """The images of all runs, in the order of their names.

    Attributes:
        names: N of them.
        classes: K.
        attributes: of each image what is known of it.
        runs: in their order.
        common: how many images all runs share.
        other_truth: how many have another truth in some run.
    """

    names: Sequence[str]
    classes: Sequence[str]
    attributes: Sequence[Mapping[str, str]]
    runs: Sequence[JudgedRun]
    common: int
    other_truth: int

    def doubt(self, run: JudgedRun, metric: Metric) -> Doubt | None:
        """The doubt of a run's score of all of its images, or of some (`JudgedRun.of`)."""
        if len(run.places) == 0:
            return None
        if metric == "loss":
            return mean_doubt(run.losses, places=run.places, images=len(self.names))
        return doubt(
            run.counts,
            lambda counts: headline(iou(counts)),
            places=run.places,
            images=len(self.names),
        )

    def class_doubt(self, run: JudgedRun, k: int) -> Doubt | None:
        """The same of the IoU of one class."""
        return doubt(
            Margins(*(part[:, [k]] for part in run.counts)),
            lambda counts: iou(counts)[..., 0],
            places=run.places,
            images=len(self.names),
        )

    def scores(self, run: JudgedRun, metric: Metric) -> Float64[np.ndarray, " N"]:
        """Each image's own score; NaN where it has none."""
        scores = np.full(len(self.names), np.nan)
        scores[run.places] = run.losses if metric == "loss" else headline(iou(run.counts))
        return scores


def judged_images(runs: Sequence[Run], part: Part) -> tuple[JudgedImages | None, list[str]]:
    """The images that runs were judged on, and what a reader must know of them.

    Args:
        runs: finished, all with that part.
        part: the part.

    Returns:
        `None` where the runs cannot be held against each other, and sentences that say why.

    Raises:
        UsageError: a run is damaged.
    """
    found: list[_Counted] = []
    renamed: list[str] = []
    for run in runs:
        evaluation = part_evaluation(run, part)
        if evaluation is None or not _belongs(evaluation, run, part):
            what = "lacks" if evaluation is None else "has other scores than"
            return None, [
                f"{run.path} {what} the counts of its {part} images, so that no interval is known: "
                f"evaluate it again (truemask evaluate {run.path} --split {part})."
            ]
        found.append(_Counted.of(evaluation))
        if _is_renamed(found[0], found[-1]):
            renamed.append(str(run.path))
            found[-1] = replace(found[-1], names=found[0].names)
        if found[-1].classes != found[0].classes:
            return None, [
                f"{run.path} tells other classes apart ({_listed(found[-1].classes)}) than "
                f"{runs[0].path} ({_listed(found[0].classes)}): their scores cannot be compared."
            ]
    judged = _aligned(found)
    notes = _notes(judged, part)
    if renamed:
        notes.append(
            f"The {part} images of {', '.join(renamed)} have other names than those of "
            f"{runs[0].path}, as where the data lies in another folder, but the very same true "
            "pixels one by one: they are taken for the same images."
        )
    return judged, notes


@dataclass(frozen=True, eq=False)
class _Counted:
    """What is kept of an evaluation: K numbers an image in place of K x K."""

    names: Sequence[str]
    classes: Sequence[str]
    attributes: Sequence[Mapping[str, str]]
    counts: Margins
    losses: Float64[np.ndarray, " n"]

    @classmethod
    def of(cls, evaluation: Evaluation) -> "_Counted":
        hits, truth, predicted = margins(evaluation.matrices)
        return cls(
            names=evaluation.names,
            classes=evaluation.labels.names,
            attributes=evaluation.attributes,
            counts=Margins(hits.copy(), truth, predicted),  # a view would keep the matrices
            losses=evaluation.losses,
        )


def _belongs(evaluation: Evaluation, run: Run, part: Part) -> bool:
    """Whether the counts give the score that the run's results state."""
    result = run.results[part]
    score = float(headline(iou(evaluation.matrices.sum(0))))
    stated = math.nan if result.iou is None else result.iou
    same = math.isclose(score, stated, rel_tol=0, abs_tol=1e-9)
    return (same or (math.isnan(score) and math.isnan(stated))) and (
        result.images == len(evaluation.names)
    )


def _is_renamed(one: _Counted, other: _Counted) -> bool:
    """Whether no name is the same, but in their order all images have the same true pixels."""
    return (
        one.counts.truth.shape == other.counts.truth.shape
        and not set(one.names) & set(other.names)
        and np.array_equal(one.counts.truth, other.counts.truth)
    )


def _aligned(found: Sequence[_Counted]) -> JudgedImages:
    names = sorted(set().union(*(one.names for one in found)))
    place = {name: i for i, name in enumerate(names)}
    attributes: list[Mapping[str, str]] = [{} for _ in names]
    truth = np.full((len(names), len(found[0].classes)), -1, dtype=np.int64)
    times = np.zeros(len(names), dtype=np.int64)
    other = np.zeros(len(names), dtype=bool)
    runs = []
    for one in found:
        places = np.array([place[name] for name in one.names], dtype=np.int64)
        times[places] += 1
        own = one.counts.truth
        known = truth[places, 0] >= 0
        off = np.abs(own - truth[places]).sum(1) > _SAME_TRUTH * own.sum(1)
        other[places] |= known & off
        truth[places[~known]] = own[~known]
        for i, item in zip(places, one.attributes, strict=True):
            attributes[i] = attributes[i] or item
        runs.append(JudgedRun(places=places, counts=one.counts, losses=one.losses))
    return JudgedImages(
        names=names,
        classes=found[0].classes,
        attributes=attributes,
        runs=runs,
        common=int((times == len(found)).sum()),
        other_truth=int(other.sum()),
    )


def _notes(judged: JudgedImages, part: Part) -> list[str]:
    notes = []
    total = len(judged.names)
    if judged.common < total:
        notes.append(
            f"The runs were judged on different {part} images: {judged.common} of {total} are "
            "common to all. Common ones are held against each other one by one; the others count "
            "as further images of the same kind, so that intervals are wider."
        )
    if judged.other_truth:
        notes.append(
            f"{counted(judged.other_truth, f'{part} image')} of the same name "
            f"{'has' if judged.other_truth == 1 else 'have'} other true pixels in some runs, as "
            "where masks are resized (data.evaluation_size), relabelled or changed: what "
            "differs between the scores may lie in that."
        )
    return notes


def _listed(classes: Sequence[str]) -> str:
    return f"{len(classes)}: {', '.join(classes[:6])}{', ...' if len(classes) > 6 else ''}"
