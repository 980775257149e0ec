"""The typed results that commands make and pages render, and their JSON."""

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from truemask.errors import UsageError

Interval = tuple[float, float]
"""Lower and upper end of a 95 % interval."""


@dataclass(kw_only=True)
class PartResult:
    """All scores of one part of a dataset.

    Shares from 0 to 1; `None` for a class that does not occur.

    Attributes:
        images: how many images were evaluated.
        loss: mean over images of the training loss of each image alone; `None` where no loss is
            known.
        iou: mean over the classes that occur; for a binary task the foreground's.
        intervals: metric -> 95 % bootstrap interval over images; the keys are those of the scalar
            metrics, and "iou_per_class.NAME" and "dice_per_class.NAME".
        confusion: (K, K) pixel counts, rows are the truth, columns the prediction.
        subgroups: attribute -> value -> the same result for the images that have it.
    """

    images: int
    iou: float | None
    dice: float | None
    pixel_accuracy: float | None
    mean_accuracy: float | None
    frequency_weighted_iou: float | None
    iou_per_class: dict[str, float | None]
    dice_per_class: dict[str, float | None]
    precision_per_class: dict[str, float | None]
    recall_per_class: dict[str, float | None]
    f1_per_class: dict[str, float | None]
    confusion: list[list[int]]
    loss: float | None = None
    intervals: dict[str, Interval] = field(default_factory=dict)
    subgroups: dict[str, dict[str, "PartResult"]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes `null`."""
        plain = _plain(asdict(self))
        assert isinstance(plain, dict)
        return plain

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "PartResult":
        """The inverse of `to_json`.

        Raises:
            UsageError: a key is missing or unknown, or a value is not of the type it must be.
        """
        try:
            parts = dict(value)
            intervals = {k: (float(a), float(b)) for k, (a, b) in parts.pop("intervals").items()}
            subgroups = {
                attribute: {name: cls.from_json(item) for name, item in group.items()}
                for attribute, group in parts.pop("subgroups").items()
            }
            result = cls(**parts, intervals=intervals, subgroups=subgroups)
            result._check()
            return result
        except UsageError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UsageError(f"not the result of a part: {error!r}") from error

    def _check(self) -> None:
        """Hold the types against what they must be, since anybody may have written the file."""
        size = len(self.iou_per_class)
        table = self.confusion
        whole = isinstance(table, list) and all(isinstance(row, list) for row in table)
        if not whole or [len(row) for row in table] != [size] * size:
            raise TypeError(f"confusion must be {size} rows of {size} counts")
        counts = [self.images, *(count for row in table for count in row)]
        if not all(type(count) is int and count >= 0 for count in counts):
            raise TypeError("images and confusion must hold whole numbers")
        for field_ in fields(self):
            value = getattr(self, field_.name)
            if field_.name.endswith("_per_class"):
                if value.keys() != self.iou_per_class.keys():
                    raise TypeError(f"{field_.name} must name the classes of iou_per_class")
                scores = list(value.values())
            elif field_.name in ("images", "confusion", "intervals", "subgroups"):
                continue
            else:
                scores = [value]
            if not all(score is None or type(score) in (int, float) for score in scores):
                raise TypeError(f"{field_.name} must hold numbers or null")


@dataclass(kw_only=True)
class TrainResult:
    """What `train` ends with: where the run is, and the scores of its best weights.

    Attributes:
        run: the run folder.
        parts: part name -> scores, "validation" and, where there is one, "test".
        best_epoch: epoch whose weights were kept, counted from 0.
        seconds: time spent training and validating.
        stopped: why the training ended.
    """

    run: str
    parts: dict[str, PartResult]
    best_epoch: int
    seconds: float
    stopped: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "run": self.run,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "stopped": self.stopped,
            "parts": {name: part.to_json() for name, part in self.parts.items()},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "TrainResult":
        """The inverse."""
        parts = {name: PartResult.from_json(part) for name, part in value["parts"].items()}
        return cls(**{**value, "parts": parts})


def _plain(value: Any) -> Any:
    """Tuples to lists and NaN to `None`, all the way down."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
