"""An input unlike the training images: TM701, by statistics that are small and can be merged."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float64, Shaped

from truemask.checks.finding import Finding, Rule, rule
from truemask.checks.input_features import NAMES, figures, thinned, white_of
from truemask.checks.items import image_array
from truemask.errors import UsageError

KEPT = 256
"""Training images whose features are kept; of more, those of the smallest hashes."""

FEWEST = 8
"""Of fewer training images nothing is said."""

_LARGEST = 1e6
"""No figure is near to it: they lie around 0 to 1."""

_FLOOR = 0.02
"""Least deviation of a figure: a fiftieth of the range of light, a tenth of detail."""

_NEAREST = 3
"""Training images to which an image's distance is measured."""

_LEFT_OUT = 0.02
"""Share of the training images, the most like it, that do not vouch for a training image."""

_USUAL = 0.99
"""Share of the training images to which the limit is held, so that a single one does not set it."""

_FURTHER = 1.4
"""How much farther than these an image must be."""

_SHRINKAGE = 0.5
"""How much the covariance is drawn to none, for each figure that an image has to speak for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """Where training images lie.

    Attributes:
        spread: deviation of their features.
        whitening: takes features to coordinates in which they vary alike in all directions.
        places: of the training images, in these coordinates.
        limit: distance from which on an image is unlike them.
    """

    spread: Float64[np.ndarray, " F"]
    whitening: Float64[np.ndarray, "F F"]
    places: Float64[np.ndarray, "N F"]
    limit: float

    def distance(self, features: Float64[np.ndarray, " F"]) -> float:
        """The mean distance of an image from the training images that are most like it."""
        apart = np.linalg.norm(features @ self.whitening - self.places, axis=1)
        return float(np.sort(apart)[:_NEAREST].mean())


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
        """Where they lie, with the limit."""
        return _reference(np.array(list(self.features.values())))

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
            "features": {key: list(values) for key, values in self.features.items()},
            "dtype": self.dtype,
            "high": self.high,
            "channels": self.channels,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Known":
        """The inverse.

        Raises:
            UsageError: a key is missing or a value is no number.
        """
        try:
            features = {str(k): tuple(map(float, v)) for k, v in value["features"].items()}
            if any(len(figures) != len(NAMES) for figures in features.values()):
                raise ValueError(f"each image must have {len(NAMES)} figures")
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
        Its type, number of channels and range must be those of the training images. Eighteen
        figures of an image (means and deviations of the colours, darkest and brightest, tint,
        detail at three scales, flat area, size, how light and dark are balanced) are compared with
        those of up to 256 training images, in coordinates in which these vary alike (by their
        covariance, shrunk). The distance of an image is the mean of those to the three nearest of
        them. The limit is what 99 % of the training images keep within, with four tenths added,
        where the fiftieth of the images that are most like one do not count, so that copies do not
        vouch for each other. Fewer than eight training images say nothing.
        Of CamVid's 101 validation images none is reported by its training images, nor any of the
        second half of CamVid, CrackForest and BSDS500 by the first, divided at random. Against that
        validation part CrackForest, BSDS500 and generated textures have an AUROC of 1.0000 each;
        100 %, 98.7 % and 100 % of them are reported (`python -m benchmarks.inputs`). What is told
        apart and what is not stands in docs/doubt.md.

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
        f"from the others{': ' + ', '.join(worst) if worst else ''}.",
        where=name,
        evidence={"distance": likeness.distance, "limit": known.reference.limit,
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
    """How an image lies to the training images.

    Attributes:
        distance: the mean of those to the three nearest.
        ratio: the same in units of the limit; above 1 the image is unlike them.
        outside: figures beyond all training images, the farthest first, at most three; with whether
            they are above these.
    """

    distance: float
    ratio: float
    outside: tuple[tuple[str, bool], ...]


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
    seen = figures(some, size, white_of(known.dtype, known.high))
    distance = reference.distance(seen)
    table = np.array(list(known.features.values()))
    apart = (seen - np.clip(seen, table.min(0), table.max(0))) / reference.spread
    farthest = np.argsort(-np.abs(apart))[:3]
    return Likeness(
        distance=distance,
        ratio=distance / reference.limit,
        outside=tuple((NAMES[i], bool(apart[i] > 0)) for i in farthest if apart[i] != 0),
    )


def _reference(table: Float64[np.ndarray, "N F"]) -> Reference:
    """Where images lie, and how far one of them is from the rest."""
    count, width = table.shape
    spread = table.std(0) + _FLOOR
    scaled = (table - table.mean(0)) / spread
    # The fewer images there are, the less their covariance is worth.
    shrink = min(1.0, _SHRINKAGE * width / count)
    covariance = (1 - shrink) * (scaled.T @ scaled / count) + shrink * np.eye(width)
    whitening = np.linalg.cholesky(np.linalg.inv(covariance)) / spread[:, None]
    places = table @ whitening
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    others = np.sort(apart, axis=1)[:, 1 + int(_LEFT_OUT * count) :]
    limit = _FURTHER * float(np.quantile(others[:, :_NEAREST].mean(1), _USUAL))
    return Reference(spread=spread, whitening=whitening, places=places, limit=limit)


RULES: tuple[Rule, ...] = (unlike_training,)
