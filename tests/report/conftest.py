"""Runs to report on: random pictures and matrices, with the scores worked out here."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from truemask.labels import LabelMap
from truemask.results import PartResult
from truemask.runs import Run, RunSample


def part_result(matrix: np.ndarray, names: tuple[str, ...], **more) -> PartResult:
    """Scores of a confusion matrix, by their definitions."""
    m = matrix.astype(float)
    truth, found, hit = m.sum(1), m.sum(0), np.diag(m)
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = {
            "iou": hit / (truth + found - hit),
            "dice": 2 * hit / (truth + found),
            "precision": hit / found,
            "recall": hit / truth,
            "f1": 2 * hit / (truth + found),
        }
    lists = {
        f"{name}_per_class": {
            key: None if np.isnan(v) else float(v) for key, v in zip(names, values, strict=True)
        }
        for name, values in scores.items()
    }
    intervals = {
        f"iou_per_class.{name}": (max(0.0, v - 0.05), min(1.0, v + 0.04))
        for name, v in lists["iou_per_class"].items()
        if v is not None
    }
    one = len(names) == 2
    mean = {name: float(v[1] if one else np.nanmean(v)) for name, v in scores.items()}
    intervals["iou"] = (mean["iou"] - 0.02, mean["iou"] + 0.03)
    return PartResult(
        images=40,
        iou=mean["iou"],
        dice=mean["dice"],
        pixel_accuracy=float(hit.sum() / m.sum()),
        mean_accuracy=mean["recall"],
        frequency_weighted_iou=0.5,
        confusion=matrix.tolist(),
        intervals=intervals,
        **lists,
        **more,
    )


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    """A function that makes a run: of so many classes and epochs, whole or stopped early."""

    def make(
        *,
        names: tuple[str, ...] = ("background", "crack"),
        epochs: int = 3,
        parts: tuple[str, ...] = ("validation", "test"),
        subgroups: bool = False,
        absent: int | None = None,
        side: int = 48,
        shown: int = 2,
    ) -> Run:
        rng = np.random.default_rng(0)
        classes = len(names)
        labels = LabelMap(names=names, values={i: i for i in range(classes)})
        run = Run.create(tmp_path, experiment="roads")
        weights = [1.5 + i for i in range(classes)]
        run.write_config(
            {
                "model": {"_target_": "truemask.models.unet.UNet", "widths": [8, 16]},
                "loss": {
                    "_target_": "truemask.losses.Sum",
                    "losses": [
                        {"_target_": "truemask.losses.CrossEntropy", "weight": weights},
                        {"_target_": "truemask.losses.Dice"},
                    ],
                },
            }
        )
        run.write_labels(labels)
        run.write_environment(
            {
                "versions": {"torch": "2.9.1"},
                "device": "cpu",
                "seed": 7,
                "command_line": ["truemask", "train", "my data"],
                "training": {
                    "parameters": 7_812_345,
                    "parts": {"train": {"images": 367}},
                    "notes": ["The parts are those on disk."],
                    "class_shares": {name: 1 / classes for name in names},
                    "median_size": [360, 480],
                    "best_epoch": epochs // 2,
                    "best_step": 10 * (epochs // 2) + 10,
                    "seconds": 1201.5,
                    "stopped": "the time given is used",
                },
            }
        )
        run.write_splits({"train": ["a", "b"], "validation": ["c"]})
        run.write_history(
            [
                {
                    "epoch": epoch,
                    "step": 10 * epoch + 10,
                    "learning_rate": 1e-3,
                    "train_loss": 1 / (epoch + 1),
                    "validation_loss": 1.2 / (epoch + 1) if epoch != 5 else None,
                    "validation_iou": 0.6 - 0.5 / (epoch + 1),
                }
                for epoch in range(epochs)
            ]
        )
        matrix = rng.integers(1, 400, (classes, classes)) + np.eye(classes, dtype=int) * 2000
        if absent is not None:
            matrix[absent] = matrix[:, absent] = 0
        groups = {"light": {"dusk": part_result(matrix, names), "day": part_result(matrix, names)}}
        run.write_results(
            {
                part: part_result(matrix, names, subgroups=groups if subgroups else {})
                for part in parts
            }
        )

        def picture(kind: str, number: int) -> RunSample:
            truth, prediction = rng.integers(0, classes, (2, side, side)).astype(np.uint8)
            truth[:4] = 255
            return RunSample(
                part="train" if kind == "train" else "test",
                kind=kind,
                name=f"{kind}{number}",
                iou=None if kind == "train" else 0.25,
                image=rng.integers(0, 256, (side, side, 3)).astype(np.uint8),
                truth=truth,
                prediction=None if kind == "train" else prediction,
            )

        run.write_samples(
            [picture(kind, i) for kind in ("train", "best", "worst") for i in range(shown)]
        )
        return run

    return make
