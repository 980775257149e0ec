"""The typed result of looking into a run, and its JSON."""

from dataclasses import asdict, dataclass
from typing import Any

from truemask.results import Interval, PartResult


@dataclass(frozen=True, kw_only=True)
class ConfidenceBin:
    """Pixels of a range of confidence; the means are `None` where there is no pixel.

    Attributes:
        low: of the range, which does not belong to it.
        high: of the range, which does.
        pixels: how many.
        confidence: their mean confidence.
        accuracy: the share of them that is right.
    """

    low: float
    high: float
    pixels: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class ClassCalibration:
    """The pixels that were predicted as one class; `None` where there are none."""

    name: str
    pixels: int
    error: float | None
    confidence: float | None
    accuracy: float | None
    bins: list[ConfidenceBin]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Whether the model is right as often as it says, at one temperature.

    Attributes:
        temperature: what the logits were divided by.
        error: the expected calibration error over 15 bins of equal width (Guo et al. 2017).
        interval: its 95 % bootstrap interval over images; `None` of too few.
        confidence: mean over all pixels.
        accuracy: share of the pixels that are right.
        bins: from the lowest confidence to the highest.
        per_class: by the class that was predicted.
    """

    temperature: float
    error: float | None
    interval: Interval | None
    confidence: float | None
    accuracy: float | None
    bins: list[ConfidenceBin]
    per_class: list[ClassCalibration]


@dataclass(frozen=True, kw_only=True)
class TemperatureFit:
    """How a temperature was found.

    Attributes:
        part: the part of the data that it was fitted on: always validation.
        images: of that part.
        pixels: drawn from them, by a seed.
        temperature: the one at which their truth is most likely.
        before: their mean negative log-likelihood at temperature 1, in nats.
        after: at that temperature.
        bounded: whether a still better one is out of bounds.
    """

    part: str
    images: int
    pixels: int
    temperature: float
    before: float
    after: float
    bounded: bool


@dataclass(frozen=True, kw_only=True)
class ErrorBin:
    """Pixels of a range, such as of distances, and how many of them are wrong.

    Attributes:
        low: of the range, which does not belong to it.
        high: of the range, which does; `None` for all beyond.
        pixels: how many.
        wrong: how many of them.
        rate: the one by the other; `None` where there are none.
        interval: its 95 % bootstrap interval over images; `None` of too few.
    """

    low: float
    high: float | None
    pixels: int
    wrong: int
    rate: float | None
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class SizeBin:
    """Connected regions of the truth of similar size.

    Attributes:
        low: the least pixels of a region here.
        high: one more than the most; `None` for all beyond.
        regions: how many.
        pixels: theirs.
        recall: the share of their pixels that was found; `None` where there are none.
        found: the share of the regions of which at least half was found.
        interval: of the recall, over images; `None` of too few, and for a single class.
    """

    low: int
    high: int | None
    regions: int
    pixels: int
    recall: float | None
    found: float | None
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class ConfusedImage:
    """An image that holds much of a confusion."""

    name: str
    pixels: int


@dataclass(frozen=True, kw_only=True)
class CostlyConfusion:
    """A class taken for another.

    Attributes:
        truth: the class.
        prediction: what it was taken for.
        pixels: how many.
        share_of_wrong: of all wrong pixels.
        gain: by how much the IoU would rise if they were right.
        images: those that hold most of it.
    """

    truth: str
    prediction: str
    pixels: int
    share_of_wrong: float
    gain: float
    images: list[ConfusedImage]


@dataclass(frozen=True, kw_only=True)
class GateLook:
    """Where one attention gate looks in the images shown: means of its coefficients, 0 to 1.

    Attributes:
        gate: counted from 1, the deepest and coarsest.
        mean: over all pixels.
        per_class: over the pixels of each class of the truth; `None` where it does not occur.
    """

    gate: int
    mean: float
    per_class: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A validation whose predictions of the fixed samples were kept; epochs count from 0."""

    step: int
    epoch: int | None


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What was found by looking into a run.

    Attributes:
        run: its folder.
        part: the part of the data that was looked at.
        images: that were looked at.
        of: images of the part.
        seed: by which they were chosen, where they are not all.
        classes: in the order of their ids.
        said: section -> what it says, a sentence.
        notes: what else a reader must know, a sentence each.
        scores: as `truemask evaluate` gives them, with the confusion matrix and the subgroups.
        calibration: of the plain logits (temperature 1).
        calibrated: at the temperature of the bundle, where that is not 1.
        fit: how that was found, where it was now.
        borders: errors by distance to the nearest pixel of another class, in pixels.
        sizes: by size of the region; of two classes the foreground's regions.
        sizes_per_class: class -> the same.
        positions: error rate of each cell of a grid over the image, from the top left; `None` where
            no pixel counts.
        confusions: those that cost most, the costliest first.
        attention: of each gate; empty where the model has none.
        shown: names of the images whose attention is shown.
        frames: the predictions over the training that were kept.
        page: the page that shows it all.
    """

    run: str
    part: str
    images: int
    of: int
    seed: int | None
    classes: list[str]
    said: dict[str, str]
    notes: list[str]
    scores: PartResult
    calibration: Calibration
    calibrated: Calibration | None
    fit: TemperatureFit | None
    borders: list[ErrorBin]
    sizes: list[SizeBin]
    sizes_per_class: dict[str, list[SizeBin]]
    positions: list[list[float | None]]
    confusions: list[CostlyConfusion]
    attention: list[GateLook]
    shown: list[str]
    frames: list[Frame]
    page: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "scores": self.scores.to_json()}


@dataclass(frozen=True, kw_only=True)
class TakenBack:
    """A temperature that was taken back where the data could not be opened to look into the run.

    Attributes:
        run: the folder of the run.
        temperature: of its bundle now, 1.
        said: what was done, and why no more.
    """

    run: str
    temperature: float
    said: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
