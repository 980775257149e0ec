"""Rows 17 to 22: losses that teach nothing, or something else."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from benchmarks.faults import foreign_losses as foreign
from benchmarks.faults.case import Check, Fault, Strength

BINARY: dict[str, Any] = {"num_classes": 2, "target": "float"}
"""One logit channel, a float target of its shape."""

MULTI: dict[str, Any] = {"num_classes": 5}


@dataclass(frozen=True)
class _Faulty:
    """A loss with a fault, and what its author says of it."""

    name: str
    make: Callable[[], Any]
    said: dict[str, Any] = field(default_factory=lambda: MULTI)
    strength: Strength = "realistic"
    also: tuple[str, ...] = ()
    base: str = "functions"


def check_of_loss(loss: Any, **said: Any) -> Check:
    """`check_loss` with what the author says."""

    def check() -> list[Any]:
        from truemask.checks.losses import check_loss

        return check_loss(loss, **said)

    return check


def faults() -> Iterator[Fault]:
    """All of them."""
    groups = (
        (17, "TM401", _no_gradient()), (18, "TM402", _activations()),
        (19, "TM403", _weights_without_effect()), (19, "TM404", _wrong_weights()),
        (20, "TM406", _ignored()), (20, "TM407", _not_finite()), (21, "TM408", _axes()),
        (22, "TM409", _perfect()),
    )  # fmt: skip
    for row, code, members in groups:
        for faulty in members:
            yield Fault(
                row=row,
                code=code,
                name=faulty.name,
                strength=faulty.strength,
                base=faulty.base,
                prepare=lambda f=faulty: check_of_loss(f.make(), **f.said),
                also=faulty.also,
            )
    yield from _counted_weights()


def _no_gradient() -> Iterator[_Faulty]:
    yield _Faulty("softmax over one channel", lambda: foreign.softmax_of_one_channel, BINARY)
    yield _Faulty(
        "cross-entropy of one channel", lambda: nn.CrossEntropyLoss(), BINARY, base="torch"
    )
    yield _Faulty("Dice of the arg-max", foreign.ArgmaxDice, base="modules")
    yield _Faulty("IoU of a thresholded prediction", lambda: foreign.thresholded_iou, BINARY)
    yield _Faulty("rounded prediction", lambda: foreign.rounded_mse, BINARY)
    yield _Faulty("worked out in NumPy", foreign.ThroughNumpy, BINARY, base="modules")
    yield _Faulty("worked out without gradients", lambda: foreign.no_grad_dice, BINARY)
    yield _Faulty("detached prediction", lambda: foreign.detached_outputs, strength="strong")
    yield _Faulty(
        "logits clamped to a sliver", lambda: foreign.saturated_clamp, BINARY, "weak",
        also=("TM402",),
    )  # fmt: skip
    yield _Faulty("a gradient of next to nothing", lambda: foreign.vanishing, BINARY, "weak")


def _activations() -> Iterator[_Faulty]:
    yield _Faulty("softmax where its logarithm is expected", lambda: foreign.nll_of_softmax)
    yield _Faulty("softmax, then cross-entropy", foreign.CeOfSoftmax, base="modules")
    yield _Faulty("sigmoid, then BCE with logits", lambda: foreign.bce_of_sigmoid_twice, BINARY)
    yield _Faulty("Dice of raw logits", lambda: foreign.dice_on_raw_logits, BINARY)
    yield _Faulty("BCE of clamped logits", lambda: foreign.clamped_bce_on_logits, BINARY)
    yield _Faulty("Dice of two sigmoids", foreign.DoubleSigmoidDice, BINARY, base="modules")
    yield _Faulty("focal loss of two softmaxes", foreign.FocalOfSoftmax, base="modules")
    yield _Faulty("squared error of logits", lambda: foreign.mse_on_logits, BINARY, "weak")
    yield _Faulty(
        "softmax before one of two terms", foreign.SoftmaxThenDiceAndCe, strength="weak",
        base="modules",
    )  # fmt: skip
    probabilities = {"from_logits": False}
    yield _Faulty(
        "BCE with logits of probabilities", nn.BCEWithLogitsLoss, {**BINARY, **probabilities},
        base="torch",
    )  # fmt: skip
    yield _Faulty(
        "cross-entropy of probabilities", nn.CrossEntropyLoss, {**MULTI, **probabilities},
        base="torch",
    )  # fmt: skip
    yield _Faulty(
        "sigmoid Dice of probabilities", foreign.BinaryDice, {**BINARY, **probabilities},
        base="modules",
    )  # fmt: skip
    yield _Faulty(
        "log-likelihood of logits", nn.NLLLoss, strength="strong", base="torch",
        also=("TM409",),
    )  # fmt: skip


WEIGHTS: dict[Strength, tuple[float, ...]] = {
    "weak": (0.9, 1.1, 1.0, 1.0, 1.2),
    "realistic": (0.3, 1.0, 4.0, 0.8, 2.0),
    "strong": (0.05, 1.0, 40.0, 0.2, 9.0),
}
POS: dict[Strength, float] = {"weak": 1.5, "realistic": 27.03, "strong": 300.0}


def _weights_without_effect() -> Iterator[_Faulty]:
    for strength, weight in WEIGHTS.items():
        said = {**MULTI, "weight": weight}
        for name, kind in (
            ("a weight that is never used", foreign.ForgottenWeight),
            ("a weight after the mean", foreign.WeightedAfterMean),
            ("a weight that cancels", foreign.WeightCancels),
        ):
            yield _Faulty(name, lambda k=kind, w=weight: k(w), said, strength, base="modules")
        pos = POS[strength]
        said = {**BINARY, "weight": (1.0, pos)}
        for name, kind in (
            ("pos_weight given as weight", foreign.PosWeightAsWeight),
            ("the weighted loss replaced by a plain one", foreign.ShadowedLoss),
        ):
            yield _Faulty(name, lambda k=kind, p=pos: k(p), said, strength, base="modules")
    for strength, alpha in (("weak", 0.4), ("realistic", 0.25), ("strong", 0.05)):
        yield _Faulty(
            "focal alpha for both classes", lambda a=alpha: foreign.AlphaForAll(a),
            {**BINARY, "weight": (1 - alpha, alpha)}, strength, base="modules",
        )  # fmt: skip


def _wrong_weights() -> Iterator[_Faulty]:
    for strength, weight in WEIGHTS.items():
        said = {**MULTI, "weight": weight}
        for name, order in (
            ("weights in reverse order", (4, 3, 2, 1, 0)),
            ("weights one place off", (1, 2, 3, 4, 0)),
            ("two weights exchanged", (0, 1, 4, 3, 2)),
        ):
            yield _Faulty(
                name, lambda w=weight, o=order: foreign.ReorderedWeight(w, o), said, strength,
                base="modules",
            )  # fmt: skip
        yield _Faulty(
            "weights of the inverse meaning", lambda w=weight: foreign.InvertedWeight(w), said,
            strength, base="modules",
        )  # fmt: skip
        pos = POS[strength]
        yield _Faulty(
            "pos_weight upside down", lambda p=pos: foreign.InvertedPosWeight(p),
            {**BINARY, "weight": (1.0, pos)}, strength, base="modules",
        )  # fmt: skip


def _ignored() -> Iterator[_Faulty]:
    said = {**MULTI, "ignore_index": 255}
    yield _Faulty(
        "ignored pixels counted in the mean", foreign.MeanOverAll, said, "weak", base="modules"
    )
    yield _Faulty("ignored pixels as class 0", foreign.IgnoredAsBackground, said, base="modules")
    yield _Faulty("ignored pixels as the last class", foreign.IgnoredAsLast, said, base="modules")
    yield _Faulty(
        "Dice counts probabilities of ignored pixels", foreign.DiceCountsIgnored, said,
        base="modules",
    )  # fmt: skip
    yield _Faulty(
        "cross-entropy ignores, Dice does not", foreign.CeIgnoresDiceDoesNot, said, "weak",
        base="modules",
    )  # fmt: skip
    yield _Faulty(
        "ignored pixels as negatives", foreign.BceCountsIgnored, {**BINARY, "ignore_index": 255},
        base="modules",
    )  # fmt: skip


def _not_finite() -> Iterator[_Faulty]:
    said = {**MULTI, "ignore_index": 255}
    binary = BINARY
    yield _Faulty(
        "NaN where a whole batch is ignored", lambda: nn.CrossEntropyLoss(ignore_index=255), said,
        "weak", base="torch",
    )  # fmt: skip
    yield _Faulty(
        "NaN from the mean of no pixels", foreign.MaskedMeanOfNothing, said, "weak",
        base="modules",
    )  # fmt: skip
    yield _Faulty(
        "NaN where one sample is ignored", foreign.MeanOfSampleMeans, said, base="modules"
    )
    yield _Faulty("NaN where there is no positive", foreign.BalancedMeans, binary, base="modules")
    yield _Faulty(
        "infinite weight where a batch has no positive", foreign.BalancedInBatch, binary,
        base="modules",
    )  # fmt: skip
    yield _Faulty(
        "logarithm of 0 for a sure prediction", foreign.LogOfZero, binary, "strong",
        base="modules",
    )  # fmt: skip


def _axes() -> Iterator[_Faulty]:
    yield _Faulty("a view without a permutation", lambda: foreign.view_without_permute)
    yield _Faulty("softmax over the width", lambda: foreign.softmax_over_width)
    yield _Faulty("softmax over the batch", lambda: foreign.softmax_over_batch)
    yield _Faulty("height and width swapped", lambda: foreign.transposed_target, strength="strong")
    yield _Faulty("one-hot flattened in another order", foreign.DiceMixed, base="modules")
    yield _Faulty("batch and classes transposed", lambda: foreign.flattened_wrong_order)
    yield _Faulty("samples beside each other's masks", lambda: foreign.batch_mixed)


def _perfect() -> Iterator[_Faulty]:
    yield _Faulty("the coefficient itself is minimised", lambda: foreign.negated_dice, BINARY)
    yield _Faulty("labels inverted", lambda: foreign.inverted_labels, BINARY, "strong")
    yield _Faulty("a lost minus sign", lambda: foreign.plus_instead_of_minus, strength="strong")
    yield _Faulty("the wrong power of a focal loss", foreign.FocalWrongPower, base="modules")
    yield _Faulty("ids off by one", lambda: foreign.off_by_one)
    # From a factor of 2 on the best probability of a positive lies below 0.5.
    for strength, factor in (("weak", 2.5), ("realistic", 5.0), ("strong", 20.0)):
        yield _Faulty(
            "a penalty on the predicted area", lambda f=factor: foreign.SizePenalty(f), BINARY,
            strength, base="modules",
        )  # fmt: skip
    # Under a factor of 1 it is a regulariser that people use on purpose.
    for strength, factor in (("weak", 1.5), ("realistic", 4.0), ("strong", 20.0)):
        yield _Faulty(
            "a reward for unsure predictions", lambda f=factor: foreign.EntropyBonus(f), MULTI,
            strength, base="modules",
        )  # fmt: skip
    yield _Faulty("a sign inside Tversky", foreign.TverskySwappedSign, BINARY, base="modules")
    yield _Faulty(
        "Dice of the background's channel", foreign.DiceOfBackground, {"num_classes": 2},
        base="modules",
    )  # fmt: skip
    yield _Faulty(
        "focal loss of probabilities", foreign.FocalOnProbabilities,
        {**MULTI, "target": "one_hot", "from_logits": False}, base="modules", also=("TM402",),
    )  # fmt: skip


COUNTS = np.array([33_700_000, 22_700_000, 19_200_000, 12_700_000, 2_100_000], np.int64)
"""Pixels of five classes."""


def _counted_weights() -> Iterator[Fault]:
    """Row 19: weights held against the counts that they came from."""
    balanced = COUNTS.sum() / (len(COUNTS) * COUNTS)

    def fault(
        code: str, name: str, strength: Strength, weight: Any, ignored: int = 0, detail: str = ""
    ) -> Fault:
        def prepare() -> Check:
            def check() -> list[Any]:
                from truemask.checks.weighting import check_weights

                return check_weights(weight, COUNTS, num_classes=len(COUNTS), ignored=ignored)

            return check

        return Fault(
            row=19, code=code, name=name, strength=strength, base="weights", prepare=prepare,
            detail=detail,
        )  # fmt: skip

    yield fault("TM404", "frequencies as weights", "realistic", COUNTS / COUNTS.sum())
    yield fault("TM404", "counts as weights", "strong", COUNTS.astype(float))
    yield fault("TM404", "square roots of frequencies", "weak", np.sqrt(COUNTS / COUNTS.sum()))
    yield fault("TM404", "balanced weights in reverse order", "strong", balanced[::-1].copy())
    yield fault("TM404", "balanced weights one place off", "realistic", np.roll(balanced, 1))
    exchanged = balanced[[0, 2, 1, 3, 4]]
    yield fault("TM404", "balanced weights, two alike exchanged", "weak", exchanged)
    # 31 % is published. At 1 / (K + 1), 17 %, both mistakes in the formula cancel: 0.4 % is left.
    shares: tuple[tuple[Strength, float], ...] = (
        ("weak", 0.02), ("weak", 0.17), ("realistic", 0.31), ("strong", 0.5),
    )  # fmt: skip
    for strength, share in shares:
        ignored = int(share / (1 - share) * COUNTS.sum())
        total, classes = COUNTS.sum() + ignored, len(COUNTS) + 1
        yield fault(
            "TM405", "the ignored id counted as a class", strength, total / (classes * COUNTS),
            ignored, f"{share:.0%} of the pixels are ignored",
        )  # fmt: skip
        yield fault(
            "TM405", "a weight for the ignored id too", strength,
            total / (classes * np.append(COUNTS, ignored)), ignored,
            f"{share:.0%} of the pixels are ignored",
        )  # fmt: skip
