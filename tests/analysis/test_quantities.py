"""Numbers read from run folders, held against the same worked out here."""

import json

import numpy as np
import pytest
from analysis_material import evaluation

from truemask.analysis.quantities import (
    column,
    describe,
    part_evaluation,
    part_result,
    read_quantity,
    running_loss,
    share_of_commonest,
)
from truemask.errors import UsageError


def test_the_running_mean_is_over_all_steps(make_run):
    losses = np.array([0.9, 0.7, 0.4, 0.4, 0.2, 0.1])
    history = [(2, losses[:2].mean()), (3, losses[2:3].mean()), (6, losses[3:].mean())]
    run = make_run(history=history)
    expected = [losses[:2].mean(), losses[:3].mean(), losses.mean()]
    assert [step for step, _ in running_loss(run)] == [2, 3, 6]
    assert [value for _, value in running_loss(run)] == pytest.approx(expected)
    assert read_quantity(run, "running_loss").value == pytest.approx(losses.mean())
    assert read_quantity(run, "running_loss").interval is None
    assert read_quantity(run, "train_loss").value == pytest.approx(history[-1][1])


def test_a_score_has_the_interval_of_the_results(make_run):
    run = make_run()
    test = run.results["test"]
    found = read_quantity(run, "test.iou")
    assert (found.value, found.interval) == (test.iou, test.intervals["iou"])
    found = read_quantity(run, "validation.iou_per_class.other")
    assert found.value == run.results["validation"].iou_per_class["other"]


def test_the_mean_of_two_classes_is_of_both(make_run):
    run = make_run()
    test = run.results["test"]
    found = read_quantity(run, "test.mean_iou")
    assert found.value == pytest.approx(np.mean(list(test.iou_per_class.values())))
    assert found.interval[0] < found.value < found.interval[1]


def test_a_later_evaluation_is_found_by_its_name(make_run):
    run = make_run()
    later = evaluation(("other", "thing"), seed=5)
    run.write_evaluation("train", later.result(), save=later.save)
    assert read_quantity(run, "train.pixel_accuracy").value == later.result().pixel_accuracy
    assert part_result(run, "train").images == 12
    assert np.array_equal(part_evaluation(run, "train").matrices, later.matrices)
    assert read_quantity(run, "train.mean_iou").interval is not None


def test_what_a_run_does_not_have_is_none(make_run):
    run = make_run(history=())
    for name in (
        "running_loss",
        "train_loss",
        "train.iou",
        "test.nonsense",
        "test.iou_per_class.x",
    ):
        assert read_quantity(run, name) is None


def test_the_commonest_class_is_of_the_truth(make_run):
    counted = evaluation(("a", "b", "c"))
    truth = counted.matrices.sum((0, 2))
    assert share_of_commonest(counted.result()) == pytest.approx(truth.max() / truth.sum())


def test_a_damaged_history_is_said_in_one_line(make_run):
    run = make_run()
    (run.path / "history.csv").write_text("step,train_loss\n10,much\n")
    with pytest.raises(UsageError, match=r"history\.csv is damaged: 'much'"):
        column(run, "train_loss")
    (run.path / "history.csv").write_text("step,train_loss\n,0.5\n")
    with pytest.raises(UsageError, match="a row has no step"):
        running_loss(run)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("running_loss", "mean training loss of all steps"),
        ("test.iou", "test IoU"),
        ("train.pixel_accuracy", "training pixel accuracy"),
        ("test.iou_per_class.edge", "test IoU of edge"),
        ("batch-statistics.mean_iou", "with batch statistics, mean IoU"),
    ],
)
def test_names_in_words(name, said):
    assert describe(name) == said


def test_quantities_read_files_only(make_run):
    """Nothing but the folder counts: a copy without weights gives the same."""
    run = make_run()
    assert not run.bundle_folder.exists()
    assert json.loads((run.path / "results.json").read_text())["test"]["images"] == 12
    assert read_quantity(run, "test.iou") is not None
