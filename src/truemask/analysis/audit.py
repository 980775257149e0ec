"""Labels that are probably wrong: out-of-sample predictions held against them, ranked.

Two passes over what is audited: over some images to calibrate the model, and over all for the
evidence. What is kept of an image is small, so that any number of any size fits into memory.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from truemask.analysis.audit_calibration import Calibration, Drawn, class_logits, draw, fit
from truemask.analysis.audit_folds import train_folds
from truemask.analysis.audit_image import Evidence, assess
from truemask.analysis.audit_pictures import AuditPicture, side, take
from truemask.analysis.audit_ranking import rank
from truemask.analysis.audit_result import AuditResult, audited
from truemask.data.randomness import epoch_order
from truemask.data.views import View
from truemask.datasets.sample import SegmentationDataset
from truemask.errors import UsageError, counted
from truemask.evaluation import Observer, Seen
from truemask.files import make_folder
from truemask.labels import LabelMap
from truemask.runs import Run
from truemask.training.testing import OpenedRun, open_run

CALIBRATING = 150
"""Images to which a model's calibration is fitted, at most."""


@dataclass(frozen=True, kw_only=True)
class _Source:
    """Images that are audited together: by one model, which was not trained on them.

    Attributes:
        title: what is shown and stated of the calibration.
        opened: the model and its data.
        parts: part -> images.
    """

    title: str
    opened: OpenedRun
    parts: Mapping[str, SegmentationDataset]


@dataclass
class Audited:
    """A finished audit, with what its page shows besides.

    Attributes:
        result: the result.
        labels: the classes.
        pictures: (part, name) -> small copies.
    """

    result: AuditResult
    labels: LabelMap
    pictures: dict[tuple[str, str], AuditPicture]


def audit(
    run: Run,
    *,
    config: Mapping[str, Any],
    other_data: bool = False,
    out: Path,
    split: str | None,
    folds: int | None,
    threshold: float,
    allow: Mapping[str, Any],
    console: Console,
) -> Audited:
    """Audit the labels of a run's data.

    Args:
        run: the run.
        config: its configuration, with changes.
        other_data: whether these name other data than the run's.
        out: the audit's folder.
        split: the one part to audit; `None` for all that the weights were not trained on, and with
            `folds` the training part too.
        folds: models to train for the training part.
        threshold: from which score on images and regions are flagged.
        allow: by dotted name, what the run may be built of besides the package's own.
        console: where progress and notes are shown.

    Raises:
        UsageError: the run, its data or an option cannot be used.
        JobFailed: the training of a fold was stopped.
    """
    opened = open_run(run, config=config, other_data=other_data, allow=allow, console=console)
    wanted = _wanted(opened, split, folds)
    make_folder(out)
    notes = [] if opened.unfinished is None else [opened.unfinished]
    sources: list[_Source] = []
    judged = {part: opened.parts[part] for part in wanted if part != "train"}
    if judged:
        sources.append(_Source(title="the run's weights", opened=opened, parts=judged))
    if other_data:
        root = config["data"]["dataset"].get("root", "other data")
        notes.append(f"These are images of {root}, not of the run's own data.")
    elif "validation" in judged:
        notes.append(
            "The run's weights were not trained on the validation part, but its labels chose the "
            "best epoch."
        )
    if folds is not None:
        sources += _folded(opened, folds, out, allow, console)
    elif "train" in wanted:
        raise UsageError(
            "the run's weights learned the training part, its errors too: give --folds 5, which "
            "trains 5 models that have not seen what they judge"
        )
    evidence: list[Evidence] = []
    void: list[str] = []
    pictures: dict[tuple[str, str], AuditPicture] = {}
    calibrations: dict[str, Calibration] = {}
    longest = side(sum(len(data) for source in sources for data in source.parts.values()))
    for source in sources:
        calibrations[source.title] = _calibrate(source, console)
        for part, data in source.parts.items():

            def keep(seen: Seen, part: str = part, data: SegmentationDataset = data) -> None:
                pictures[part, seen.sample.name] = take(seen, data.images, longest=longest)

            found, empty = _look(source, part, data, calibrations[source.title], keep, console)
            evidence += found
            void += empty
    if void:
        notes.append(
            f"{counted(len(void), 'image')} without a labelled pixel "
            f"{'was' if len(void) == 1 else 'were'} passed over."
        )
    ranked = rank(evidence)
    result = audited(
        ranked,
        labels=opened.bundle.labels,
        run=str(run.path),
        out=str(out),
        folds=folds,
        threshold=threshold,
        calibrations=calibrations,
        notes=notes,
        void=void,
    )
    return Audited(result, opened.bundle.labels, pictures)


def _wanted(opened: OpenedRun, split: str | None, folds: int | None) -> list[str]:
    """The parts to audit."""
    if any(getattr(part, "endless", False) for part in opened.parts.values()):
        raise UsageError("this run's samples are generated: nobody labelled them")
    if split is not None:
        part = opened.part(split)
        if folds is not None and part != "train":
            raise UsageError(f"--folds is for the training part, but --split is {part}")
        return [part]
    held = [part for part in ("validation", "test") if part in opened.parts]
    return [*held, "train"] if folds is not None else held


def _folded(
    opened: OpenedRun,
    folds: int,
    out: Path,
    allow: Mapping[str, Any],
    console: Console,
) -> list[_Source]:
    """Each fold of the training part, with the model that has not seen it."""
    train = opened.parts["train"]
    pool = View.of([train])
    place = {name: index for index, name in enumerate(pool.names)}
    sources = []
    trained = train_folds(opened.run, train, folds=folds, out=out, allow=allow, console=console)
    for fold in trained:
        # Its own data may be parted otherwise: what is judged are the labels of the run's.
        model = open_run(fold.run, config=fold.run.config, allow=allow, console=console)
        _require_unseen(model, fold.names)
        chosen = pool.take(place[name] for name in fold.names)
        sources.append(_Source(title=f"fold {fold.number}", opened=model, parts={"train": chosen}))
    return sources


def _require_unseen(model: OpenedRun, names: Collection[str]) -> None:
    seen = {name for part in ("train", "validation") for name in model.parts[part].names}
    assert not seen.intersection(names), "a fold's model has seen what it is to judge"


def _calibrate(source: _Source, console: Console) -> Calibration:
    """Fitted to some images of all its parts."""
    pool = [(part, index) for part, data in source.parts.items() for index in range(len(data))]
    order = epoch_order(len(pool), seed=0, epoch=0)[:CALIBRATING]
    ignored = source.opened.bundle.labels.ignore_index
    drawn: list[Drawn] = []

    def observe(seen: Seen) -> None:
        logits = class_logits(seen.logits, source.opened.bundle.labels)
        mask = seen.truth.cpu().numpy()
        drawn.append(draw(logits, mask, ignored=ignored, seed=len(drawn)))

    for part, data in source.parts.items():
        places = sorted(pool[index][1] for index in order if pool[index][0] == part)
        if places:
            chosen = View.of([data]).take(places)
            source.opened.evaluate(
                part, dataset=chosen, observe=observe, console=console, title="Calibrating"
            )
    return fit(drawn)


def _look(
    source: _Source,
    part: str,
    data: SegmentationDataset,
    calibration: Calibration,
    keep: Observer,
    console: Console,
) -> tuple[list[Evidence], list[str]]:
    """The evidence of every image of a part, and the names of those without a labelled pixel."""
    evidence: list[Evidence] = []
    void: list[str] = []

    def observe(seen: Seen) -> None:
        found = assess(
            seen.logits,
            seen.truth,
            labels=source.opened.bundle.labels,
            calibration=calibration,
            part=part,
            name=seen.sample.name,
        )
        if found is None:
            void.append(seen.sample.name)
        else:
            evidence.append(found)
        keep(seen)

    source.opened.evaluate(part, dataset=data, observe=observe, console=console, title="Auditing")
    return evidence, void
