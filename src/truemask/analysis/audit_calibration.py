"""What a model's probabilities are worth on images it was not trained on: what is a surprise.

A temperature makes confidences honest (Guo et al. 2017, "On Calibration of Modern Neural
Networks"). One number cannot tell that this model takes pavement for road and never road for sky;
so the result is mixed with how often each class was given by the labels where the model said what
it says, as sure as it is. A class that the model always confuses with another is then no evidence
against a label: the class-conditional thresholds of confident learning (Northcutt et al. 2021),
made smooth.

Both are fitted to labels that hold the very errors that are looked for: the images that fit worst
are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from scipy.optimize import minimize_scalar

from truemask.labels import LabelMap

EDGES = (0.5, 0.7, 0.85, 0.95, 0.99)
"""Between the bins of confidence."""

TRIMMED = 0.2
"""Share of the images, those whose labels fit worst, that a fit leaves out."""

PIXELS = 4000
"""Of an image that are looked at, at most."""

_COLDEST, _HOTTEST = 0.2, 10.0


@dataclass(frozen=True)
class Drawn:
    """Valid pixels of one image, drawn at random: the logits of all classes, and the label."""

    logits: Float32[np.ndarray, "n K"]
    labels: Int64[np.ndarray, " n"]


@dataclass(frozen=True)
class Calibration:
    """How a model's logits become the probability of each label.

    Attributes:
        temperature: by which logits are divided.
        reliability: [predicted class, bin of confidence, class] -> share of labels; sums to 1 over
            the last.
        images: how many were looked at.
        loss_before: mean -log p(label) of the drawn pixels at temperature 1, of the images that
            were fitted to: without the share `TRIMMED`.
        loss_after: the same of what `log_probabilities` gives, of the same images.
    """

    temperature: float
    reliability: Float64[np.ndarray, "K bins K"]
    images: int
    loss_before: float
    loss_after: float

    def log_probabilities(
        self, logits: Float32[np.ndarray, "K ..."]
    ) -> Float32[np.ndarray, "K ..."]:
        """The log probability of each label, of logits with a channel for every class.

        The class of the highest logit need not be the most probable label afterwards.
        """
        tempered = torch.from_numpy(np.ascontiguousarray(logits)).float() / self.temperature
        probabilities = tempered.softmax(0).numpy()
        best = probabilities.argmax(0)
        confidence = np.take_along_axis(probabilities, best[None], 0)[0]
        table = self.reliability[best, np.digitize(confidence, EDGES)]
        usual = np.moveaxis(table, -1, 0) if self.images else probabilities
        mixed = 0.5 * probabilities + 0.5 * usual
        found: Float32[np.ndarray, "K ..."] = np.log(np.maximum(mixed, 1e-12)).astype(np.float32)
        return found


def class_logits(
    logits: Float32[torch.Tensor, "L H W"], labels: LabelMap
) -> Float32[np.ndarray, "K H W"]:
    """A channel for every class, also of a binary task, whose softmax is the probability."""
    if labels.num_classes == 2 and logits.shape[0] == 1:
        logits = torch.cat((torch.zeros_like(logits), logits))
    found: Float32[np.ndarray, "K H W"] = logits.float().cpu().numpy()
    return found


def draw(
    logits: Float32[np.ndarray, "K H W"],
    mask: np.ndarray[Any, np.dtype[np.uint8]],
    *,
    ignored: int,
    seed: int,
) -> Drawn:
    """Valid pixels of an image, `PIXELS` at most, the same for the same seed."""
    valid = np.flatnonzero(mask.ravel() != ignored)
    if len(valid) > PIXELS:
        valid = np.sort(np.random.default_rng(seed).choice(valid, PIXELS, replace=False))
    return Drawn(
        np.ascontiguousarray(logits.reshape(len(logits), -1)[:, valid].T),
        mask.ravel()[valid].astype(np.int64),
    )


def fit(drawn: Sequence[Drawn]) -> Calibration:
    """The calibration of some images.

    Args:
        drawn: pixels of each; images without a valid pixel are passed over.

    Returns:
        The calibration; where there is no pixel at all, one that changes nothing.
    """
    known = [one for one in drawn if len(one.labels)]
    if not known:
        classes = drawn[0].logits.shape[1] if drawn else 2
        flat = np.full((classes, len(EDGES) + 1, classes), 1 / classes)
        return Calibration(1.0, flat, 0, 0.0, 0.0)
    plain = np.array([_loss(one, 1.0) for one in known])
    fitting = np.argsort(plain, kind="stable")[: max(1, round(len(known) * (1 - TRIMMED)))]
    kept = [known[index] for index in fitting]
    found = minimize_scalar(
        lambda log: float(np.mean([_loss(one, float(np.exp(log))) for one in kept])),
        bounds=(np.log(_COLDEST), np.log(_HOTTEST)),
        method="bounded",
    )
    temperature = float(np.exp(found.x))
    calibration = Calibration(temperature, _reliability(kept, temperature), len(known), 0.0, 0.0)
    after = [
        float(
            -calibration.log_probabilities(one.logits.T)[one.labels, range(len(one.labels))].mean()
        )
        for one in kept
    ]
    before = float(plain[fitting].mean())
    return replace(calibration, loss_before=before, loss_after=float(np.mean(after)))


def _loss(one: Drawn, temperature: float) -> float:
    """Mean -log p(label) of one image."""
    logits = torch.from_numpy(one.logits) / temperature
    return float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(one.labels)))


def _reliability(drawn: Sequence[Drawn], temperature: float) -> Float64[np.ndarray, "K bins K"]:
    """Counted, and drawn towards the model's own word where there is little to count.

    Each cell starts with one pixel an image's worth of the mean probabilities there, so that a cell
    which few pixels fall into says what the model says.
    """
    classes, bins = drawn[0].logits.shape[1], len(EDGES) + 1
    counts = np.zeros((classes, bins, classes))
    said = np.full((classes, bins, classes), 1e-6)
    for one in drawn:
        probabilities = (torch.from_numpy(one.logits) / temperature).softmax(1).numpy()
        best = probabilities.argmax(1)
        cell = np.digitize(probabilities.max(1), EDGES)
        np.add.at(counts, (best, cell, one.labels), 1.0)
        np.add.at(said, (best, cell), probabilities)
    said += np.eye(classes)[:, None, :] * 1e-3
    prior = said / said.sum(2, keepdims=True)
    weight = 50.0
    shares: Float64[np.ndarray, "K bins K"] = (counts + weight * prior) / (
        counts.sum(2, keepdims=True) + weight
    )
    return shares
