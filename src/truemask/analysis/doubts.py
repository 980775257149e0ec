"""How many images of an evaluation are unlike the training's, and how they are judged."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from truemask.bundle import Bundle
from truemask.errors import counted
from truemask.evaluation import Seen
from truemask.inference.doubt import find_doubt
from truemask.metrics.confusion import headline, iou
from truemask.per_image import Evaluation


@dataclass(frozen=True, kw_only=True)
class UnlikeImages:
    """Images of an evaluation that are unlike the training images.

    Attributes:
        images: all that were held against these.
        unlike: how many are beyond the limit.
        median: of the unlikeness of all; 1 is the limit.
        iou_unlike: IoU over the images beyond it; `None` where there is none.
        iou_others: IoU over the rest; likewise.
        names: of those beyond it, the most unlike first.
    """

    images: int
    unlike: int
    median: float
    iou_unlike: float | None
    iou_others: float | None
    names: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        """In one line."""
        judged = [
            f"{value:.3f} {of}"
            for value, of in ((self.iou_unlike, "over these"), (self.iou_others, "over the others"))
            if value is not None
        ]
        scores = f" (IoU {', '.join(judged)})" if judged else ""
        return f"{self.unlike} of {counted(self.images, 'image')} unlike the training's{scores}."


class DoubtWatcher:
    """Holds each image against the training images while it is counted.

    Args:
        bundle: the model, which may know nothing of its training images.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._found: list[float] = []

    def __call__(self, seen: Seen) -> None:
        """Look at one image."""
        doubt = find_doubt(self._bundle, seen.sample.image)
        if doubt is not None:
            self._found.append(doubt.unlikeness)

    def result(self, evaluation: Evaluation) -> UnlikeImages | None:
        """What was found of the images of `evaluation`; `None` where nothing is known."""
        if not self._found:
            return None
        found = np.array(self._found)
        beyond = found > 1
        return UnlikeImages(
            images=len(found),
            unlike=int(beyond.sum()),
            median=float(np.median(found)),
            iou_unlike=_iou(evaluation, beyond),
            iou_others=_iou(evaluation, ~beyond),
            names=[evaluation.names[i] for i in np.argsort(-found) if beyond[i]],
        )


def _iou(evaluation: Evaluation, chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> float | None:
    value = float(headline(iou(evaluation.matrices[chosen].sum(0))))
    return value if np.isfinite(value) else None
