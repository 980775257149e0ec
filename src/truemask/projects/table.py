"""The table of a project: each published number beside those of the runs."""

from collections.abc import Iterator, Mapping, Sequence

from truemask.analysis.matching import training_facts, training_images
from truemask.analysis.quantities import read_quantity
from truemask.errors import UsageError
from truemask.projects.project import Project, Trial
from truemask.projects.reproduction import Cell, Row, TrialReport
from truemask.projects.trials import Carried
from truemask.runs import Run

_NEAR = 0.05
"""Share by which the number of training images may differ from the published one."""

_HARMLESS = (
    "seed=",
    "data.num_workers=",
    "data.cache=",
    "data.cache_folder=",
    "trainer.accelerator=",
)
"""Overrides after which a number may still be held against a published one."""


def doubt(trial: Trial, run: Run, *, miniature: bool, overrides: Sequence[str]) -> str:
    """Why the numbers of a run cannot be held against published ones; empty where they can."""
    if miniature:
        return "miniature"
    changed = [word for word in overrides if not word.lstrip("+").startswith(_HARMLESS)]
    if changed:
        return "changed settings"
    if trial.images is None:
        return ""
    images = training_images(run)
    if images is None:
        return "unknown data"
    return "" if abs(images / trial.images - 1) <= _NEAR else f"{images} training images"


def make_rows(
    project: Project, carried: Mapping[str, Carried], *, doubts: Mapping[str, str]
) -> list[Row]:
    """The rows: each trial with published settings, then the corrected that stand alone."""
    rows: list[Row] = []
    for trial in project.trials:
        if trial.column == "published":
            corrected = next((other for other in project.trials if other.of == trial.name), None)
            names = dict.fromkeys((*trial.quantities, *(corrected.also if corrected else ())))
            rows += _rows(trial, corrected, list(names), carried, doubts)
        elif trial.of is None:
            rows += _rows(trial, None, list(trial.quantities), carried, doubts)
    return rows


def _rows(
    trial: Trial,
    corrected: Trial | None,
    names: Sequence[str],
    carried: Mapping[str, Carried],
    doubts: Mapping[str, str],
) -> Iterator[Row]:
    notes = (trial.note, "" if corrected is None else corrected.note)
    for name in names:
        own = _cell(trial, name, carried, doubts)
        other = None if corrected is None else _cell(corrected, name, carried, doubts)
        alone = trial.column == "corrected"
        yield Row(
            trial=trial.name,
            title=trial.title,
            quantity=name,
            published=trial.published.get(name),
            same=None if alone else own,
            corrected=own if alone else other,
            bar=trial.bars.get(name),
            note=" ".join(note for note in notes if note),
        )


def _cell(
    trial: Trial, name: str, carried: Mapping[str, Carried], doubts: Mapping[str, str]
) -> Cell | None:
    found = carried.get(trial.name)
    if found is None or found.run is None:
        return None
    quantity = read_quantity(found.run, name)
    if quantity is None:
        return None
    return Cell(
        value=quantity.value,
        interval=quantity.interval,
        trial=trial.name,
        doubt=doubts.get(trial.name, ""),
    )


def report_trial(carried: Carried, *, doubt: str) -> TrialReport:
    """What became of a trial, with what its run says of itself."""
    trial, run = carried.trial, carried.run
    facts = {} if run is None else training_facts(run)
    seconds, device = facts.get("seconds"), None
    if run is not None:
        try:
            device = run.environment.get("device")
        except UsageError:
            device = None
    return TrialReport(
        name=trial.name,
        title=trial.title,
        experiment=" ".join((f"experiment={trial.experiment}", *trial.overrides)),
        column=trial.column,
        status=carried.status,
        run=None if run is None else str(run.path),
        doubt=doubt,
        images=None if run is None else training_images(run),
        seconds=float(seconds) if isinstance(seconds, int | float) else None,
        device=None if device is None else str(device),
    )
