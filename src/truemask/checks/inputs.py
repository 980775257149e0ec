"""An input unlike the training images: TM701, by statistics that are small and can be merged."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Shaped

from truemask.checks.finding import Finding, Rule, rule
from truemask.checks.input_features import FIRST, NAMES, figures, thinned, white_of
from truemask.checks.input_reference import Reference, reference
from truemask.checks.items import image_array
from truemask.errors import UsageError

KEPT = 256
"""Training images whose features are kept; of more, those of the smallest hashes."""

FEWEST = 8
"""Of fewer training images nothing is said."""

_FIGURES = {1: FIRST, 2: len(NAMES)}
"""Format of the notes -> figures of an image."""

_LARGEST = 1e6
"""No figure is near to it: they lie around 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What training images are like.

    Attributes:
        features: hash of an image -> its features, of at most `KEPT` images.
        dtype: of the pixels.
        high: the largest value that was seen.
        channels: of the images.
    """

    features: dict[str, tuple[float, ...]]
    dtype: str
    high: float
    channels: int

    @cached_property
    def reference(self) -> Reference:
        """Where they lie, with the limits."""
        return reference(np.array(list(self.features.values())))

    @property
    def format(self) -> int:
        """1 of eighteen figures an image, 2 of all."""
        return 1 if any(len(figures) == FIRST for figures in self.features.values()) else 2

    def merge(self, other: "Known") -> "Known":
        """Of both together; the order does not matter."""
        both = sorted({**self.features, **other.features}.items())[:KEPT]
        return Known(
            features=dict(both),
            dtype=self.dtype,
            high=max(self.high, other.high),
            channels=self.channels,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "format": self.format,
            "features": {key: list(values) for key, values in self.features.items()},
            "dtype": self.dtype,
            "high": self.high,
            "channels": self.channels,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Known":
        """The inverse; also of what was written before there was a format, which is format 1.

        Raises:
            UsageError: a key is missing, a value is no number, or the format is a later one.
        """
        written = value.get("format", 1)
        if written not in tuple(_FIGURES):
            raise UsageError(
                f"format is {written!r}, but this version reads {', '.join(map(str, _FIGURES))}: "
                "use the version that wrote it or a later one"
            )
        count = _FIGURES[written]
        try:
            features = {str(k): tuple(map(float, v)) for k, v in value["features"].items()}
            if any(len(figures) != count for figures in features.values()):
                raise ValueError(f"each image must have {count} figures")
            if len(features) > KEPT:  # as it may be anybody's file: distances take its square
                raise ValueError(f"there are more than {KEPT} images")
            # Also of NaN.
            if not all(abs(n) <= _LARGEST for figures in features.values() for n in figures):
                raise ValueError(f"a figure is no number up to {_LARGEST:g}")
            return cls(
                features=features,
                dtype=str(value["dtype"]),
                high=float(value["high"]),
                channels=int(value["channels"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"not a description of training images: {error!r}") from error


def describe_images(images: Iterable[Any]) -> Known:
    """What training images are like.

    Args:
        images: arrays, tensors or PIL images, channels first or last.

    Raises:
        UsageError: there is none.
    """
    features: dict[str, tuple[float, ...]] = {}
    dtype, high, channels = "", 0.0, 0
    for image in images:
        pixels = image_array(image)
        dtype, channels = str(pixels.dtype), pixels.shape[2]
        high = max(high, float(pixels.max()))
        key = hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()[:16]
        seen = figures(thinned(pixels), pixels.shape[:2], white_of(dtype, high))
        features[key] = tuple(float(f"{value:.7g}") for value in seen)
        if len(features) > 2 * KEPT:
            features = dict(sorted(features.items())[:KEPT])
    if not features:
        raise UsageError("there are no images to describe")
    kept = dict(sorted(features.items())[:KEPT])
    return Known(features=kept, dtype=dtype, high=high, channels=channels)


def check_input(image: Any, known: Known, *, name: str = "image") -> list[Finding]:
    """Look whether an image is like those that a model was trained on.

    Args:
        image: as `describe_images` takes them.
        known: what the training images are like.
        name: of the image, for the finding.
    """
    return unlike_training(image_array(image), known, name)


@rule("TM701", "unlike-training", "warning")
def unlike_training(pixels: np.ndarray[Any, Any], known: Known, name: str) -> Iterator[Finding]:
    """An image is unlike the images that the model was trained on.

    Why it matters:
        The cityscapes project's model gave bad masks for photos from elsewhere without a word: a
        network always answers, whether or not it has ever seen such an image.

    How it decides:
        Its type, number of channels and range must be those of the training images. Then 32
        figures of an image are compared with those of up to 256 training images, six times: once
        eighteen of them together (means and deviations of the colours, darkest and brightest, tint,
        detail at three scales, flat area, size, how light and dark are balanced), where one or two
        that lie far outside hardly count; and five small groups for themselves: light and colour
        (share of white, detail of colours, tint), tint (how far red and blue go beyond green),
        strength of colours, sharpness (detail at one scale against the next), and layout (light
        and detail above against below). Each time in coordinates in which the figures vary alike
        (by their covariance, shrunk); the distance of an image is the mean of those to the three
        nearest training images. The limit is what 99 % of the training images keep within, where
        the fiftieth of the images that are most like one do not count, so that copies do not vouch
        for each other; times 1.36 for all, 1.5 to 2.5 for a group, and 1 + 8 / N of N images. An
        image beyond any of the six limits is unlike them. Fewer than eight training images say
        nothing. Notes of a model of before (eighteen figures) keep their rule: all together, 1.4.
        Of CamVid's 101 validation images none is reported by its training images; of halves of
        CamVid, CrackForest and BSDS500, divided at random twenty times, 0.4 %, 2.7 % and 0.4 % are
        reported by the other half. Against that validation part CrackForest, BSDS500 and generated
        textures have an AUROC of 1.0000 each; 100 %, 99.0 % and 100 % of them are reported
        (`python -m benchmarks.inputs`).
        What is told apart and what is not stands in docs/doubt.md.

    False alarms:
        A training part that shows one place or one weather makes every other unlike; that is so.

    How to mend:
        Look at the mask before you use it, or train on images like this one.
    """
    if known.channels != pixels.shape[2] or known.dtype != str(pixels.dtype):
        yield _other_kind(
            f"{name} is {pixels.dtype} with {pixels.shape[2]} channels, but training images were "
            f"{known.dtype} with {known.channels}.",
            name,
        )
        return
    if len(known.features) < FEWEST:
        return
    likeness = compare(thinned(pixels), pixels.shape[:2], known)
    if likeness.ratio <= 1:
        return
    worst = [named for named, _ in likeness.outside]
    yield unlike_training.finding(
        f"{name} is {likeness.ratio:.1f} times as far from the training images as any of them is "
        f"from the others in {likeness.part}{': ' + ', '.join(worst) if worst else ''}.",
        where=name,
        evidence={"part": likeness.part, "distance": likeness.distance, "limit": likeness.limit,
                  "most_unlike": worst, "training_images": len(known.features)},
        remedy="Do not trust its mask without looking, or train on images like it.",
    )  # fmt: skip


def _other_kind(said: str, name: str) -> Finding:
    return unlike_training.finding(
        said,
        where=name,
        remedy="Bring it to the type, range and channels of the training images.",
    )


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """How an image lies to the training images, in the part of its figures that is farthest.

    Attributes:
        part: which one, of `input_reference.PARTS`.
        distance: the mean of those to the three nearest.
        limit: from which on it is unlike them.
        outside: figures beyond all training images, the farthest first, at most three; with whether
            they are above these.
    """

    part: str
    distance: float
    limit: float
    outside: tuple[tuple[str, bool], ...]

    @property
    def ratio(self) -> float:
        """The distance in units of the limit; above 1 the image is unlike them."""
        return self.distance / self.limit


def unlikeness(image: Any, known: Known) -> float:
    """How far an image is from the training images; above 1 it is unlike them.

    Args:
        image: of the type, range and channels of the training images.
        known: what these are like.
    """
    pixels = image_array(image)
    return compare(thinned(pixels), pixels.shape[:2], known).ratio


def compare(some: Shaped[np.ndarray, "h w C"], size: tuple[int, ...], known: Known) -> Likeness:
    """Hold an image against the training images, by some of its pixels.

    Args:
        some: every n-th pixel of the image, as `thinned` gives them.
        size: height and width of the image itself.
        known: what the training images are like; at least `FEWEST` of them.
    """
    reference = known.reference
    seen = figures(some, size, white_of(known.dtype, known.high))[: len(reference.low)]
    distances = [part.distance(seen) for part in reference.parts]
    ratios = [d / part.limit for d, part in zip(distances, reference.parts, strict=True)]
    farthest = int(np.argmax(ratios))
    part = reference.parts[farthest]
    apart = (seen - np.clip(seen, reference.low, reference.high)) / reference.spread
    most = sorted(part.columns, key=lambda column: -abs(apart[column]))[:3]
    return Likeness(
        part=part.name,
        distance=distances[farthest],
        limit=part.limit,
        outside=tuple((NAMES[i], bool(apart[i] > 0)) for i in most if apart[i] != 0),
    )


RULES: tuple[Rule, ...] = (unlike_training,)
