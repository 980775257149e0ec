import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from truemask.class_weights import CLASS_WEIGHTS, class_weights, pos_weight
from truemask.errors import UsageError
from truemask.losses import BinaryCrossEntropy

counts_of_pixels = st.lists(st.integers(1, 10**9), min_size=2, max_size=30)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=8))
def test_balanced_weights_are_scikit_learn_s(counts: list[int]) -> None:
    pixels = np.repeat(np.arange(len(counts)), counts)
    expected = compute_class_weight("balanced", classes=np.arange(len(counts)), y=pixels)
    assert class_weights(counts, method="balanced") == pytest.approx(expected.tolist())


@settings(deadline=None, derandomize=True)
@given(counts_of_pixels, st.sampled_from(["balanced", "inverse", "inverse_sqrt"]))
def test_a_pixel_weighs_one_on_average(counts: list[int], method: str) -> None:
    mean = np.average(class_weights(counts, method=method), weights=counts)
    assert mean == pytest.approx(1)


@pytest.mark.parametrize("method", CLASS_WEIGHTS)
@settings(deadline=None, derandomize=True)
@given(counts=counts_of_pixels)
def test_a_rarer_class_weighs_no_less(method: str, counts: list[int]) -> None:
    weights = class_weights(sorted(counts), method=method)
    assert all(math.isfinite(weight) and weight > 0 for weight in weights)
    for i in range(len(weights) - 1):
        assert weights[i] >= weights[i + 1] * (1 - 1e-9)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("balanced", [10 / 3, 10 / 3 / 4, 10 / 3 / 5]),
        ("inverse", [10 / 3, 10 / 3 / 4, 10 / 3 / 5]),
        ("inverse_sqrt", [10 / (3 + 5**0.5), 5 / (3 + 5**0.5), 2 * 5**0.5 / (3 + 5**0.5)]),
        ("median_frequency", [4.0, 1.0, 0.8]),
    ],
)
def test_weights_worked_by_hand(method: str, expected: list[float]) -> None:
    assert class_weights([1, 4, 5], method=method) == pytest.approx(expected)


def test_effective_number_is_its_formula() -> None:
    inverse = [(1 - 0.9) / (1 - 0.9**count) for count in (1, 4, 5)]
    expected = [3 * value / sum(inverse) for value in inverse]
    assert class_weights([1, 4, 5], method="effective_number") == pytest.approx(expected)
    assert class_weights([1, 0], method="effective_number") == [1.0, 0.0]


@pytest.mark.parametrize("method", CLASS_WEIGHTS)
def test_a_class_without_pixels_weighs_nothing_and_changes_nothing(method: str) -> None:
    first, *others = class_weights([7, 20, 1], method=method)
    assert class_weights([7, 0, 20, 1], method=method) == [first, 0.0, *others]


def test_pos_weight_balances_the_classes() -> None:
    assert pos_weight([2703, 100]) == 27.03
    weight = pos_weight([30, 6])
    target = torch.tensor([1] * 6 + [0] * 30).view(1, 6, 6)
    logits = torch.zeros(1, 1, 6, 6)
    logits.requires_grad_()
    BinaryCrossEntropy(pos_weight=weight)(logits, target).backward()
    assert logits.grad is not None
    assert logits.grad.sum().item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: class_weights([1, 2], method="inversed"), "no method 'inversed'.*balanced, inver"),
        (lambda: class_weights([0, 0], method="balanced"), "there is no pixel to count"),
        (lambda: class_weights([], method="balanced"), "there is no pixel to count"),
        (lambda: class_weights([3, -1], method="balanced"), r"a pixel count is below 0: \[3, -1\]"),
        (lambda: pos_weight([1, 2, 3]), "for two classes, not for 3"),
        (lambda: pos_weight([5, 0]), "no pixel is of class 1"),
        (lambda: pos_weight([0, 5]), "no pixel is of class 0"),
    ],
)
def test_bad_counts_are_named(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()
