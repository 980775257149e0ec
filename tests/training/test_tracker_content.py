"""What experiment trackers are told: names, numbers and pictures."""

import io

import numpy as np
from PIL import Image
from tracked_run import CONFIG, LABELS, result, row, sample

from truemask.training.tracker_content import (
    parameters,
    pictures,
    plain_names,
    result_values,
    row_values,
    side_by_side,
)


def test_rows_have_the_names_of_trackers_as_numbers_and_as_text() -> None:
    expected = {"epoch": 3, "learning_rate": 0.1, "train/loss": 0.5, "validation/iou": 0.25}
    numbers = {"epoch": 3, "step": 40, "learning_rate": 0.1, "train_loss": 0.5}
    assert row_values({**numbers, "validation_iou": 0.25}) == expected
    text = {"epoch": "3", "step": "40", "learning_rate": "0.1", "train_loss": "0.5"}
    assert row_values({**text, "validation_iou": "0.25", "validation_dice": ""}) == expected
    assert np.isnan(row_values({"train_loss": "nan"})["train/loss"])


def test_results_have_their_intervals_and_do_not_touch_the_curves() -> None:
    values = result_values({"validation": result(0.6), "test": result(0.5)})
    assert values["test/iou"] == 0.5
    assert (values["test/iou_low"], values["test/iou_high"]) == (0.4, 0.6)
    assert values["test/iou_per_class/road"] == 0.5
    assert values["test/iou_per_class/road_high"] == 0.9
    assert values["validation_best/iou"] == 0.6
    # A class that does not occur has no figure, least of all 0.
    assert not any("tree" in name or "mean_accuracy" in name for name in values)
    assert not set(values) & set(row_values(row(1)))


def test_no_two_classes_share_a_name() -> None:
    names = ["a+", "a-", "a*", "a", "a_low", "..", "", "Straße"]
    plain = plain_names(names, endings=("", "_low", "_high"))
    all_names = [name + end for name in plain.values() for end in ("", "_low", "_high")]
    assert len(set(all_names)) == len(all_names)
    assert plain["Straße"] == "Straße"
    assert plain["a-"] == "a-"
    assert all(name.strip(" .") for name in plain.values())


def test_parameters_are_flat_and_plain() -> None:
    environment = {"seed": 0, "training": {"precision": "bf16", "parts": {"train": {"images": 3}}}}
    flat = parameters(CONFIG, environment)
    assert flat["optimizer.lr"] == 0.001
    assert flat["data.crop"] == "[64, 96]"
    assert flat["data.labels"] == "null"
    assert flat["environment.training.precision"] == "bf16"
    assert flat["environment.training.parts"] == '{"train": {"images": 3}}'


def test_pictures_show_image_truth_and_prediction() -> None:
    one = sample("best", "a")
    assert one.prediction is not None
    drawn = side_by_side(one, LABELS)
    np.testing.assert_array_equal(drawn[:, :48], one.image)
    np.testing.assert_array_equal(drawn[:, 50:98], LABELS.colorize(one.truth))
    np.testing.assert_array_equal(drawn[:, 100:], LABELS.colorize(one.prediction))
    ((name, content),) = pictures([one, sample("train", "c", predicted=False)], LABELS)
    assert name == "test/best/a"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), drawn)


def test_the_test_part_s_pictures_come_first_and_from_each_kind() -> None:
    samples = [sample("best", f"v{i}", part="validation") for i in range(3)]
    samples += [sample("best", f"b{i}") for i in range(3)] + [sample("worst", "w0")]
    chosen = [name for name, _ in pictures(samples, LABELS, most=3)]
    assert chosen == ["test/best/b0", "test/best/b1", "test/worst/w0"]


def test_a_sample_that_is_shown_twice_keeps_its_name() -> None:
    samples = [sample("best", "a"), sample("worst", "a"), sample("typical", "a!", part="../x")]
    chosen = [name for name, _ in pictures(samples, LABELS)]
    assert chosen == ["test/best/a", "test/worst/a", "_x/typical/a_"]
