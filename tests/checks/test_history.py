"""Histories with a known fault, and sound ones, by anybody's names of columns."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from truemask.checks.histories import History, thinned, trend
from truemask.checks.run import check_history
from truemask.errors import UsageError

EPOCHS = 20


def sound(seed: int = 0, epochs: int = EPOCHS) -> dict[str, list[float]]:
    """A training that falls, is validated, and has come to its end."""
    rng = np.random.default_rng(seed)
    epoch = np.arange(epochs)
    fall = np.exp(-epoch / 4)
    return {
        "epoch": epoch.tolist(),
        "train_loss": (0.2 + 0.8 * fall + rng.normal(0, 0.01, epochs)).tolist(),
        "val_loss": (0.3 + 0.7 * fall + rng.normal(0, 0.02, epochs)).tolist(),
        "val_iou": (0.7 - 0.5 * fall + rng.normal(0, 0.005, epochs)).tolist(),
        "lr": (0.5e-3 * (1 + np.cos(np.pi * epoch / epochs))).tolist(),
    }


def codes(history, **options) -> list[str]:
    return [finding.code for finding in check_history(history, **options)]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("epochs", [6, 20, 100])
def test_a_sound_training_has_no_finding(seed: int, epochs: int) -> None:
    assert codes(sound(seed, epochs)) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "nan", "inf"])
def test_one_loss_that_is_no_number_is_found(value) -> None:
    history = sound()
    history["train_loss"][7] = value
    (finding,) = check_history(history)
    assert finding.code == "TM602"
    assert "epoch 7" in finding.message
    assert finding.to_json()["evidence"]["first_row"] == 7


def test_a_cell_that_is_empty_is_no_fault() -> None:
    history = sound()
    history["val_loss"][1::2] = [None] * 10
    history["val_iou"][1::2] = [""] * 10
    assert codes(history) == []


def test_steps_without_a_gradient_are_a_warning_from_a_twentieth_on() -> None:
    history = sound() | {"step": [50 * (i + 1) for i in range(EPOCHS)]}
    assert codes(history | {"skipped_steps": [20] + [0] * 19}) == []
    (finding,) = check_history(history | {"skipped_steps": [4] * 20})
    assert (finding.code, finding.level) == ("TM602", "warning")


@pytest.mark.parametrize("value", [0.0, 0.693147, 3.2])
@pytest.mark.parametrize("rows", [3, 8, 100])
def test_a_constant_loss_is_found(value: float, rows: int) -> None:
    assert codes({"loss": [value] * rows}) == ["TM603"]


@pytest.mark.parametrize("seed", range(10))
def test_noise_around_a_constant_is_found(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 0.02, 30)
    assert codes({"Train/Loss": (1.1 + noise).tolist()}) == ["TM603"]


def test_single_steps_of_a_slow_but_sure_training_are_sound() -> None:
    rng = np.random.default_rng(0)
    losses = np.linspace(1.0, 0.7, 5000) + rng.normal(0, 0.2, 5000)
    assert codes({"loss": losses.tolist()}) == []


def test_a_score_that_rises_shows_that_something_is_learnt() -> None:
    flat = {"train_loss": [0.5 + 0.001 * (i % 2) for i in range(20)]}
    assert codes(flat) == ["TM603"]
    assert "TM603" not in codes(flat | {"val_dice": np.linspace(0.2, 0.6, 20).tolist()})


def test_an_overlap_of_zero_is_a_collapse() -> None:
    history = sound() | {"val_iou": [0.0] * EPOCHS}
    assert codes(history) == ["TM601"]
    recovered = sound()
    recovered["val_iou"][:7] = [0.0] * 7
    assert codes(recovered) == []
    late = sound()
    late["val_iou"][-4:] = [0.0] * 4
    (finding,) = [f for f in check_history(late) if f.code == "TM601"]
    assert finding.evidence["in_a_row"] == 4


def test_a_score_that_never_changes_is_a_collapse() -> None:
    assert codes(sound() | {"val_iou": [0.0731254] * EPOCHS}) == ["TM601"]
    assert codes({"val_acc": [0.73] * 5}) == []  # two decimals may well stay the same
    assert codes({"val_acc": [0.73] * 12}) == ["TM601"]


def test_a_training_that_is_cut_short_is_not_finished() -> None:
    short = {key: values[:5] for key, values in sound().items()}
    (finding,) = check_history(short)
    assert (finding.code, finding.level) == ("TM614", "warning")
    # A schedule that ends is meant to end.
    assert codes(sound(epochs=5)) == []


def test_an_overfitted_training_is_found_by_the_column_that_chose_the_weights() -> None:
    history = sound()
    rise = np.maximum(0, np.arange(EPOCHS) - 8)
    history["val_loss"] = (0.3 + 0.7 * np.exp(-np.arange(EPOCHS) / 4) + 0.03 * rise).tolist()
    levelled = [min(0.6, 0.1 * epoch) + 0.001 * (epoch % 2) for epoch in range(EPOCHS)]
    history["val_iou"] = [0.3 + 0.02 * epoch for epoch in range(EPOCHS)]
    (finding,) = [found for found in check_history(history) if found.code == "TM615"]
    assert (finding.level, "went on rising" in finding.message) == ("note", True)
    history["val_iou"] = levelled
    assert codes(history) == ["TM615"]
    (finding,) = check_history(history, monitor="val_loss")
    assert (finding.code, finding.level) == ("TM615", "warning")
    (finding,) = check_history(history, monitor="val_loss", best_is_kept=True)
    assert finding.level == "note"


def test_rows_columns_and_files_say_the_same(tmp_path: Path) -> None:
    columns = sound()
    columns["train_loss"] = [1.0] * EPOCHS
    columns["val_iou"] = [0.5] * EPOCHS
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    file = tmp_path / "metrics.csv"
    lines = [",".join(columns), *(",".join(map(str, row.values())) for row in rows)]
    file.write_text("\n".join(lines) + "\n")
    expected = codes(columns)
    assert expected == ["TM601", "TM603"]
    assert codes(rows) == codes(str(file)) == codes(file) == expected


def test_a_wrong_monitor_names_the_columns_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="val_iou"):
        check_history(sound(), monitor="val_miou")
    with pytest.raises(UsageError, match="nothing.csv"):
        check_history(tmp_path / "nothing.csv")


@pytest.mark.parametrize("name", ["val/mIoU", "valid_dice", "dev-F1", "Eval.jaccard", "test_acc"])
def test_names_of_scores(name: str) -> None:
    (column,) = History.of({name: [0.1]}).scores(held_out=True)
    assert column.is_score
    assert not column.is_loss


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("digits", [1, 6])
def test_the_trend_is_kendall_s_tau(seed: int, digits: int) -> None:
    """Against SciPy, whose p value is that of the same statistic, ties included."""
    values = np.random.default_rng(seed).normal(0, 1, 40).round(digits) + np.linspace(0, 0.5, 40)
    values = values.round(digits).tolist()
    tau = kendalltau(range(40), values, method="asymptotic")
    assert math.copysign(1, trend(values)) == math.copysign(1, tau.statistic)
    # SciPy leaves the correction for continuity out.
    p = math.erfc(abs(trend(values)) / math.sqrt(2))
    assert p == pytest.approx(tau.pvalue, abs=0.03)


def test_the_trend_of_noise_is_sure_once_in_twenty() -> None:
    rng = np.random.default_rng(1)
    sure = [trend(rng.normal(0, 1, 12).tolist()) > 1.645 for _ in range(2000)]
    assert 0.03 < np.mean(sure) < 0.065


def test_thinning_keeps_the_mean() -> None:
    values = list(range(1000))
    assert len(thinned(values)) == 200
    assert sum(thinned(values)) / 200 == sum(values) / 1000
    assert thinned([1.0, 2.0]) == [1.0, 2.0]
