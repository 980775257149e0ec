"""Where a group of runs is better than the best one: in which classes, subgroups and images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float64

from truemask.analysis.compare_images import JudgedImages, JudgedRun
from truemask.analysis.comparison import Details, Difference, Metric, Score
from truemask.analysis.differences import Doubt, difference, holm, no_difference

SUBGROUPS = range(2, 21)
"""How many distinct values an attribute may have to be told by value."""

Runs = Sequence[JudgedRun]
_Measure = Callable[[JudgedRun], Doubt | None]


def whole_difference(
    judged: JudgedImages, best: Runs, other: Runs, metric: Metric
) -> Difference | None:
    """The difference of the score of all images; `None` where a run has none."""
    if _same(best, other, metric):
        return no_difference()
    return _score(
        lambda run: judged.doubt(run, metric),
        best,
        other,
        images=len(judged.names),
        lower_is_better=metric == "loss",
    ).difference


def details(judged: JudgedImages, groups: Sequence[Runs], metric: Metric) -> list[Details]:
    """Where each of several groups is better than the first of them."""
    members = _subgroups(judged)
    return [
        Details(
            classes=_classes(judged, groups[0], group),
            subgroups={
                attribute: _by_value(judged, groups[0], group, values, metric)
                for attribute, values in members.items()
            },
        )
        for group in groups
    ]


def image_scores(
    judged: JudgedImages, groups: Sequence[Runs], metric: Metric
) -> tuple[list[str], Float64[np.ndarray, "G n"]]:
    """The images that have a score of their own in each group, and these scores."""
    with np.errstate(invalid="ignore"):
        scores = np.stack(
            [np.mean([judged.scores(run, metric) for run in group], axis=0) for group in groups]
        )
    known = ~np.isnan(scores).any(0)
    return [name for name, has in zip(judged.names, known, strict=True) if has], scores[:, known]


def _classes(judged: JudgedImages, best: Runs, group: Runs) -> dict[str, Score]:
    scores = {}
    for k, name in enumerate(judged.classes):
        occurs = np.zeros(len(judged.names), dtype=bool)
        for run in (*best, *group):
            occurs[run.places] |= run.counts.truth[:, k] + run.counts.predicted[:, k] > 0

        def measure(run: JudgedRun, k: int = k) -> Doubt | None:
            return judged.class_doubt(run, k)

        scores[name] = _score(measure, best, group, images=int(occurs.sum()))
    return _certain(scores)


def _by_value(
    judged: JudgedImages,
    best: Runs,
    group: Runs,
    values: Mapping[str, Bool[np.ndarray, " N"]],
    metric: Metric,
) -> dict[str, Score]:
    scores = {}
    for value, members in values.items():

        def measure(run: JudgedRun, members: Bool[np.ndarray, " N"] = members) -> Doubt | None:
            return judged.doubt(run.of(members), metric)

        scores[value] = _score(
            measure, best, group, images=int(members.sum()), lower_is_better=metric == "loss"
        )
    return _certain(scores)


def _score(
    measure: _Measure, best: Runs, group: Runs, *, images: int, lower_is_better: bool = False
) -> Score:
    """A group's mean, and its difference to the best group, where all runs have the score."""
    own = [found for run in group if (found := measure(run)) is not None]
    if len(own) < len(group):
        return Score(images=images, value=None, difference=None)
    value = float(np.mean([found.score for found in own]))
    if group is best:
        return Score(images=images, value=value, difference=None)
    others = [found for run in best if (found := measure(run)) is not None]
    if len(others) < len(best):
        return Score(images=images, value=value, difference=None)
    gap = difference(others, own, images=images, lower_is_better=lower_is_better)
    if gap.interval == (0.0, 0.0):  # no image changes one of them otherwise than the other
        gap = replace(gap, identical=True)
    return Score(images=images, value=value, difference=gap)


def _certain(scores: Mapping[str, Score]) -> dict[str, Score]:
    """The same, with what is certain of all of them together."""
    tested = holm([score.difference for score in scores.values()])
    return {
        name: Score(images=score.images, value=score.value, difference=gap)
        for (name, score), gap in zip(scores.items(), tested, strict=True)
    }


def _same(best: Runs, other: Runs, metric: Metric) -> bool:
    """Whether two groups have the very same counts, and losses where these judge."""
    return len(best) == len(other) and all(
        one.equals(two, losses=metric == "loss") for one, two in zip(best, other, strict=True)
    )


def _subgroups(judged: JudgedImages) -> dict[str, dict[str, Bool[np.ndarray, " N"]]]:
    """Attribute -> value -> which images have it, for attributes that make a few groups of them."""
    found: dict[str, dict[str, Bool[np.ndarray, " N"]]] = {}
    for i, attributes in enumerate(judged.attributes):
        for attribute, value in attributes.items():
            members = found.setdefault(attribute, {})
            if value not in members:
                if len(members) >= SUBGROUPS.stop:
                    continue
                members[value] = np.zeros(len(judged.names), dtype=bool)
            members[value][i] = True
    return {
        attribute: dict(sorted(values.items()))
        for attribute, values in sorted(found.items())
        if len(values) in SUBGROUPS
    }
