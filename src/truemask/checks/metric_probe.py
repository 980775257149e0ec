"""How a metric of unknown shape is called, found out by trying."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from truemask.checks.metric_references import Batch
from truemask.checks.untouched import copied, seed

Prediction = Literal["ids", "logits", "probabilities"]


@dataclass(frozen=True, kw_only=True)
class MetricForm:
    """One way to call a metric.

    Attributes:
        prediction: what it is given.
        channels: of a prediction with scores; 1 for two classes, 0 without a channel axis.
        target_channel: whether the target is (B, 1, H, W).
        arrays: whether both are NumPy arrays.
        float_target: whether the target holds floats.
    """

    prediction: Prediction
    channels: int = 0
    target_channel: bool = False
    arrays: bool = False
    float_target: bool = False

    def arguments(self, batch: Batch) -> tuple[Any, Any]:
        """Prediction and target as the metric takes them."""
        ids, truth = batch
        prediction = self._scores(ids)
        target = truth[:, None] if self.target_channel else truth.clone()
        target = target.float() if self.float_target else target
        if self.arrays:
            return prediction.numpy(), target.numpy()
        return prediction, target

    def _scores(self, ids: Tensor) -> Tensor:
        if self.prediction == "ids":
            return ids[:, None].clone() if self.channels else ids.clone()
        if self.channels > 1:
            hot = functional.one_hot(ids, self.channels).movedim(-1, 1).float()
            return 8 * hot - 4 if self.prediction == "logits" else 0.98 * hot + 0.02 / self.channels
        score = 8.0 * ids - 4 if self.prediction == "logits" else 0.96 * ids + 0.02
        return score[:, None] if self.channels else score


def metric_forms(num_classes: int) -> Iterator[MetricForm]:
    """Ways to try, the most usual first."""
    several = max(num_classes, 2)
    for arrays in (False, True):
        yield MetricForm(prediction="ids", arrays=arrays)
        for kind in ("logits", "probabilities"):
            for channel in (False, True):
                yield MetricForm(
                    prediction=kind, channels=several, target_channel=channel, arrays=arrays
                )
        if num_classes <= 2:
            yield from _binary(arrays)


def _binary(arrays: bool) -> Iterator[MetricForm]:
    for kind in ("probabilities", "logits"):
        for channels in (1, 0):
            for floats in (False, True):
                yield MetricForm(
                    prediction=kind,
                    channels=channels,
                    target_channel=channels == 1,
                    float_target=floats,
                    arrays=arrays,
                )
    yield MetricForm(prediction="ids", channels=1, target_channel=True, arrays=arrays)


class MetricProbe:
    """A metric and how to call it: a function of a batch, or an object that is updated.

    Args:
        metric: a callable, or an object with `update`, `compute` and `reset`.
        form: what it takes.
    """

    def __init__(self, metric: Any, form: MetricForm) -> None:
        self.metric, self.form = metric, form
        self.stateful = is_stateful(metric)

    def value(self, batches: Sequence[Batch]) -> float:
        """The figure after these batches; of a function, that of all in one batch.

        Raises:
            Exception: whatever the metric raises.
        """
        seed(0)
        if not self.stateful:
            joined = tuple(torch.cat(parts) for parts in zip(*batches, strict=True))
            return figure(self.metric(*self.form.arguments((joined[0], joined[1]))))
        metric = copied(self.metric)
        metric.reset()
        for batch in batches:
            metric.update(*self.form.arguments(batch))
        return figure(metric.compute())

    def after_reset(self, before: Batch, batch: Batch) -> float:
        """The figure of one batch, after another and a reset."""
        metric = copied(self.metric)
        metric.reset()
        metric.update(*self.form.arguments(before))
        metric.compute()
        metric.reset()
        metric.update(*self.form.arguments(batch))
        return figure(metric.compute())


def is_stateful(metric: Any) -> bool:
    """Whether it is updated batch by batch."""
    return all(callable(getattr(metric, name, None)) for name in ("update", "compute", "reset"))


def figure(outcome: Any) -> float:
    """One number of what was returned: the mean of several classes, the first of several scores."""
    if isinstance(outcome, Mapping):
        return figure(next(iter(outcome.values())))
    if isinstance(outcome, tuple):
        return figure(outcome[0])
    if outcome is None:
        raise TypeError("it returned nothing (None) where a figure is a number")
    values = outcome.detach().cpu().numpy() if isinstance(outcome, Tensor) else np.asarray(outcome)
    values = values.astype(np.float64)
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan
