"""Predictions for the images that a run trained on, by models that did not: K folds.

Each model trains as the run did, on the run's training part without one fold, which it never sees;
the run's validation part chooses its best epoch, as it did for the run. So no label of a fold has
any part in the weights that judge it. Each training is a run in the audit's folder: one that is
finished is taken as it is, one that was interrupted goes on.
"""

import copy
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from truemask.analysis.matching import training_facts
from truemask.config_checks import check_config, known_targets
from truemask.data.marks import read_marks
from truemask.data.splits import KFold
from truemask.data.views import View
from truemask.datasets.sample import SegmentationDataset
from truemask.errors import JobFailed, UsageError, counted
from truemask.files import make_folder, write_text
from truemask.runs import Run, list_runs
from truemask.training.fit import train

STOPPED = "you stopped it"
"""How a training ends that somebody stopped."""


@dataclass(frozen=True)
class Fold:
    """A part of the training images, and the run that has not seen them."""

    number: int
    names: tuple[str, ...]
    run: Run


def cut(dataset: SegmentationDataset, config: Mapping[str, Any], folds: int) -> list[list[str]]:
    """The names of each fold: by the run's seed, and by its groups where it has some.

    Raises:
        UsageError: there are too few images, or the groups do not suit them.
    """
    if folds > len(dataset):
        raise UsageError(
            f"--folds is {folds}, but the training part has only {counted(len(dataset), 'image')}"
        )
    split = config["data"].get("split") or {}
    together = {key: split[key] for key in ("group", "pattern") if split.get(key) is not None}
    pool = View.of([dataset])
    found = []
    for fold in range(folds):
        rule = KFold(folds=folds, fold=fold, seed=config["seed"], **together)
        found.append([pool.names[index] for index in rule(pool)["validation"]])
    return found


def train_folds(
    run: Run,
    dataset: SegmentationDataset,
    *,
    folds: int,
    out: Path,
    allow: Collection[str],
    console: Console,
) -> Iterator[Fold]:
    """Train what is not trained yet, one fold after the other.

    Args:
        run: the run whose training part is audited.
        dataset: that part.
        folds: how many.
        out: the audit's folder.
        allow: targets that the run may name besides those that Truemask knows.
        console: where progress is shown.

    Raises:
        UsageError: the run's settings or data cannot be used, or the folder holds other folds.
        JobFailed: a training was stopped; the same command goes on with it.
    """
    before = run.config
    parts = cut(dataset, before, folds)
    place = make_folder(out / f"folds-{folds}")
    for number, names in enumerate(parts, start=1):
        config = _config(before, names, place, number)
        check_config(config, allow=known_targets().union(allow))
        earlier = next(iter(list_runs(place / f"fold-{number}")), None)
        if earlier is not None and _complete(earlier):
            yield Fold(number, tuple(names), earlier)
            continue
        console.print(f"Fold {number} of {folds}: {len(names)} images are left out.")
        resume = earlier if earlier is not None and earlier.last_checkpoint.exists() else None
        if resume is not None:
            config = resume.config
            check_config(config, allow=known_targets().union(allow))
        result = train(config, console=console, resume=resume)
        if result.stopped == STOPPED:
            raise JobFailed(f"stopped in fold {number} of {folds}: the same command goes on there")
        yield Fold(number, tuple(names), Run(Path(result.run)))


def _config(
    before: Mapping[str, Any], names: Collection[str], place: Path, number: int
) -> dict[str, Any]:
    """The run's configuration, without one fold."""
    config = copy.deepcopy(dict(before))
    data = config["data"]
    left = sorted(names)
    if data.get("exclude") is not None:
        left += [mark.name for mark in read_marks(Path(data["exclude"])).images]
    file = place / f"fold-{number}.csv"
    text = "name\n" + "".join(f"{_quoted(name)}\n" for name in dict.fromkeys(left))
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise UsageError(
            f"{file} lists other images than the run's training part has now: delete {place}, or "
            "give another --out"
        )
    write_text(file, text)
    data["exclude"] = str(file.resolve())
    data["dataset"] = {**data["dataset"]}
    if "download" in data["dataset"]:
        data["dataset"]["download"] = False
    config |= {
        "name": f"fold-{number}",
        "runs": str(place),
        "logger": None,
        "profile": False,
        "checks": {"enabled": False},
    }
    return config


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _complete(run: Run) -> bool:
    return run.finished and training_facts(run).get("stopped") != STOPPED
