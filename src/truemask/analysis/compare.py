"""Runs against each other: what differs in their settings, which is best, where, and how sure.

    OUT/comparison.json   the result
    OUT/comparison.html   the page

Everything is read from run folders. The best is chosen by validation, as the weights were; where
all runs have a test part, which chose nothing, the differences are told of that.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from truemask.analysis.compare_images import JudgedImages, judged_images
from truemask.analysis.compare_runs import Entry, finished, names_of, settings_of
from truemask.analysis.compare_samples import Pictures, choose, predict_chosen
from truemask.analysis.compare_where import Runs, details, image_scores, whole_difference
from truemask.analysis.comparison import (
    Chosen,
    ComparedRun,
    Comparison,
    Difference,
    Group,
    Images,
    Metric,
    Part,
)
from truemask.analysis.comparison_page import write_page
from truemask.analysis.differences import holm, no_difference, seeds_difference
from truemask.analysis.matching import training_facts
from truemask.analysis.run_settings import MOST_NAMED, REPEATS, short
from truemask.analysis.verdict import headline
from truemask.files import make_dated_folder, make_folder, require_replaceable, write_json

RESULT = "comparison.json"
PAGE = "comparison.html"

DETAILED = 6
"""Groups of which it is told in which classes, subgroups and images they are better."""


def compare(
    paths: Sequence[Path],
    out: Path | None = None,
    *,
    notes: Sequence[str] = (),
    pictures: int = 6,
    console: Console | None = None,
) -> Comparison:
    """Hold runs against each other, and write the result and its page.

    Args:
        paths: runs, sweeps, or folders of runs.
        out: where to write; by default into the sweep, where that is all that is given, else into
            a new folder below `comparisons/`.
        notes: what the page is to say, in place of which runs have no results.
        pictures: how many images of each kind are shown, those on which the best gains most over
            the second and those on which it loses most; 0 makes no prediction.
        console: where progress is shown.

    Raises:
        UsageError: there is no finished run, or one is damaged.
    """
    entries, unfinished = finished(paths)
    said = list(notes) or [f"{path} has no results yet, and is left out." for path in unfinished]
    settings = settings_of(entries)
    metric, part = _metric(entries), _judged(entries)
    runs = [
        _compared(entry, own, name, metric)
        for entry, own, name in zip(entries, settings, names_of(entries, settings), strict=True)
    ]
    keys = list(dict.fromkeys(key for own in settings for key in own))
    groups = _ranked(_gathered(runs, keys), metric)
    judged, more = judged_images([entry.run for entry in entries], part)
    said += more
    classes = {tuple(entry.results[part].iou_per_class) for entry in entries}
    groups = _with_differences(groups, runs, judged, metric, part, comparable=len(classes) == 1)
    images, chosen, shown = None, list[Chosen](), Pictures()
    if judged is not None:
        groups, images, chosen = _with_details(groups, judged, metric, pictures)
        places = [group.runs[0] for group in groups if group.details is not None]
        chosen, shown = predict_chosen(
            chosen,
            [(place, entries[place].run) for place in places],
            judged,
            part,
            console=console or Console(quiet=True),
        )
    out = make_folder(out or _default_folder(paths))
    comparison = Comparison(
        headline=headline(groups, metric, part, images, why=more[0] if judged is None else ""),
        metric=metric,
        chosen_by="validation",
        judged=part,
        images=images,
        keys=keys,
        repeats=[key for key in keys if key in REPEATS],
        groups=groups,
        runs=runs,
        chosen=chosen,
        notes=said,
        picture_notes=shown.notes,
        page=str(out / PAGE),
    )
    write_json(out / RESULT, comparison.to_json())
    write_page(comparison, shown, path=out / PAGE)
    return comparison


def require_ours(out: Path) -> None:
    """Hold a folder against what a comparison would write into it.

    Raises:
        UsageError: a file of that name is there, and no comparison made it.
    """
    require_replaceable(
        out / RESULT, out / PAGE, maker="comparison", ours=lambda found: "runs" in found
    )


def _default_folder(paths: Sequence[Path]) -> Path:
    if len(paths) == 1 and (paths[0] / "sweep.json").is_file():
        return paths[0]
    return make_dated_folder(Path("comparisons"))


def _metric(entries: Sequence[Entry]) -> Metric:
    """The loss where all runs were chosen by the same one, else the IoU."""
    configs = [entry.run.config for entry in entries]
    trainers = [config.get("trainer") for config in configs]
    monitors = {str(t.get("monitor")) if isinstance(t, Mapping) else "" for t in trainers}
    losses = {json.dumps(config.get("loss"), sort_keys=True, default=str) for config in configs}
    return "loss" if monitors == {"validation_loss"} and len(losses) == 1 else "iou"


def _judged(entries: Sequence[Entry]) -> Part:
    return "test" if all("test" in entry.results for entry in entries) else "validation"


def _compared(entry: Entry, settings: dict[str, Any], name: str, metric: Metric) -> ComparedRun:
    facts = training_facts(entry.run)
    epochs, seconds, stopped = (facts.get(key) for key in ("epochs", "seconds", "stopped"))
    return ComparedRun(
        name=name,
        run=str(entry.run.path),
        settings=settings,
        scores={part: getattr(result, metric) for part, result in entry.results.items()},
        intervals={
            part: result.intervals[metric]
            for part, result in entry.results.items()
            if metric in result.intervals
        },
        epochs=epochs if isinstance(epochs, int) else None,
        seconds=float(seconds) if isinstance(seconds, int | float) else None,
        stopped=stopped if isinstance(stopped, str) else None,
    )


def _gathered(runs: Sequence[ComparedRun], keys: Sequence[str]) -> list[Group]:
    """Runs that differ in `REPEATS` only are one group."""
    places: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        own = {key: value for key, value in run.settings.items() if key not in REPEATS}
        # Without a setting that differs, what differs is not known: each stands for itself.
        text = json.dumps(own, sort_keys=True, default=str) if keys else str(place)
        places.setdefault(text, []).append(place)
    several = any(len(members) > 1 for members in places.values())
    return [_group([runs[i] for i in members], members, several) for members in places.values()]


def _group(runs: Sequence[ComparedRun], places: list[int], several: bool) -> Group:
    own = {key: value for key, value in runs[0].settings.items() if key not in REPEATS}
    name = runs[0].name
    if several and len(own) <= MOST_NAMED:
        name = short(own) if own else "all runs"
    elif len(runs) > 1:
        name = f"{name} and {len(runs) - 1} like it"
    means: dict[str, float | None] = {}
    deviations: dict[str, float | None] = {}
    for part in runs[0].scores:
        scores = [run.scores.get(part) for run in runs]
        known = [score for score in scores if score is not None]
        whole = len(known) == len(runs)
        means[part] = float(np.mean(known)) if whole else None
        deviations[part] = float(np.std(known, ddof=1)) if whole and len(known) > 1 else None
    return Group(
        name=name, settings=own, runs=places, means=means, deviations=deviations, difference=None
    )


def _ranked(groups: Sequence[Group], metric: Metric) -> list[Group]:
    """The best on validation first; those without a score last."""

    def rank(group: Group) -> tuple[bool, float]:
        mean = group.means["validation"]
        return mean is None, 0.0 if mean is None else (mean if metric == "loss" else -mean)

    return sorted(groups, key=rank)


def _with_differences(
    groups: Sequence[Group],
    runs: Sequence[ComparedRun],
    judged: JudgedImages | None,
    metric: Metric,
    part: Part,
    *,
    comparable: bool,
) -> list[Group]:
    """How much each group is better than the first, and which of that is certain of all."""
    best, *others = groups
    gaps = [_difference(best, group, runs, judged, metric, part) for group in others]
    if judged is None and not comparable:
        gaps = [gap and Difference(value=gap.value, interval=None) for gap in gaps]
    return [
        best,
        *(replace(group, difference=gap) for group, gap in zip(others, holm(gaps), strict=True)),
    ]


def _difference(
    best: Group,
    other: Group,
    runs: Sequence[ComparedRun],
    judged: JudgedImages | None,
    metric: Metric,
    part: Part,
) -> Difference | None:
    if [runs[i].run for i in best.runs] == [runs[i].run for i in other.runs]:
        return no_difference()
    if judged is not None:
        return whole_difference(judged, _members(judged, best), _members(judged, other), metric)
    scores = [
        [score for i in group.runs if (score := runs[i].scores.get(part)) is not None]
        for group in (best, other)
    ]
    if len(scores[0]) < len(best.runs) or len(scores[1]) < len(other.runs):
        return None
    return seeds_difference(*scores, lower_is_better=metric == "loss")


def _members(judged: JudgedImages, group: Group) -> Runs:
    return [judged.runs[place] for place in group.runs]


def _with_details(
    groups: Sequence[Group], judged: JudgedImages, metric: Metric, most: int
) -> tuple[list[Group], Images, list[Chosen]]:
    """Where the first groups are better, their scores of each image, and images to look at."""
    first = groups[:DETAILED]
    members = [_members(judged, group) for group in first]
    found = details(judged, members, metric)
    names, scores = image_scores(judged, members, metric)
    images = Images(
        total=len(judged.names),
        common=judged.common,
        other_truth=judged.other_truth,
        names=names,
        scores=[[round(float(score), 6) for score in row] for row in scores],
    )
    detailed = [replace(group, details=own) for group, own in zip(first, found, strict=True)]
    chosen = choose(names, scores, metric, most=most)
    return [*detailed, *groups[DETAILED:]], images, chosen
