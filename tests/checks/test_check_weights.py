import numpy as np
import pytest
import torch

from truemask.checks.weighting import check_weights
from truemask.class_weights import CLASS_WEIGHTS, class_weights, pos_weight
from truemask.errors import UsageError

COUNTS = [60_000, 25_000, 9_000, 1_000]
INVERSE = [1 / count for count in COUNTS]


def codes(*arguments: object, **named: object) -> list[tuple[str, str]]:
    return [(found.code, found.level) for found in check_weights(*arguments, **named)]


@pytest.mark.parametrize("method", list(CLASS_WEIGHTS))
def test_weights_made_by_a_method_are_sound(method: str) -> None:
    assert codes(class_weights(COUNTS, method=method), COUNTS, num_classes=4) == []


def test_sound_by_hand() -> None:
    assert codes(torch.ones(4), COUNTS, num_classes=4) == []
    assert codes([1, 1, 2, 5], COUNTS, num_classes=4) == []
    assert codes(np.minimum(1e6 * np.array(INVERSE), 50), COUNTS, num_classes=4) == []
    assert codes(pos_weight([960, 40]), [960, 40], num_classes=1) == []


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (COUNTS, "proportional to the frequency"),
        (np.sqrt(COUNTS), "proportional to the square root"),
        (INVERSE[::-1], "another order than the classes (reversed)"),
        (np.roll(INVERSE, 1), "another order than the classes (shifted by 1)"),
        (-np.sort(-np.array(INVERSE)), "another order than the classes (reversed)"),
        ([INVERSE[i] for i in (1, 0, 2, 3)], "another order than the classes:"),
        ([5, 3, 2, 1], "grow with the frequency"),
    ],
)
def test_wrong_order_or_meaning(weights: object, words: str) -> None:
    (finding,) = check_weights(weights, COUNTS, num_classes=4)
    assert (finding.code, finding.level) == ("TM404", "error")
    assert words in finding.message


def test_an_inverted_pos_weight() -> None:
    assert codes(40 / 960, [960, 40], num_classes=2) == [("TM404", "error")]
    assert codes(0.5, [960, 40], num_classes=2) == [("TM404", "warning")]


def test_the_ignored_id_as_one_more_class() -> None:
    assert codes([*INVERSE, 1e-4], COUNTS, num_classes=4) == [("TM405", "error")]


def test_ignored_pixels_counted_as_a_class() -> None:
    padded = [COUNTS[0] + 30_000, *COUNTS[1:]]
    weights = [1 / count for count in padded]
    (finding,) = check_weights(weights, COUNTS, num_classes=4, ignored=30_000)
    assert finding.code == "TM405"
    assert "count as class 0" in finding.message


def test_the_driving_project_counted_255_as_a_class() -> None:
    ignored = 40_000
    weights = [(sum(COUNTS) + ignored) / (5 * count) for count in COUNTS]
    assert codes(weights, COUNTS, num_classes=4, ignored=ignored) == [("TM405", "warning")]


def test_masks_are_counted() -> None:
    masks = []
    for value in range(4):
        mask = np.zeros((8, 8), np.uint8)
        mask[:2] = 1
        mask[2, :4] = 2
        mask[-1] = 255
        masks.append((np.zeros((8, 8, 3), np.uint8) + value, mask))
    # By hand: 36, 16 and 4 pixels of each class, 8 ignored.
    assert codes([1 / 36, 1 / 16, 1 / 4], masks, num_classes=3) == []
    assert codes([36, 16, 4], masks, num_classes=3) == [("TM404", "error")]
    assert codes([1 / 44, 1 / 16, 1 / 4], masks, num_classes=3) == [("TM405", "error")]


@pytest.mark.parametrize(
    ("weights", "counts", "words"),
    [
        ([1, 2], COUNTS, "2 weights, but 4 classes"),
        ([1, 2, 3, 4], [1, 2], "2 counts, but 4 classes"),
        ([1, 2, 3, -4], COUNTS, "they must be 0 or more"),
        (["a"], COUNTS, "must be numbers"),
        ([1, 2, 3, 4], [0, 0, 0, 0], "not all 0"),
    ],
)
def test_wrong_usage(weights: object, counts: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_weights(weights, counts, num_classes=4)
