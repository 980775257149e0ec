"""The run folder: all that a training leaves behind, each file with its writer and its reader.

    runs/<experiment>/<date-time>/
      config.yaml             everything, resolved; it is what makes a folder a run
      environment.json        versions, commit, device, seed, command line
      labels.json             the label map
      splits/<part>.txt       the names of each part's samples
      history.csv             one row an epoch
      checkpoints/            best.ckpt and last.ckpt, to resume from
      model/                  the bundle of the best weights
      results.json            the scores of each part
      per_image.npz           the confusion matrices behind them
      evaluation-<name>.json  what was evaluated later, and its .npz
      trivial.npz             those of the best constant map, which never looks at an image
      findings.json           what the checks said, before, during and after training
      findings/               pictures of it
      pictures/               predictions of a few images over the training, where it was asked for
      trackers.json           under which id each tracker has the run
      tensorboard/ wandb/     what these trackers wrote, where `logger` names them
      profile.json            where a step's time goes, where it was asked for
      samples/                small pictures with truth and prediction, for the report
      report.html             one file, works offline
      explanation.json        what `truemask explain` found, and its page, explanation.html

A run that somebody else made, or that was killed, is read like any other: every file is plain text,
JSON or a picture, nothing of it is executed, and no name in it leads out of the folder.
"""

import csv
import hashlib
import io
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import yaml
from torch import nn

from truemask.bundle import Bundle, load_bundle
from truemask.errors import UsageError
from truemask.files import explain_os_errors, make_folder, write_json, write_text
from truemask.labels import LabelMap
from truemask.results import PartResult
from truemask.run_findings import read_findings, write_findings
from truemask.run_pictures import Course, Picture, read_course, write_pictures
from truemask.run_samples import RunSample as RunSample
from truemask.run_samples import read_samples, write_samples
from truemask.run_search import CONFIG, is_run, run_folders
from truemask.untrusted import (
    naming,
    plain_name,
    read_lines,
    read_object,
    read_table,
    read_yaml,
    safe_name,
)

HISTORY_COLUMNS = (
    "epoch", "step", "learning_rate", "train_loss", "validation_loss", "validation_iou",
    "validation_dice", "validation_pixel_accuracy", "images_per_second", "seconds",
)  # fmt: skip


UNFINISHED = "The training has not come to its end"
"""How it is said of a run without results; a command warns of it once, as it opens the run."""


class SavedResult(Protocol):
    """What a run keeps of an evaluation."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""


@dataclass(frozen=True)
class Run:
    """A run folder.

    Every property reads its file anew, so that a run can be watched while it trains. It raises
    `UsageError` where its file is damaged, or is missing and nothing can stand for it.

    Attributes:
        path: the folder.
    """

    path: Path

    @classmethod
    def create(cls, root: Path, *, experiment: str) -> "Run":
        """Make a new folder `root/experiment/<date-time>`, which no other process can get.

        Args:
            root: where runs are kept.
            experiment: its name; slashes group experiments in folders.

        Raises:
            UsageError: the name leads elsewhere, or the folder cannot be made.
        """
        parent = make_folder(root / safe_name(experiment, what="the name of an experiment"))
        stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        others = (f"{stamp}-{number}" for number in itertools.count(2))
        with explain_os_errors(parent):
            for name in itertools.chain([stamp], others):
                if _made(parent / name):
                    break
        return cls(parent / name)

    @classmethod
    def open(cls, path: Path) -> "Run":
        """The run in a folder.

        Raises:
            UsageError: the folder is no run; names the runs that are near.
        """
        if is_run(path):
            return cls(path)
        if not path.exists():
            raise UsageError(f"{path} does not exist: give a run, runs/EXPERIMENT/DATE-TIME")
        outer = next((parent for parent in path.absolute().parents if is_run(parent)), None)
        if outer is not None:
            raise UsageError(f"{path} lies inside a run: give the run itself, {outer}")
        if not path.is_dir():
            raise UsageError(f"{path} is a file: give the folder of a run")
        near = ", ".join(map(str, run_folders(path)[:3]))
        hint = f"the newest runs below it are {near}" if near else "give runs/EXPERIMENT/DATE-TIME"
        raise UsageError(f"{path} is not a run (it has no {CONFIG}): {hint}")

    @property
    def bundle_folder(self) -> Path:
        """The bundle of the best weights."""
        return self.path / "model"

    @property
    def checkpoints_folder(self) -> Path:
        """Where the checkpoints are."""
        return self.path / "checkpoints"

    @property
    def best_checkpoint(self) -> Path:
        """The checkpoint with the best validation score."""
        return self.checkpoints_folder / "best.ckpt"

    @property
    def last_checkpoint(self) -> Path:
        """The checkpoint to resume from."""
        return self.checkpoints_folder / "last.ckpt"

    @property
    def report_path(self) -> Path:
        """The report."""
        return self.path / "report.html"

    @property
    def explanation_path(self) -> Path:
        """The page of `truemask explain`; beside it stands its JSON."""
        return self.path / "explanation.html"

    @property
    def config(self) -> dict[str, Any]:
        """Everything that was set, as plain values."""
        return read_yaml(self._existing(CONFIG))

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write `config.yaml`; from then on the folder is a run."""
        text = yaml.dump(dict(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
        write_text(self.path / CONFIG, text)

    @property
    def plan_path(self) -> Path:
        """The plan that the run was trained by: an experiment, which can be used again."""
        return self.path / "plan.yaml"

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, commit, device, seed and command line."""
        return read_object(self._existing("environment.json"))

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Write `environment.json`."""
        write_json(self.path / "environment.json", dict(environment))

    @property
    def labels(self) -> LabelMap:
        """The label map of the data."""
        file = self._existing("labels.json")
        with naming(file):
            return LabelMap.from_json(read_object(file))

    def write_labels(self, labels: LabelMap) -> None:
        """Write `labels.json`."""
        write_json(self.path / "labels.json", labels.to_json())

    @property
    def splits(self) -> dict[str, list[str]]:
        """Part -> names of its samples; empty where the parts were not saved."""
        splits = {}
        for file in sorted((self.path / "splits").glob("*.txt")):
            with naming(file):
                names = [safe_name(line, what="a sample") for line in read_lines(file)]
            splits[file.stem] = names
        return splits

    def write_splits(self, splits: Mapping[str, Sequence[str]]) -> None:
        """Write `splits/<part>.txt`, one name a line."""
        folder = make_folder(self.path / "splits")
        for part, names in splits.items():
            lines = [safe_name(name, what="a sample") + "\n" for name in names]
            write_text(folder / f"{plain_name(part, what='a part')}.txt", "".join(lines))

    @property
    def history(self) -> list[dict[str, str]]:
        """One row an epoch, column -> text as in the file; empty before the first."""
        file = self.path / "history.csv"
        return read_table(file) if file.exists() else []

    def write_pictures(self, pictures: Sequence[Picture], *, step: int, labels: LabelMap) -> None:
        """Keep what is predicted after `step` optimiser steps."""
        write_pictures(self.path / "pictures", pictures, step=step, labels=labels)

    def course(self, *, most: int) -> Course | None:
        """What was predicted over the training, of at most so many validations; see `Course`."""
        return read_course(self.path / "pictures", most=most)

    def write_history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write `history.csv`: `HISTORY_COLUMNS`, then the rows' other keys; `None` is empty."""
        columns = dict.fromkeys(itertools.chain(HISTORY_COLUMNS, *rows))
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path / "history.csv", text.getvalue())

    def load_bundle(self, *, allow: Mapping[str, type[nn.Module]] | None = None) -> Bundle:
        """The best weights, on the CPU and in evaluation mode.

        Args:
            allow: classes by their dotted name that the bundle may hold besides the package's own.

        Raises:
            UsageError: there are none yet, or they are damaged.
        """
        self.require_weights()
        return load_bundle(self.bundle_folder, allow=allow)

    def require_weights(self) -> None:
        """Nothing, where there is a bundle.

        Raises:
            UsageError: there is none yet.
        """
        if not self.bundle_folder.exists():
            raise UsageError(f"{self.path} has no weights yet: {self._way_to_finish()}")

    @property
    def finished(self) -> bool:
        """Whether the training came to its end and the best weights were tested."""
        return (self.path / "results.json").is_file()

    @property
    def results(self) -> dict[str, PartResult]:
        """Part -> scores of the best weights."""
        if not self.finished:
            raise UsageError(f"{self.path} has no results yet: {self._way_to_finish()}")
        file = self.path / "results.json"
        with naming(file):
            return {part: PartResult.from_json(item) for part, item in read_object(file).items()}

    def write_results(self, results: Mapping[str, PartResult]) -> None:
        """Write `results.json`."""
        value = {part: result.to_json() for part, result in results.items()}
        write_json(self.path / "results.json", value)

    def discard_results(self) -> None:
        """Take back what the end of a training left; nothing happens where it has not ended."""
        for name in ("results.json", "report.html", "explanation.json", "explanation.html"):
            (self.path / name).unlink(missing_ok=True)
        for names in ("explanation-on-*", "evaluation-boundaries-*", "evaluation-edges-*"):
            for path in self.path.glob(names):
                path.unlink(missing_ok=True)

    @property
    def per_image_path(self) -> Path:
        """The confusion matrices of the images of each part in `results`."""
        return self.path / "per_image.npz"

    @property
    def trivial_path(self) -> Path:
        """The confusion matrices of the best constant map on the same images."""
        return self.path / "trivial.npz"

    def write_evaluation(
        self, name: str, result: SavedResult, *, save: Callable[[Path], None]
    ) -> Path:
        """Write `evaluation-<name>.json`, and beside it as `.npz` the counts that `save` writes.

        Returns:
            The JSON file.
        """
        file = self.path / f"evaluation-{plain_name(name, what='an evaluation')}.json"
        save(file.with_suffix(".npz"))
        write_json(file, result.to_json())
        return file

    @property
    def findings(self) -> list[dict[str, Any]] | None:
        """What the checks said; `None` where none ran."""
        return read_findings(self.path)

    def write_findings(self, findings: Sequence[Mapping[str, Any]]) -> None:
        """Write `findings.json`, and the pictures under "pictures" of each beside it."""
        write_findings(self.path, findings)

    @property
    def samples(self) -> list[RunSample]:
        """The small pictures; empty where none were saved."""
        return read_samples(self.path / "samples")

    def write_samples(self, samples: Sequence[RunSample]) -> None:
        """Write `samples/`, in place of what was there; large pictures are made smaller."""
        write_samples(self.path / "samples", samples)

    def _existing(self, name: str) -> Path:
        file = self.path / name
        if not file.is_file():
            raise UsageError(
                f"{self.path} has no {name}: copy it from where the run was made, or train again"
            )
        return file

    def _way_to_finish(self) -> str:
        if self.last_checkpoint.exists():
            return f"finish it with `truemask train resume={self.path}`"
        return "it was stopped before its first checkpoint, so train again"


class _Dumper(yaml.SafeDumper):
    """Writes a value out wherever it stands, because the reader refuses aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def on_other_data(config: Mapping[str, Any]) -> str:
    """What the name of a file ends in that is of other data than the run's.

    The last folder, to be read, and six digits of what the data is and where: `a/photos` and
    `b/photos` are two.
    """
    dataset = config["data"]["dataset"]
    place = str(dataset.get("root", "other-data"))
    if "://" not in place:
        place = str(Path(place).resolve())
    name = re.sub(r"[^A-Za-z0-9_-]", "_", place.rstrip("/").rpartition("/")[2])
    known = f"{dataset.get('_target_')} {place}"
    return f"-on-{name}-{hashlib.sha256(known.encode()).hexdigest()[:6]}"


def list_runs(root: Path) -> list[Run]:
    """The runs in a folder and below it, the newest first."""
    return [Run(path) for path in run_folders(root)]


def newest(root: Path) -> Run:
    """The newest run in a folder or below it.

    Raises:
        UsageError: there is none.
    """
    runs = list_runs(root)
    if not runs:
        raise UsageError(f"there is no run in {root}: train one with `truemask train`")
    return runs[0]


def _made(path: Path) -> bool:
    """Make a folder, or say that it is there already; the system makes it for one process only."""
    try:
        path.mkdir()
    except FileExistsError:
        return False
    return True
