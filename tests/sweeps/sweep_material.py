"""A training that takes no time, and a launcher without processes, to test what surrounds them."""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from truemask.analysis import compare
from truemask.labels import LabelMap
from truemask.per_image import Evaluation, save_parts
from truemask.results import TrainResult
from truemask.runs import Run
from truemask.sweeps import local
from truemask.sweeps.job import run_job
from truemask.sweeps.launchers import Job, Outcome
from truemask.training.record import StopTraining

QUIET = Console(quiet=True)
EPOCHS = 4
BASE = ("experiment=textures/demo", "trainer.max_steps=null", f"trainer.max_epochs={EPOCHS}")


def evaluation(score: float, *, images: int = 8, shift: int = 0) -> Evaluation:
    """Counts of two classes whose foreground IoU is about `score`, harder in some images."""
    rng = np.random.default_rng(7)
    matrices = np.zeros((images, 2, 2), dtype=np.int64)
    for image, hard in enumerate(rng.uniform(-0.05, 0.05, images)):
        hits = round(1000 * min(max(score + hard, 0.0), 1.0)) + shift
        matrices[image] = [[500, 0], [1000 - hits, hits]]
    return Evaluation(
        names=[f"image-{i}" for i in range(images)],
        matrices=matrices,
        losses=np.full(images, 1 - score),
        attributes=[{} for _ in range(images)],
        labels=LabelMap(names=("rest", "thing"), values={0: 0, 1: 1}),
    )


def finish(run: Run, *, validation: float, test: float) -> None:
    """Give a run its results."""
    parts = {"validation": evaluation(validation), "test": evaluation(test)}
    save_parts(run.per_image_path, parts)
    run.write_labels(parts["test"].labels)
    results = {name: part.result(resamples=50) for name, part in parts.items()}
    training = {"stopped": "all steps are done", "seconds": 3.0, "epochs": EPOCHS}
    run.write_environment({"training": training})
    run.write_results(results)


def quality(config: Mapping[str, Any]) -> float:
    """What a training reaches: best at a learning rate of 0.01, a little more with the seed."""
    distance = math.log10(config["optimizer"]["lr"]) + 2
    return 0.8 - 0.05 * distance**2 + 0.001 * config["seed"]


class FakeTraining:
    """Stands for `train`: keeps what it was called with, fails where it is told to.

    Attributes:
        calls: (learning rate, whether a run was resumed) of each.
        fail: learning rate -> what is raised.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[float, bool]] = []
        self.fail: dict[float, BaseException] = {}

    def __call__(
        self,
        config: Mapping[str, Any],
        *,
        console: Console,
        resume: Run | None = None,
        listeners: Sequence[Callable[[dict[str, Any]], None]] = (),
    ) -> TrainResult:
        rate = config["optimizer"]["lr"]
        self.calls.append((rate, resume is not None))
        run = resume or Run.create(Path(config["runs"]), experiment=config["name"])
        run.write_config(config)
        rows: list[dict[str, Any]] = []
        stopped = "all steps are done"
        for epoch in range(EPOCHS):
            score = quality(config) * (epoch + 1) / EPOCHS
            rows.append({"epoch": epoch, "step": epoch + 1, "validation_iou": score})
            run.write_history(rows)
            if epoch == 1 and rate in self.fail and resume is None:
                run.last_checkpoint.parent.mkdir(exist_ok=True)
                run.last_checkpoint.write_text("state")
                raise self.fail[rate]
            try:
                for listener in listeners:
                    listener(rows[-1])
            except StopTraining as wish:
                stopped = str(wish)
                break
        # The test part orders the runs the other way round: it must choose nothing.
        finish(run, validation=rows[-1]["validation_iou"], test=1 - quality(config))
        return TrainResult(
            run=str(run.path), parts=run.results, best_epoch=0, seconds=1.0, stopped=stopped
        )


def in_process(
    jobs: Iterator[Job], settings: Any, *, console: Console, stop: threading.Event
) -> Iterator[Outcome]:
    """A launcher without processes: one job after the other, here."""
    while not stop.is_set() and (job := next(jobs, None)) is not None:
        yield run_job(job, console=QUIET)


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> FakeTraining:
    """Jobs run in this process, and train nothing."""
    from truemask.training import fit

    fake = FakeTraining()
    monkeypatch.setattr(fit, "train", fake)
    monkeypatch.setattr(local, "launch", in_process)
    # Its charts take longer than all the rest, and have their own tests.
    monkeypatch.setattr(compare, "write_page", lambda comparison, taken, *, path: path.touch())
    return fake
