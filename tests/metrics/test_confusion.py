import math

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import sklearn.metrics
import torch
import torchmetrics
from hypothesis import given, settings
from hypothesis import strategies as st

from truemask.errors import UsageError
from truemask.metrics.confusion import (
    confusion_matrices,
    dice,
    f1,
    frequency_weighted_iou,
    headline,
    iou,
    margins,
    mean_accuracy,
    mean_over_classes,
    pixel_accuracy,
    precision,
    recall,
)

PER_CLASS = [iou, dice, precision, recall, f1]
SCALARS = [pixel_accuracy, mean_accuracy, frequency_weighted_iou]
IGNORED = 255


def random_ids(*, batch, classes, seed, ignored_share=0.1, right_share=0.6, size=(9, 14)):
    """Truth with ignored pixels, and a prediction that is right rather often."""
    rng = np.random.default_rng(seed)
    shape = (batch, *size)
    truth = rng.integers(classes, size=shape)
    prediction = np.where(rng.random(shape) < right_share, truth, rng.integers(classes, size=shape))
    truth[rng.random(shape) < ignored_share] = IGNORED
    return torch.from_numpy(truth.astype(np.uint8)), torch.from_numpy(prediction.astype(np.uint8))


def counted(truth, prediction):
    keep = truth != IGNORED
    return truth[keep].numpy(), prediction[keep].numpy()


@st.composite
def cases(draw):
    """Ids of a few pixels, with classes that may be absent and images that may be all ignored."""
    classes = draw(st.integers(2, 6))
    batch, height, width = (draw(st.integers(1, 4)) for _ in range(3))
    shape = (batch, height, width)
    ids = st.integers(0, classes - 1)
    pixels = batch * height * width
    truth = draw(st.lists(ids | st.just(IGNORED), min_size=pixels, max_size=pixels))
    prediction = draw(st.lists(ids, min_size=pixels, max_size=pixels))
    return (
        torch.tensor(truth, dtype=torch.uint8).view(shape),
        torch.tensor(prediction, dtype=torch.uint8).view(shape),
        classes,
    )


# Counting


def test_a_table_worked_by_hand():
    truth = torch.tensor([[[0, 0, 1], [1, 2, IGNORED]]], dtype=torch.uint8)
    prediction = torch.tensor([[[0, 1, 1], [1, 0, 2]]], dtype=torch.uint8)
    matrix = confusion_matrices(truth, prediction, num_classes=4).numpy()
    assert matrix.tolist() == [[[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]]
    total = matrix[0]
    np.testing.assert_array_equal(iou(total), [1 / 3, 2 / 3, 0, np.nan])
    np.testing.assert_array_equal(dice(total), [1 / 2, 4 / 5, 0, np.nan])
    np.testing.assert_array_equal(precision(total), [1 / 2, 2 / 3, 0, np.nan])
    np.testing.assert_array_equal(recall(total), [1 / 2, 1, 0, np.nan])
    assert pixel_accuracy(total) == 3 / 5
    assert mean_accuracy(total) == (1 / 2 + 1 + 0) / 3
    assert frequency_weighted_iou(total) == pytest.approx(2 / 5 * 1 / 3 + 2 / 5 * 2 / 3)
    assert headline(iou(total)) == (1 / 3 + 2 / 3 + 0) / 3


@given(cases())
def test_counts_equal_those_of_scikit_learn(case):
    truth, prediction, classes = case
    matrices = confusion_matrices(truth, prediction, num_classes=classes)
    assert matrices.dtype == torch.int64
    assert matrices.shape == (len(truth), classes, classes)
    for matrix, one_truth, one_prediction in zip(matrices, truth, prediction, strict=True):
        if (one_truth == IGNORED).all():
            assert matrix.sum() == 0
            continue
        expected = sklearn.metrics.confusion_matrix(
            *counted(one_truth, one_prediction), labels=range(classes)
        )
        np.testing.assert_array_equal(matrix.numpy(), expected)


@given(cases(), st.randoms(use_true_random=False))
def test_moving_pixels_about_changes_no_count(case, random):
    truth, prediction, classes = case
    order = list(range(truth[0].numel()))
    random.shuffle(order)
    moved = [ids.flatten(1)[:, order].unsqueeze(1) for ids in (truth, prediction)]
    before = confusion_matrices(truth, prediction, num_classes=classes)
    assert torch.equal(confusion_matrices(*moved, num_classes=classes), before)


@given(cases(), st.data())
def test_splitting_a_batch_changes_no_count(case, data):
    truth, prediction, classes = case
    cut = data.draw(st.integers(0, len(truth)))
    whole = confusion_matrices(truth, prediction, num_classes=classes)
    parts = [
        confusion_matrices(truth[part], prediction[part], num_classes=classes)
        for part in (slice(0, cut), slice(cut, None))
    ]
    assert torch.equal(torch.cat(parts), whole)


@given(cases(), st.randoms(use_true_random=False))
def test_renaming_classes_permutes_counts_and_scores(case, random):
    truth, prediction, classes = case
    order = list(range(classes))
    random.shuffle(order)
    table = torch.arange(256, dtype=torch.uint8)
    table[:classes] = torch.tensor(order, dtype=torch.uint8)
    before = confusion_matrices(truth, prediction, num_classes=classes).numpy()
    after = confusion_matrices(
        table[truth.long()], table[prediction.long()], num_classes=classes
    ).numpy()
    np.testing.assert_array_equal(after[:, order][:, :, order], before)
    for score in PER_CLASS:
        np.testing.assert_array_equal(score(after)[:, order], score(before))
    for score in SCALARS:
        np.testing.assert_allclose(score(after), score(before), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_every_integer_dtype_counts_alike(dtype):
    truth, prediction = random_ids(batch=2, classes=5, seed=0)
    expected = confusion_matrices(truth, prediction, num_classes=5)
    assert torch.equal(
        confusion_matrices(truth.to(dtype), prediction.to(dtype), num_classes=5), expected
    )


def test_ids_do_not_wrap_around_in_a_small_dtype():
    # An int8 of -1 has the bits of 255, and a uint8 of 156 those of -100.
    ids = torch.zeros(1, 1, 2, dtype=torch.uint8)
    negative = torch.tensor([[[0, -1]]], dtype=torch.int8)
    with pytest.raises(UsageError, match="truth holds the id -1"):
        confusion_matrices(negative, ids, num_classes=3, ignore_index=255)
    with pytest.raises(UsageError, match="truth holds the id 156"):
        confusion_matrices(ids + 156, ids, num_classes=3, ignore_index=-100)
    assert confusion_matrices(negative, ids, num_classes=3, ignore_index=-1).sum() == 1
    assert confusion_matrices(ids, ids, num_classes=300).sum() == 2


def test_memory_layout_does_not_matter():
    truth, prediction = random_ids(batch=3, classes=4, seed=1)
    expected = confusion_matrices(truth, prediction, num_classes=4)
    turned = truth.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    assert not turned.is_contiguous()
    assert torch.equal(confusion_matrices(turned, prediction, num_classes=4), expected)


def test_arguments_stay_as_they_were():
    truth, prediction = (ids.long() for ids in random_ids(batch=2, classes=3, seed=2))
    before = truth.clone(), prediction.clone()
    confusion_matrices(truth, prediction, num_classes=3)
    assert torch.equal(truth, before[0])
    assert torch.equal(prediction, before[1])


@pytest.mark.parametrize("ignore_index", [255, 3, -100])
def test_what_is_predicted_at_ignored_pixels_does_not_matter(ignore_index):
    truth = torch.tensor([[[0, 1, ignore_index, ignore_index]]])
    prediction = torch.tensor([[[0, 1, 2, 77]]])
    matrix = confusion_matrices(truth, prediction, num_classes=3, ignore_index=ignore_index)
    assert matrix.tolist() == [[[1, 0, 0], [0, 1, 0], [0, 0, 0]]]


def test_a_class_itself_may_be_ignored():
    truth = torch.tensor([[[0, 1, 1, 2]]])
    prediction = torch.tensor([[[0, 1, 0, 2]]])
    matrix = confusion_matrices(truth, prediction, num_classes=3, ignore_index=0)
    assert matrix.tolist() == [[[0, 0, 0], [1, 1, 0], [0, 0, 1]]]


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        ([[[0, 3]]], [[[0, 0]]], "truth holds the id 3, which is neither a class \\(0 to 2\\)"),
        ([[[0, -1]]], [[[0, 0]]], "truth holds the id -1"),
        ([[[0, 0]]], [[[0, 3]]], "prediction holds the id 3"),
        ([[[0, 0]]], [[[0, 255]]], "prediction holds the id 255"),
        ([[[0, 0]]], [[[0, 0, 0]]], r"\(1, 1, 2\) and \(1, 1, 3\)"),
        ([[0, 0]], [[0, 0]], r"must both be \(B, H, W\)"),
        ([[[0.0, 0]]], [[[0, 0]]], "truth must hold integer class ids, got torch.float32"),
        ([[[0, 0]]], [[[True, False]]], "prediction must hold integer class ids, got torch.bool"),
    ],
)
def test_ids_that_cannot_be_counted_are_refused(truth, prediction, message):
    with pytest.raises(UsageError, match=message):
        confusion_matrices(torch.tensor(truth), torch.tensor(prediction), num_classes=3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_counts_as_the_cpu_does_and_does_not_wait():
    truth, prediction = random_ids(batch=4, classes=19, seed=3, size=(64, 96))
    expected = confusion_matrices(truth, prediction, num_classes=19)
    truth, prediction = truth.cuda(), prediction.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        matrices = confusion_matrices(truth, prediction, num_classes=19)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(matrices.cpu(), expected)


# Scoring


@given(cases())
def test_scores_equal_those_of_scikit_learn(case):
    truth, prediction, classes = case
    total = confusion_matrices(truth, prediction, num_classes=classes).sum(0).numpy()
    y_true, y_pred = counted(truth, prediction)
    if len(y_true) == 0:
        assert all(np.isnan(score(total)).all() for score in PER_CLASS + SCALARS)
        return
    absent = [k for k in range(classes) if k not in y_true and k not in y_pred]
    references = {
        iou: sklearn.metrics.jaccard_score,
        precision: sklearn.metrics.precision_score,
        recall: sklearn.metrics.recall_score,
        dice: sklearn.metrics.f1_score,
        f1: sklearn.metrics.f1_score,
    }
    for score, reference in references.items():
        expected = reference(y_true, y_pred, labels=range(classes), average=None, zero_division=0.0)
        expected[absent] = np.nan
        np.testing.assert_allclose(score(total), expected, rtol=1e-12)
    assert pixel_accuracy(total) == pytest.approx(sklearn.metrics.accuracy_score(y_true, y_pred))
    occurring = np.unique(y_true)
    assert mean_accuracy(total) == pytest.approx(
        sklearn.metrics.recall_score(
            y_true, y_pred, labels=occurring, average="macro", zero_division=0.0
        )
    )
    shares = {k: float(np.mean(y_true == k)) for k in occurring}
    assert frequency_weighted_iou(total) == pytest.approx(
        sum(share * iou(total)[k] for k, share in shares.items())
    )


@pytest.mark.parametrize("classes", [2, 5, 19])
def test_scores_equal_those_of_torchmetrics(classes):
    truth, prediction = random_ids(batch=3, classes=classes, seed=classes, size=(40, 50))
    total = confusion_matrices(truth, prediction, num_classes=classes).sum(0).numpy()

    def reference(metric, average):
        values = metric(
            task="multiclass", num_classes=classes, ignore_index=IGNORED, average=average
        )
        return values(prediction.int(), truth.int()).numpy()

    jaccard, accuracy = torchmetrics.JaccardIndex, torchmetrics.Accuracy
    np.testing.assert_allclose(iou(total), reference(jaccard, "none"), rtol=1e-6)
    np.testing.assert_allclose(
        mean_over_classes(iou(total)), reference(jaccard, "macro"), rtol=1e-6
    )
    np.testing.assert_allclose(
        frequency_weighted_iou(total), reference(jaccard, "weighted"), rtol=1e-6
    )
    np.testing.assert_allclose(pixel_accuracy(total), reference(accuracy, "micro"), rtol=1e-6)
    np.testing.assert_allclose(mean_accuracy(total), reference(accuracy, "macro"), rtol=1e-6)
    np.testing.assert_allclose(recall(total), reference(accuracy, "none"), rtol=1e-6)
    np.testing.assert_allclose(
        precision(total), reference(torchmetrics.Precision, "none"), rtol=1e-6
    )
    np.testing.assert_allclose(f1(total), reference(torchmetrics.F1Score, "none"), rtol=1e-6)


def test_the_binary_headline_is_the_foreground_of_torchmetrics():
    truth, prediction = random_ids(batch=3, classes=2, seed=0)
    total = confusion_matrices(truth, prediction, num_classes=2).sum(0).numpy()
    reference = torchmetrics.JaccardIndex(task="binary", ignore_index=IGNORED)
    assert headline(iou(total)) == pytest.approx(float(reference(prediction, truth.int())))
    assert headline(iou(total)) != mean_over_classes(iou(total))


@pytest.mark.parametrize("classes", [2, 5])
def test_scores_of_each_image_equal_those_of_segmentation_models_pytorch(classes):
    truth, prediction = random_ids(batch=4, classes=classes, seed=7)
    matrices = confusion_matrices(truth, prediction, num_classes=classes).numpy()
    stats = smp.metrics.get_stats(
        prediction.long(),
        torch.where(truth == IGNORED, -1, truth.long()),
        mode="multiclass",
        num_classes=classes,
        ignore_index=-1,
    )
    references = {
        iou: smp.metrics.iou_score,
        dice: smp.metrics.f1_score,
        f1: smp.metrics.f1_score,
        precision: smp.metrics.precision,
        recall: smp.metrics.recall,
    }
    for score, reference in references.items():
        np.testing.assert_allclose(score(matrices), reference(*stats).numpy(), rtol=1e-5)


@pytest.mark.parametrize("score", PER_CLASS + SCALARS)
@pytest.mark.parametrize("classes", [2, 3, 150])
def test_a_perfect_prediction_scores_one(score, classes):
    truth, _ = random_ids(batch=2, classes=classes, seed=0, size=(60, 60))
    matrices = confusion_matrices(truth, truth.clamp(max=classes - 1), num_classes=classes).numpy()
    np.testing.assert_array_equal(score(matrices.sum(0)), 1.0)


@pytest.mark.parametrize("score", [*PER_CLASS, pixel_accuracy, mean_accuracy])
def test_a_wholly_wrong_prediction_scores_zero(score):
    assert not score(np.array([[0, 5, 0], [0, 0, 3], [2, 0, 0]])).any()


@given(cases())
def test_scores_are_shares_and_nan_only_where_a_class_does_not_occur(case):
    truth, prediction, classes = case
    matrices = confusion_matrices(truth, prediction, num_classes=classes).numpy()
    occurs = matrices.sum(-1) + matrices.sum(-2) > 0
    for score in PER_CLASS:
        values = score(matrices)
        np.testing.assert_array_equal(~np.isnan(values), occurs)
        assert ((values[occurs] >= 0) & (values[occurs] <= 1)).all()
    np.testing.assert_allclose(dice(matrices), 2 * iou(matrices) / (1 + iou(matrices)), rtol=1e-12)
    for score in SCALARS:
        np.testing.assert_array_equal(~np.isnan(score(matrices)), occurs.any(-1))


@given(cases())
def test_scores_of_a_stack_are_those_of_each_matrix_and_of_its_margins(case):
    truth, prediction, classes = case
    matrices = confusion_matrices(truth, prediction, num_classes=classes).numpy()
    for score in PER_CLASS + SCALARS:
        one_by_one = np.stack([score(matrix) for matrix in matrices])
        np.testing.assert_array_equal(score(matrices), one_by_one)
        np.testing.assert_array_equal(score(margins(matrices)), one_by_one)
        np.testing.assert_array_equal(score(matrices.astype(np.float64)), one_by_one)


def test_a_class_that_was_only_invented_or_only_missed_scores_zero():
    only_invented = np.array([[8, 2, 0], [0, 0, 0], [0, 0, 0]])
    for matrix in (only_invented, only_invented.T):
        for score in PER_CLASS:
            values = score(matrix)
            assert values[1] == 0
            assert math.isnan(values[2])
    # The invented class is in the mean of the IoU, and not in that of the true classes' recall.
    assert headline(iou(only_invented)) == (0.8 + 0) / 2
    assert mean_accuracy(only_invented) == 0.8
    assert mean_accuracy(only_invented.T) == (1 + 0) / 2


def test_an_absent_foreground_has_no_headline():
    assert math.isnan(headline(iou(np.array([[9, 0], [0, 0]]))))
    assert headline(iou(np.array([[9, 1], [0, 0]]))) == 0
    assert headline(iou(np.array([[0, 0], [0, 4]]))) == 1


def test_counts_beyond_float32_and_int32_stay_exact():
    pixels = (1 << 40) + 1
    matrix = np.array([[pixels, 0], [0, pixels]])
    assert pixel_accuracy(matrix) == 1
    assert iou(matrix).tolist() == [1, 1]


@settings(max_examples=20)
@given(cases())
def test_the_mean_leaves_out_what_is_nan_as_nanmean_does(case):
    truth, prediction, classes = case
    scores = iou(confusion_matrices(truth, prediction, num_classes=classes).numpy())
    for row, mean in zip(scores, mean_over_classes(scores), strict=True):
        if np.isnan(row).all():
            assert math.isnan(mean)
        else:
            assert mean == pytest.approx(np.nanmean(row))
