"""How good the kept weights are on the validation images, counted by all processes together."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from truemask.labels import LabelMap
from truemask.metrics.confusion import (
    confusion_matrices,
    dice,
    headline,
    iou,
    pixel_accuracy,
)
from truemask.models.segmenter import Segmenter, evaluating
from truemask.models.tiling import image_logits
from truemask.training.processes import Place


class Prediction(NamedTuple):
    """A validation image (C, H, W), its mask and what is predicted, (H, W) class ids each."""

    image: Tensor
    truth: Tensor
    ids: Tensor


class Validation(NamedTuple):
    """What a validation found.

    Attributes:
        matrix: (K, K) int64, the confusion matrix of all images.
        loss: the mean of the images' losses.
        predictions: of the first images, for pictures; in the main process only.
    """

    matrix: Tensor
    loss: float
    predictions: list[Prediction]

    def figures(self) -> dict[str, float]:
        """The columns of the history."""
        matrix = self.matrix.numpy()
        return {
            "validation_loss": self.loss,
            "validation_iou": float(headline(iou(matrix))),
            "validation_dice": float(headline(dice(matrix))),
            "validation_pixel_accuracy": float(pixel_accuracy(matrix)),
        }


@torch.inference_mode()
def validate(
    model: Segmenter,
    loader: DataLoader[Any],
    *,
    loss: nn.Module,
    labels: LabelMap,
    place: Place,
    autocast: Callable[[], AbstractContextManager[Any]],
    pictures: int = 0,
    check: Callable[[], None] = lambda: None,
) -> Validation:
    """Count one image after the other, whole and at its own size.

    Of several processes each counts its own images, and the counts are added up: no image is
    counted twice, and a process that has none adds nothing.

    Args:
        model: its mode is left as it was.
        loader: this process's images, one a batch.
        loss: of logits and class ids.
        labels: classes.
        place: which process this is.
        autocast: the precision of the forward pass, and of nothing else.
        pictures: images whose prediction is wanted.
        check: called after each image; may raise, to break off.
    """
    device = model.mean.device
    count = labels.num_classes
    matrix = torch.zeros(count, count, dtype=torch.int64, device=device)
    losses = torch.zeros(2, dtype=torch.float64, device=device)
    predictions: list[Prediction] = []
    with evaluating(model):
        for batch in loader:
            batch = batch.to(device)
            with autocast():
                logits = image_logits(model, batch.images[0])[None]
            ids = labels.decode(logits)
            matrix += confusion_matrices(
                batch.masks, ids, num_classes=count, ignore_index=labels.ignore_index
            ).sum(0)
            losses[0] += loss(logits, batch.masks)
            losses[1] += 1
            if len(predictions) < pictures:
                found = (batch.images[0], batch.masks[0], ids[0])
                predictions.append(Prediction(*(tensor.cpu() for tensor in found)))
            check()
    place.add_up(matrix)
    total, number = place.add_up(losses).tolist()
    return Validation(matrix.cpu(), total / number, predictions)
