"""Run folders made without training, and a small project to repeat."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from truemask.compose import compose_config
from truemask.labels import LabelMap
from truemask.per_image import Evaluation, save_parts
from truemask.projects.project import Figure, Project, Trial
from truemask.runs import Run, RunSample
from truemask.training.settings import DataSettings, TrainerSettings

SMALL = (
    "data.dataset.size=16",
    "data.dataset.train=16",
    "data.dataset.validation=5",
    "data.dataset.test=6",
    "data.batch_size=4",
    "model.channels=2",
    "trainer.max_steps=3",
)


def evaluation(
    names: Sequence[str],
    *,
    images: int = 12,
    seed: int = 0,
    attributes: Sequence[dict[str, str]] | None = None,
) -> Evaluation:
    """Random counts with a strong diagonal."""
    rng = np.random.default_rng(seed)
    classes = len(names)
    matrices = rng.integers(1, 50, (images, classes, classes))
    matrices += np.eye(classes, dtype=np.int64) * rng.integers(50, 500, (images, 1, 1))
    return Evaluation(
        names=[f"image-{i:03d}" for i in range(images)],
        matrices=matrices.astype(np.int64),
        losses=rng.random(images),
        attributes=attributes or [{} for _ in range(images)],
        labels=LabelMap(names=tuple(names), values={i: i for i in range(classes)}),
    )


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    """A function that makes a finished run without training."""

    def make(
        *words: str,
        experiment: str = "textures/demo",
        name: str = "made",
        root: Path | None = None,
        names: Sequence[str] = ("other", "thing"),
        history: Sequence[tuple[int, float]] = ((10, 0.5), (20, 0.3)),
        images: int = 800,
        tested: Evaluation | None = None,
        stopped: str = "all steps are done",
        finished: bool = True,
        settled: dict[str, Any] | None = None,
        side: int = 24,
    ) -> Run:
        run = Run.create(root or tmp_path / "elsewhere", experiment=name)
        config = compose_config([f"experiment={experiment}", *words])
        config["name"] = name
        config["data"] = asdict(DataSettings(**config["data"]))
        config["trainer"] = asdict(TrainerSettings(**config["trainer"]))
        config["trainer"]["eval_interval"] = config["trainer"]["eval_interval"] or 3
        tested = tested or evaluation(names)
        run.write_labels(tested.labels)
        training = {
            "stopped": stopped,
            "seconds": 12.5,
            "precision": "32-true",
            "images_per_second": 80.0,
            "parts": {"train": {"images": images}},
        }
        run.write_environment({"device": "CPU (test)", "training": training})
        run.write_config({**config, **(settled or {})})
        run.write_history(
            [
                {
                    "epoch": i,
                    "step": step,
                    "learning_rate": 0.01,
                    "train_loss": loss,
                    "validation_loss": loss * 1.1,
                    "validation_iou": 0.5,
                }
                for i, (step, loss) in enumerate(history)
            ]
        )
        if finished:
            validation = evaluation(tested.labels.names, seed=1)
            save_parts(run.per_image_path, {"validation": validation, "test": tested})
            run.write_results({"validation": validation.result(), "test": tested.result()})
            run.write_samples(_samples(tested.labels, side))
        return run

    return make


def _samples(labels: LabelMap, side: int) -> list[RunSample]:
    rng = np.random.default_rng(0)
    return [
        RunSample(
            part="test",
            kind=kind,
            name=f"{kind}-{i}",
            iou=0.5,
            image=rng.integers(0, 255, (side, side, 3), dtype=np.uint8),
            truth=rng.integers(0, labels.num_classes, (side, side), dtype=np.uint8),
            prediction=rng.integers(0, labels.num_classes, (side, side), dtype=np.uint8),
        )
        for kind in ("best", "worst")
        for i in range(2)
    ]


def trial(name: str, *words: str, **options: Any) -> Trial:
    """A trial of a few steps on small textures."""
    return Trial(
        name=name,
        title=f"The trial {name}",
        experiment="textures/demo",
        overrides=(*SMALL, *words),
        **options,
    )


@pytest.fixture
def tiny() -> Project:
    """A project of two trials, which trains in a few seconds."""
    slow = trial("slow", "optimizer.lr=1e-4", published={"running_loss": 0.5})
    fast = trial("fast", "optimizer.lr=1e-2", column="corrected", of="slow")
    absent = Figure(name="absent", title="Nothing", caption="None.", draw=lambda runs: None)
    return Project(
        name="tiny", title="A tiny project", text=("One.", "Two."), trials=(slow, fast),
        figures=(absent,),
    )  # fmt: skip
