"""A finished run made by hand, quickly: what trackers are told of."""

from pathlib import Path
from typing import Any

import numpy as np

from truemask.labels import LabelMap
from truemask.results import PartResult
from truemask.run_samples import Kind
from truemask.runs import Run, RunSample

LABELS = LabelMap(names=("road", "tree/bush"), values={0: 0, 1: 1})

CONFIG: dict[str, Any] = {
    "name": "trees/first",
    "seed": 0,
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.001},
    "data": {"crop": [64, 96], "labels": None},
}


def make_run(root: Path) -> Run:
    run = Run.create(root, experiment="trees/first")
    run.write_labels(LABELS)
    run.write_environment({"seed": 0, "versions": {"torch": "2"}, "training": {"notes": ["a|b"]}})
    run.write_config(CONFIG)
    return run


def row(step: int) -> dict[str, Any]:
    return {
        "epoch": step // 10,
        "step": step,
        "learning_rate": 0.001,
        "train_loss": 1 / step,
        "validation_loss": 2 / step,
        "validation_iou": 1 - 1 / step,
        "images_per_second": 12.5,
        "seconds": float(step),
    }


def result(iou: float) -> PartResult:
    per_class = {"road": iou, "tree/bush": None}
    return PartResult(
        images=5,
        iou=iou,
        dice=0.8,
        pixel_accuracy=0.9,
        mean_accuracy=None,
        frequency_weighted_iou=0.7,
        iou_per_class=per_class,
        dice_per_class=per_class,
        precision_per_class=per_class,
        recall_per_class=per_class,
        f1_per_class=per_class,
        confusion=[[1, 2], [3, 4]],
        intervals={"iou": (iou - 0.1, iou + 0.1), "iou_per_class.road": (0.1, 0.9)},
    )


def sample(kind: Kind, name: str, *, part: str = "test", predicted: bool = True) -> RunSample:
    rng = np.random.default_rng(len(name))
    ids = rng.integers(0, 2, (2, 32, 48), dtype=np.uint8)
    return RunSample(
        part=part,
        kind=kind,
        name=name,
        iou=0.5,
        image=rng.integers(0, 256, (32, 48, 3), dtype=np.uint8),
        truth=ids[0],
        prediction=ids[1] if predicted else None,
    )


def finish(run: Run) -> dict[str, PartResult]:
    results = {"validation": result(0.6), "test": result(0.5)}
    run.write_samples([sample("best", "a"), sample("worst", "b/ä?.x")])
    run.write_results(results)
    (run.path / "report.html").write_text("<p>the report</p>")
    return results
