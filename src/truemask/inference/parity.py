"""Whether another form of a model says the same of real images as the model itself."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor

from truemask.bundle import Bundle
from truemask.geometry import Box
from truemask.inference.predict_image import predict_image
from truemask.metrics.confusion import confusion_matrices, iou, mean_over_classes

_LARGEST_SIDE = 2048
"""Of larger images the centre is compared: the model would see them in tiles."""

Other = Callable[[Shaped[np.ndarray, "1 H W C"]], UInt8[np.ndarray, "1 H W"]]
"""The other form: from one image, as decoders give it, to class ids."""


@dataclass(frozen=True)
class LabelledImage:
    """An image to compare on, and its truth where there is one."""

    image: Shaped[Tensor, "C H W"]
    truth: UInt8[Tensor, "H W"] | None = None


@dataclass(frozen=True)
class Lazy(Sequence[LabelledImage]):
    """Images that are read when they are asked for.

    Attributes:
        length: how many.
        read: gives one, from 0 on.
    """

    length: int
    read: Callable[[int], LabelledImage]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, at: Any) -> Any:
        if not 0 <= at < self.length:
            raise IndexError(at)
        return self.read(at)


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far two forms of a model agree.

    Attributes:
        images: that were compared.
        pixels: of all of them.
        differing: pixels that got another class.
        model_iou: mean IoU of the model against the truth, of the classes that occur; against
            itself, which is 1, where an image has no truth.
        iou: likewise of the other form.
        labelled: whether the images have a truth.
    """

    images: int
    pixels: int
    differing: int
    model_iou: float
    iou: float
    labelled: bool

    @property
    def share(self) -> float:
        """Share of the pixels that got another class."""
        return self.differing / self.pixels

    @property
    def lost(self) -> float:
        """IoU that the other form loses; negative where it is better."""
        return self.model_iou - self.iou

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"share": self.share, "iou_lost": self.lost}


def compare_predictions(
    bundle: Bundle,
    other: Other,
    images: Iterable[LabelledImage],
    *,
    progress: Callable[[int], None] | None = None,
) -> Parity:
    """Predict the same images with a model and with another form of it.

    Args:
        bundle: the model.
        other: its other form.
        images: of the kind that the model takes; all with a truth, or the truth is not looked at.
        progress: called with the number of images done.

    Raises:
        ValueError: there is no image.
    """
    labels = bundle.labels
    size = labels.num_classes
    against_truth = np.zeros((2, size, size), dtype=np.int64)
    against_model = np.zeros((2, size, size), dtype=np.int64)
    count, labelled = 0, True
    for item in images:
        box = _centre(*item.image.shape[-2:])
        image = box.crop(item.image.as_subclass(Tensor)).contiguous()
        expected = predict_image(bundle, image).ids
        found = torch.from_numpy(other(image.permute(1, 2, 0).contiguous().numpy()[None])[0])
        both = torch.stack((expected, found))

        def counts(
            truth: UInt8[Tensor, "H W"], both: UInt8[Tensor, "2 H W"] = both
        ) -> np.ndarray[Any, np.dtype[np.int64]]:
            truths = truth.as_subclass(Tensor).expand(2, -1, -1)
            found = confusion_matrices(
                truths, both, num_classes=size, ignore_index=labels.ignore_index
            )
            return found.numpy()

        against_model += counts(expected)
        if item.truth is None:
            labelled = False
        else:
            against_truth += counts(box.crop(item.truth))
        count += 1
        if progress is not None:
            progress(count)
    if count == 0:
        raise ValueError("give at least one image to compare on")
    judged = against_truth if labelled else against_model
    scores = mean_over_classes(iou(judged))
    return Parity(
        images=count,
        pixels=int(against_model[1].sum()),
        differing=int(against_model[1].sum() - np.trace(against_model[1])),
        model_iou=float(scores[0]),
        iou=float(scores[1]),
        labelled=labelled,
    )


def _centre(height: int, width: int) -> Box:
    inner = min(height, _LARGEST_SIDE), min(width, _LARGEST_SIDE)
    return Box((height - inner[0]) // 2, (width - inner[1]) // 2, *inner)
