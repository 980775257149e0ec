"""One training step, one validation step: model, loss, moving average, learning rate."""

import copy
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric

from truemask.data.collate import Batch
from truemask.data.randomness import address_seed
from truemask.labels import LabelMap
from truemask.metrics.confusion import confusion_matrices
from truemask.models.segmenter import Segmenter
from truemask.models.tiling import image_logits
from truemask.training.schedules import Progress, Schedule


class ConfusionTotal(Metric):
    """The confusion matrix of all images, summed over processes."""

    full_state_update = False

    def __init__(self, labels: LabelMap) -> None:
        super().__init__()
        self.labels = labels
        shape = (labels.num_classes, labels.num_classes)
        self.add_state("matrix", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, truth: Tensor, prediction: Tensor) -> None:
        """Add images, (B, H, W) class ids each."""
        self.matrix += confusion_matrices(
            truth,
            prediction,
            num_classes=self.labels.num_classes,
            ignore_index=self.labels.ignore_index,
        ).sum(0)

    def compute(self) -> Tensor:
        """(K, K) int64."""
        matrix: Tensor = self.matrix
        return matrix


class Prediction(NamedTuple):
    """A validation image (C, H, W), its mask and what is predicted, (H, W) class ids each."""

    image: Tensor
    truth: Tensor
    ids: Tensor


class Limits:
    """How far a training is, by the limit that comes first.

    Args:
        steps: optimiser steps in all, or `None`.
        seconds: time in all, or `None`.
    """

    def __init__(self, *, steps: int | None, seconds: float | None) -> None:
        assert steps is not None or seconds is not None
        self.steps = steps
        self.seconds = seconds

    def fraction(self, *, step: int, seconds: float) -> float:
        """Share of the training that is done, 0 to 1."""
        shares = [0.0]
        if self.steps is not None:
            shares.append(step / self.steps)
        if self.seconds is not None:
            shares.append(seconds / self.seconds)
        return min(1.0, max(shares))


class WeightAverage(nn.Module):
    """An exponential moving average of a model's weights, its batch-norm statistics included.

    The decay after n steps is min(cap, (1 + n) / (10 + n)), as in TensorFlow's
    `ExponentialMovingAverage`, so that the random start is forgotten and short trainings profit
    too.

    Args:
        model: it is copied.
        cap: the largest decay.
    """

    def __init__(self, model: Segmenter, *, cap: float) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.cap = cap

    @torch.no_grad()
    def update(self, model: Segmenter, *, step: int) -> None:
        """Take in the weights after `step` optimiser steps."""
        weight = 1 - min(self.cap, (1 + step) / (10 + step))
        averages, values = [], []
        for average, value in zip(_tensors(self.model), _tensors(model), strict=True):
            if average.is_floating_point():
                averages.append(average)
                values.append(value)
            else:
                average.copy_(value)
        torch._foreach_lerp_(averages, values, weight)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]


def parameter_groups(
    model: nn.Module, *, decay: Literal["weights", "all"] = "weights"
) -> list[dict[str, Any]]:
    """Weights, which decay, and biases and normalisations, which do not; or all in one group."""
    if decay == "all":
        return [{"params": [p for p in model.parameters() if p.requires_grad]}]
    weights = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": weights}]
    return [*groups, {"params": others, "weight_decay": 0.0}] if others else groups


class SegmentationTask(LightningModule):
    """Trains a `Segmenter`; what is validated and kept is the average of its weights, if any.

    Lightning's epoch is a round of batches here, from one possible validation to the next.

    Args:
        model: with fresh weights.
        loss: of logits and class ids.
        labels: classes.
        make_optimizer: from parameter groups.
        schedule: from progress to a factor on the learning rate.
        limits: when the training is over.
        epoch_of: from a round and a batch in it to the epoch.
        average: largest decay of the moving average of the weights, or `None`.
        gradient_clip: largest norm of the gradient, or `None`.
        decay: which parameters weight decay shrinks.
        pictures: predictions to keep of each validation.
        seed: of dropout.
    """

    def __init__(
        self,
        *,
        model: Segmenter,
        loss: nn.Module,
        labels: LabelMap,
        make_optimizer: Callable[[list[dict[str, Any]]], Optimizer],
        schedule: Schedule,
        limits: Limits,
        epoch_of: Callable[[int, int], int],
        average: float | None,
        gradient_clip: float | None,
        decay: Literal["weights", "all"] = "weights",
        pictures: int = 0,
        seed: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.labels = labels
        self.make_optimizer = make_optimizer
        self.schedule = schedule
        self.limits = limits
        self.epoch_of = epoch_of
        self.decay = decay
        self.pictures = pictures
        self.gradient_clip = gradient_clip
        self.seed = seed
        self.averaged = None if average is None else WeightAverage(model, cap=average)
        self.confusion = ConfusionTotal(labels)
        self.seconds = 0.0
        self._averaged_step = 0
        self._clock = time.monotonic()

    @property
    def kept(self) -> Segmenter:
        """The model that is validated, saved and tested."""
        return self.model if self.averaged is None else self.averaged.model

    @property
    def fraction(self) -> float:
        """Share of the training that is done."""
        return self.limits.fraction(step=self.global_step, seconds=self.tick())

    def tick(self) -> float:
        """Seconds of training so far, those before a restart included."""
        now = time.monotonic()
        self.seconds += now - self._clock
        self._clock = now
        return self.seconds

    def on_fit_start(self) -> None:
        """Start the clock."""
        self._clock = time.monotonic()

    def configure_optimizers(self) -> Optimizer:
        """The optimiser over the trained weights."""
        return self.make_optimizer(parameter_groups(self.model, decay=self.decay))

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rate, and the random numbers of dropout, by the address of the step."""
        epoch = self.epoch_of(self.current_epoch, batch_idx)
        factor = self.schedule(Progress(self.global_step, epoch, self.fraction))
        for group in self.trainer.optimizers[0].param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * factor
        torch.manual_seed(address_seed(self.seed, self.current_epoch, batch_idx))

    def training_step(self, batch: Batch, batch_idx: int) -> Float[Tensor, ""]:
        """The loss of a batch."""
        loss: Tensor = self.loss(self.model(batch.images), batch.masks)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip the gradient; not through Lightning, which refuses to beside a fused optimiser."""
        if self.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.gradient_clip)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Average after each optimiser step."""
        if self.averaged is not None and self.global_step > self._averaged_step:
            self._averaged_step = self.global_step
            self.averaged.update(self.model, step=self.global_step)

    def on_validation_epoch_start(self) -> None:
        """Start counting."""
        self.confusion.reset()
        self.validation_losses: list[Tensor] = []
        self.predictions: list[Prediction] = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count one image, whole and at its own size."""
        logits = image_logits(self.kept, batch.images[0])[None]
        ids = self.labels.decode(logits)
        self.confusion.update(batch.masks, ids)
        if batch_idx < self.pictures:
            self.predictions.append(Prediction(batch.images[0], batch.masks[0], ids[0]))
        self.validation_losses.append(self.loss(logits, batch.masks).detach())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Beside the weights: the time used."""
        checkpoint["truemask_seconds"] = self.tick()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The inverse."""
        self.seconds = float(checkpoint["truemask_seconds"])
        self._averaged_step = int(checkpoint["global_step"])
        self._clock = time.monotonic()
