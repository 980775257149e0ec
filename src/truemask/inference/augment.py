"""Test-time augmentation: an image seen mirrored and at several sizes, and what is said averaged.

What is averaged are probabilities. The average comes back as logits that stand for it, so that
ids, probabilities and tiles are made of it as of a single answer.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from truemask.errors import UsageError
from truemask.images import resize_image
from truemask.models.segmenter import Segmenter
from truemask.models.tiling import Compute

_MIRRORS = ((), (-1,), (-2,), (-2, -1))
"""The axes along which images are turned round: not, left to right, top to bottom, both."""


def augmented(
    model: Segmenter, *, flips: bool, scales: Sequence[float], temperature: float
) -> Compute:
    """What gives the averaged logits of images.

    Args:
        model: as `logits_by_blocks` takes it.
        flips: whether to average over the mirror images.
        scales: sizes at which the images are seen; logits are brought back bilinearly.
        temperature: of the bundle: the probabilities that are averaged are the calibrated ones.

    Raises:
        UsageError: the model brings every image to a size of its own, so that scales mean nothing.
    """
    scales = tuple(scales)
    if model.size is not None and scales != (1.0,):
        raise UsageError(
            f"this model brings every image to {model.size[0]} x {model.size[1]} pixels: leave "
            "--scales out"
        )
    if not flips and scales == (1.0,):
        return model
    views: list[tuple[float, tuple[int, ...]]] = list(
        itertools.product(scales, _MIRRORS if flips else _MIRRORS[:1])
    )

    def compute(images: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B L H W"]:
        answers = (_seen(model, images, scale, axes) / temperature for scale, axes in views)
        return temperature * _averaged(answers, len(views))

    return compute


def _seen(
    model: Callable[[Tensor], Tensor],
    images: Shaped[Tensor, "B C H W"],
    scale: float,
    axes: tuple[int, ...],
) -> Float[Tensor, "B L H W"]:
    height, width = images.shape[-2:]
    if scale != 1.0:
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        images = resize_image(images, size)
    logits = model(images.flip(axes) if axes else images)
    logits = logits.flip(axes) if axes else logits
    if scale != 1.0:
        logits = functional.interpolate(logits, (height, width), mode="bilinear")
    return logits


def _averaged(answers: Iterable[Float[Tensor, "B L H W"]], count: int) -> Float[Tensor, "B L H W"]:
    """Logits of the mean of the answers' probabilities."""
    total: Tensor | None = None
    for logits in answers:
        # Logarithms, as probabilities near 1 would lose what they differ by from it.
        if logits.shape[1] == 1:
            logs = functional.logsigmoid(torch.cat((-logits, logits), dim=1))
        else:
            logs = logits.log_softmax(1)
        total = logs if total is None else torch.logaddexp(total, logs)
    assert total is not None
    if total.shape[1] == 2:
        return total[:, 1:] - total[:, :1]
    return total - math.log(count)
