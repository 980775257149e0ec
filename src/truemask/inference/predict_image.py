"""What a model says of one image: the very classes that an evaluation counts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float16, Shaped, UInt8
from torch import Tensor

from truemask.bundle import Bundle
from truemask.geometry import Box
from truemask.inference.augment import augmented
from truemask.inference.settings import Settings
from truemask.inference.tally import Tally, read_off
from truemask.models.segmenter import evaluating
from truemask.models.tiling import logits_by_blocks


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What a model says of one image.

    Attributes:
        ids: the most probable class of each pixel, on the CPU.
        confidence: mean over pixels of the probability of that class.
        entropy: mean over pixels of the entropy of the probabilities, as a share of the largest
            that there is.
        probabilities: the probability of each class, on the CPU; `None` unless asked for.
    """

    ids: UInt8[Tensor, "H W"]
    confidence: float
    entropy: float
    probabilities: Float16[Tensor, "K H W"] | None = None


def predict_image(
    bundle: Bundle,
    image: Shaped[Tensor, "C H W"],
    *,
    probabilities: bool = False,
    tile: int | None = None,
    flips: bool = False,
    scales: Sequence[float] = (1.0,),
) -> Prediction:
    """Predict one image, on the device where the model is; its mode stays as it was.

    Without flips and scales, the ids are those that `evaluation.evaluate` counts, pixel for pixel.

    Args:
        bundle: the model and its labels.
        image: of the dtype and range that the model takes, any height and width.
        probabilities: whether to keep the probability of each class.
        tile: largest side of a tile in pixels; `None` cuts only images above 2048x2048 pixels.
        flips: whether to average the probabilities of the image and its mirror images.
        scales: sizes of the image whose probabilities are averaged.

    Raises:
        UsageError: the image is of another kind than the model takes.
    """
    prediction, _ = predict_and_tally(
        bundle,
        image,
        Settings(probabilities=probabilities, flips=flips, scales=tuple(scales)),
        tile,
    )
    return prediction


def predict_and_tally(
    bundle: Bundle, image: Shaped[Tensor, "C H W"], settings: Settings, tile: int | None
) -> tuple[Prediction, Tally]:
    """As `predict_image`, with the sums over the pixels that the table is made of."""
    model, labels = bundle.model, bundle.labels
    device = model.mean.device
    pixels = image.as_subclass(Tensor)
    height, width = pixels.shape[-2:]
    ids = torch.empty(height, width, dtype=torch.uint8)
    kept = None
    if settings.probabilities:
        kept = torch.empty(labels.num_classes, height, width, dtype=torch.float16)
    tally = Tally(labels.num_classes)
    with evaluating(model), torch.inference_mode(), torch.autocast(device.type, enabled=False):
        compute = augmented(
            model, flips=settings.flips, scales=settings.scales, temperature=bundle.temperature
        )
        for box, logits in logits_by_blocks(
            model, lambda box: box.crop(pixels), height, width, tile=tile, compute=compute
        ):

            def keep(strip: Box, found: Tensor, box: Box = box) -> None:
                if kept is not None:
                    strip.paste(box.crop(kept), found)

            box.paste(ids, read_off(bundle, logits, tally, keep=keep))
    prediction = Prediction(
        ids=ids,
        confidence=tally.mean(tally.confidence),
        entropy=tally.mean(tally.entropy),
        probabilities=kept,
    )
    return prediction, tally
