"""Runs against each other: what differs in their settings, which is best, and how sure that is.

    OUT/comparison.json   the result
    OUT/comparison.html   the page

Everything is read from run folders. The best is chosen by validation, as the weights were; where
all runs have a test part, which chose nothing, the differences are told of that.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from truemask.analysis.comparison import (
    ComparedRun,
    Comparison,
    Difference,
    Group,
    Metric,
    Part,
)
from truemask.analysis.comparison_page import write_page
from truemask.analysis.differences import Samples, difference, judged_images, resampled_scores
from truemask.analysis.matching import training_facts
from truemask.analysis.quantities import part_evaluation
from truemask.analysis.run_settings import MOST_NAMED, REPEATS, differing, flat, short
from truemask.analysis.verdict import headline
from truemask.errors import UsageError
from truemask.files import make_dated_folder, make_folder, write_json
from truemask.metrics.bootstrap import FEWEST
from truemask.results import PartResult
from truemask.runs import Run, list_runs
from truemask.untrusted import read_object


@dataclass(frozen=True)
class _Entry:
    """A finished run; `varied` is what its sweep varied, `None` where it is of none."""

    run: Run
    results: Mapping[str, PartResult]
    varied: Mapping[str, Any] | None


def compare(
    paths: Sequence[Path], out: Path | None = None, *, notes: Sequence[str] = ()
) -> Comparison:
    """Hold runs against each other, and write the result and its page.

    Args:
        paths: runs, sweeps, or folders of runs.
        out: where to write; by default into the sweep, where that is all that is given, else into
            a new folder below `comparisons/`.
        notes: what the page is to say, in place of which runs have no results.

    Raises:
        UsageError: there is no finished run, or one is damaged.
    """
    entries, unfinished = _finished(paths)
    said = list(notes) or [f"{path} has no results yet, and is left out." for path in unfinished]
    settings = _settings(entries)
    metric, judged = _metric(entries), _judged(entries)
    runs = [
        _compared(entry, own, name, metric)
        for entry, own, name in zip(entries, settings, _names(entries, settings), strict=True)
    ]
    keys = list(dict.fromkeys(key for own in settings for key in own))
    samples, images = _samples(entries, judged, metric)
    groups = _ranked(_gathered(runs, keys), metric)
    groups = [
        groups[0],
        *(
            replace(group, difference=_difference(groups[0], group, runs, judged, metric, samples))
            for group in groups[1:]
        ),
    ]
    if images is None:
        said.append(
            f"The runs were judged on different {judged} images, or on other classes of them: "
            "what differs between their scores may lie in that."
        )
    out = make_folder(out or _default_folder(paths))
    comparison = Comparison(
        headline=headline(groups, metric, judged),
        metric=metric,
        chosen_by="validation",
        judged=judged,
        images=images,
        keys=keys,
        repeats=[key for key in keys if key in REPEATS],
        groups=groups,
        runs=runs,
        notes=said,
        page=str(out / "comparison.html"),
    )
    write_json(out / "comparison.json", comparison.to_json())
    write_page(comparison, path=out / "comparison.html")
    return comparison


def _finished(paths: Sequence[Path]) -> tuple[list[_Entry], list[Path]]:
    """The finished runs of all paths, each once, and the others."""
    entries: dict[Path, _Entry] = {}
    unfinished: list[Path] = []
    for path in paths:
        found = list(_found(path))
        if not found:
            raise UsageError(f"there is no run in {path}: give runs, or a sweep")
        for run, varied in found:
            if run.finished:
                entry = _Entry(run, run.results, varied)
                if "validation" not in entry.results:
                    raise UsageError(f"{run.path} has no validation results to be chosen by")
                entries[run.path.resolve()] = entry
            elif len(found) == 1:
                run.results  # noqa: B018 - it says how to finish it
            else:
                unfinished.append(run.path)
    if not entries:
        raise UsageError(f"no run in {', '.join(map(str, paths))} has results yet")
    return list(entries.values()), unfinished


def _found(path: Path) -> Iterator[tuple[Run, Mapping[str, Any] | None]]:
    """The runs of a path; of a sweep's job the newest, with the settings that it varied."""
    if not (path / "sweep.json").is_file():
        runs = list_runs(path)
        yield from ((run, None) for run in (runs[::-1] if runs else [Run.open(path)]))
        return
    folders = [folder for folder in path.glob("jobs/*") if folder.name.isdigit()]
    for folder in sorted(folders, key=lambda folder: int(folder.name)):
        newest = next(iter(list_runs(folder)), None)
        if newest is not None:
            varied = read_object(folder / "job.json").get("settings")
            yield newest, varied if isinstance(varied, Mapping) else {}


def _default_folder(paths: Sequence[Path]) -> Path:
    if len(paths) == 1 and (paths[0] / "sweep.json").is_file():
        return paths[0]
    return make_dated_folder(Path("comparisons"))


def _settings(entries: Sequence[_Entry]) -> list[dict[str, Any]]:
    """What differs: of a sweep's runs what it varied, not what each training settled by itself."""
    sweeps = [entry.varied for entry in entries if entry.varied is not None]
    if len(sweeps) == len(entries):
        return differing(sweeps)
    return differing([dict(flat(entry.run.config)) for entry in entries])


def _names(entries: Sequence[_Entry], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """What tells each run from the others: its settings, else its experiment, else its folder."""
    if 0 < len({key for own in settings for key in own}) <= MOST_NAMED:
        names = [short(own) for own in settings]
        if len(set(names)) == len(names):
            return names
    names = [str(entry.run.config.get("name") or "") for entry in entries]
    if len(set(names)) == len(names) and all(names):
        return names
    return ["/".join(entry.run.path.resolve().parts[-2:]) for entry in entries]


def _metric(entries: Sequence[_Entry]) -> Metric:
    """The loss where all runs were chosen by the same one, else the IoU."""
    configs = [entry.run.config for entry in entries]
    trainers = [config.get("trainer") for config in configs]
    monitors = {str(t.get("monitor")) if isinstance(t, Mapping) else "" for t in trainers}
    losses = {json.dumps(config.get("loss"), sort_keys=True, default=str) for config in configs}
    return "loss" if monitors == {"validation_loss"} and len(losses) == 1 else "iou"


def _judged(entries: Sequence[_Entry]) -> Part:
    return "test" if all("test" in entry.results for entry in entries) else "validation"


def _compared(entry: _Entry, settings: dict[str, Any], name: str, metric: Metric) -> ComparedRun:
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


def _samples(
    entries: Sequence[_Entry], part: Part, metric: Metric
) -> tuple[list[Samples] | None, int | None]:
    """Resampled scores of all runs where they are of the same images, and how many these are."""
    samples: list[Samples] = []
    judged: set[str] = set()
    images = 0
    for entry in entries:  # one at a time, as their counts may be large
        evaluation = part_evaluation(entry.run, part)
        if evaluation is None:
            return None, None
        images = len(evaluation.names)
        judged.add(judged_images(evaluation))
        if len(judged) > 1:
            return None, None
        samples.append(resampled_scores(evaluation, metric))
    return (samples if images >= FEWEST else None), images


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


def _difference(
    best: Group,
    other: Group,
    runs: Sequence[ComparedRun],
    part: Part,
    metric: Metric,
    samples: Sequence[Samples] | None,
) -> Difference | None:
    if best.means[part] is None or other.means[part] is None:
        return None

    def scores(group: Group) -> list[float]:
        found = (runs[place].scores[part] for place in group.runs)
        return [score for score in found if score is not None]

    pair = None
    if samples is not None:
        one, two = ([samples[place] for place in group.runs] for group in (best, other))
        pair = (one, two)
    return difference(scores(best), scores(other), metric=metric, samples=pair)
