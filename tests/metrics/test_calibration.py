import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from truemask.metrics.calibration import (
    BINS,
    UNIT,
    accuracy,
    calibration_error,
    fit_temperature,
    mean_confidence,
    reliability_counts,
)


def drawn(seed, pixels=4000, classes=4):
    """Confidences, whether they are right, and predicted classes."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(1 / classes, 1, pixels).astype(np.float32)
    return confidence, rng.random(pixels) < confidence**2, rng.integers(0, classes, pixels)


def loop_error(confidence, correct):
    """The definition, bin by bin: Guo et al. 2017, equation 3."""
    error = 0.0
    for m in range(1, BINS + 1):
        inside = [i for i, c in enumerate(confidence) if (m - 1) / BINS < float(c) <= m / BINS]
        if inside:
            mean = sum(float(confidence[i]) for i in inside) / len(inside)
            right = sum(bool(correct[i]) for i in inside) / len(inside)
            error += len(inside) / len(confidence) * abs(right - mean)
    return error


@pytest.mark.parametrize("seed", range(3))
def test_the_error_is_that_of_a_plain_loop(seed):
    confidence, correct, predicted = drawn(seed)
    counts = reliability_counts(confidence, correct, predicted.astype(np.uint8), num_classes=4)
    assert float(calibration_error(counts.sum(0))) == pytest.approx(
        loop_error(confidence, correct), abs=1e-7
    )
    for k in range(4):
        own = predicted == k
        assert float(calibration_error(counts[k])) == pytest.approx(
            loop_error(confidence[own], correct[own]), abs=1e-7
        )
        assert float(mean_confidence(counts[k].sum(0))) == pytest.approx(
            confidence[own].astype(float).mean(), abs=1e-7
        )
        assert float(accuracy(counts[k].sum(0))) == pytest.approx(correct[own].mean())


@pytest.mark.parametrize("seed", range(3))
def test_the_error_is_that_of_torchmetrics(seed):
    from torchmetrics.functional.classification import multiclass_calibration_error

    rng = np.random.default_rng(seed)
    probabilities = torch.from_numpy(rng.dirichlet(np.ones(5) * 0.5, 3000)).float()
    truth = torch.from_numpy(rng.integers(0, 5, 3000))
    confidence, predicted = probabilities.max(1)
    counts = reliability_counts(
        confidence.numpy(),
        (predicted == truth).numpy(),
        predicted.numpy().astype(np.uint8),
        num_classes=5,
    )
    expected = multiclass_calibration_error(probabilities, truth, num_classes=5, n_bins=BINS)
    assert float(calibration_error(counts.sum(0))) == pytest.approx(float(expected), abs=1e-6)


def test_a_model_that_is_always_as_sure_has_the_gap_as_its_error():
    confidence = np.full(1000, 0.9, dtype=np.float32)
    correct = np.arange(1000) < 700
    counts = reliability_counts(confidence, correct, np.zeros(1000, np.uint8), num_classes=2)
    assert float(calibration_error(counts.sum(0))) == pytest.approx(0.2, abs=1e-7)
    assert float(calibration_error(counts[0])) == pytest.approx(0.2, abs=1e-7)
    assert np.isnan(calibration_error(counts[1]))
    right = reliability_counts(
        np.ones(10, np.float32), np.ones(10, bool), np.zeros(10, np.uint8), num_classes=2
    )
    assert float(calibration_error(right.sum(0))) == 0.0


@given(st.integers(0, 1000), st.integers(1, 3999))
def test_counts_of_parts_add_up_to_the_bit(seed, cut):
    confidence, correct, predicted = drawn(seed)
    predicted = predicted.astype(np.uint8)
    whole = reliability_counts(confidence, correct, predicted, num_classes=4)
    parts = [
        reliability_counts(confidence[s], correct[s], predicted[s], num_classes=4)
        for s in (slice(cut, None), slice(cut))
    ]
    assert (parts[0] + parts[1] == whole).all()
    assert whole[..., 0].sum() == len(confidence)
    assert whole[..., 2].sum() == correct.sum()
    # Above one half a float32 is a whole number of units.
    high = confidence >= 0.5
    units = reliability_counts(confidence[high], correct[high], predicted[high], num_classes=4)
    exact = confidence[high].astype(np.float64).sum()
    assert units[..., 1].sum() * UNIT == exact


def simulated(*, temperature, pixels, classes, seed=0):
    """Logits whose truth is drawn at a temperature; one channel for two classes."""
    rng = np.random.default_rng(seed)
    channels = 1 if classes == 2 else classes
    logits = rng.normal(0, 4, (pixels, channels))
    full = np.concatenate((np.zeros((pixels, 1)), logits), 1) if channels == 1 else logits
    noise = rng.gumbel(size=full.shape)  # arg-max of logits + Gumbel noise draws from softmax
    truth = (full / temperature + noise).argmax(1).astype(np.uint8)
    return logits.astype(np.float32), truth


@pytest.mark.parametrize("classes", [2, 3, 11])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.7])
def test_the_temperature_that_drew_the_truth_is_found(classes, temperature):
    logits, truth = simulated(temperature=temperature, pixels=60_000, classes=classes)
    found = fit_temperature(logits, truth, np.ones(len(truth)))
    assert found.value == pytest.approx(temperature, rel=0.03)
    assert found.after <= found.before
    assert not found.bounded


@pytest.mark.parametrize("classes", [2, 4])
def test_no_other_temperature_is_more_likely(classes):
    logits, truth = simulated(temperature=1.6, pixels=2000, classes=classes, seed=3)
    weights = np.random.default_rng(1).uniform(0.5, 3, len(truth))
    found = fit_temperature(logits, truth, weights)

    def likelihood(temperature):
        scaled = torch.from_numpy(logits).double() / temperature
        if classes == 2:
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                scaled[:, 0], torch.from_numpy(truth).double(), reduction="none"
            )
        else:
            loss = torch.nn.functional.cross_entropy(
                scaled, torch.from_numpy(truth).long(), reduction="none"
            )
        return float((loss.numpy() * weights).sum() / weights.sum())

    assert found.before == pytest.approx(likelihood(1.0))
    assert found.after == pytest.approx(likelihood(found.value))
    for factor in (0.9, 0.999, 1.001, 1.1):
        assert likelihood(found.value * factor) > found.after


def test_what_cannot_be_fitted_stops_at_the_bound():
    logits = np.array([[3.0], [-2.0]], dtype=np.float32)
    right = fit_temperature(logits, np.array([1, 0], np.uint8), np.ones(2))
    assert right.bounded
    assert right.value == pytest.approx(0.05)
    wrong = fit_temperature(logits, np.array([0, 1], np.uint8), np.ones(2))
    assert wrong.bounded
    assert wrong.value == pytest.approx(20.0)
