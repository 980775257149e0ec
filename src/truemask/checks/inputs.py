"""An input unlike the training images: TM701, by statistics that are small and can be merged."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float64

from truemask.checks.finding import Finding, Rule, rule
from truemask.checks.items import image_array
from truemask.errors import UsageError

NAMES = (
    "red", "green", "blue", "red deviation", "green deviation", "blue deviation",
    "darkest hundredth", "brightest hundredth", "red against green", "blue against green",
    "fine detail", "middle detail", "coarse detail", "flat area", "height", "width",
    "balance of light and dark", "balance of light and dark detail",
)  # fmt: skip
KEPT = 256
"""Training images whose features are kept; of more, those of the smallest hashes."""
_FEWEST = 8
_SIDE = 128

_FLOOR = 0.02
"""Least deviation of a figure: a fiftieth of the range of light, a tenth of detail."""

_NEAREST = 3
"""Training images to which an image's distance is measured."""

_LEFT_OUT = 0.1
"""Share of the training images, the most like it, that do not vouch for a training image."""

_FURTHER = 1.3
"""How much farther than any training image one must be."""


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
        features[key] = tuple(float(value) for value in _features(pixels, _scale(dtype, high)))
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
        them. The limit is the largest that a training image has, with three tenths added, where the
        tenth of the images that are most like it do not count, so that images of one object or
        drive do not vouch for each other. Fewer than eight training images say nothing.
        Of CamVid's 101 validation images none is reported by its training images, nor any of the
        second half of CamVid, CrackForest and BSDS500 by the first, divided at random. Against that
        validation part CrackForest, BSDS500 and generated textures have an AUROC of 1.0000 each;
        100 %, 85 % and 100 % of them are reported (`python -m benchmarks.inputs`).

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
    if len(known.features) < _FEWEST:
        return
    reference = known.reference
    seen = _features(pixels, _scale(known.dtype, known.high))
    distance, limit = reference.distance(seen), reference.limit
    if distance <= limit:
        return
    table = np.array(list(known.features.values()))
    apart = np.abs(seen - np.clip(seen, table.min(0), table.max(0))) / reference.spread
    worst = [NAMES[i] for i in np.argsort(-apart)[:3] if apart[i] > 0]
    yield unlike_training.finding(
        f"{name} is {distance / limit:.1f} times as far from the training images as any of them is "
        f"from the others{': ' + ', '.join(worst) if worst else ''}.",
        where=name,
        evidence={"distance": distance, "limit": limit, "most_unlike": worst,
                  "training_images": len(table)},
        remedy="Do not trust its mask without looking, or train on images like it.",
    )  # fmt: skip


def _other_kind(said: str, name: str) -> Finding:
    return unlike_training.finding(
        said,
        where=name,
        remedy="Bring it to the type, range and channels of the training images.",
    )


def unlikeness(image: Any, known: Known) -> float:
    """How far an image is from the training images; above 1 it is unlike them.

    Args:
        image: of the type, range and channels of the training images.
        known: what these are like.
    """
    seen = _features(image_array(image), _scale(known.dtype, known.high))
    return known.reference.distance(seen) / known.reference.limit


def _scale(dtype: str, high: float) -> float:
    """The value that is taken for white."""
    if dtype.startswith(("uint", "int")):
        return float(np.iinfo(np.dtype(dtype)).max)
    return max(1.0, high)


def _features(pixels: np.ndarray[Any, Any], white: float) -> Float64[np.ndarray, " F"]:
    """The figures of `NAMES`, on every n-th pixel of an image."""
    step = max(1, min(pixels.shape[:2]) // _SIDE)
    some = pixels[::step, ::step].astype(np.float64) / white
    colors = some[..., :3] if some.shape[2] >= 3 else np.repeat(some[..., :1], 3, axis=2)
    grey = colors.mean(2)
    flat = colors.reshape(-1, 3)
    mean, deviation = flat.mean(0), flat.std(0)
    dark, bright = np.quantile(grey, (0.01, 0.99))
    detail = [_detail(grey, 2**level) for level in range(3)]
    near = np.abs(np.diff(grey, axis=1)) < 0.01
    red, blue = (float(np.log((mean[c] + 0.02) / (mean[1] + 0.02))) for c in (0, 2))
    return np.array(
        [*mean, *deviation, dark, bright, 0.3 * red, 0.3 * blue, *detail,
         float(near.mean()) if near.size else 1.0,
         0.1 * np.log2(pixels.shape[0]), 0.1 * np.log2(pixels.shape[1]),
         0.05 * _skewness(grey), 0.05 * _skewness(grey - _surroundings(grey))]
    )  # fmt: skip


def _detail(grey: Float64[np.ndarray, "H W"], step: int) -> float:
    """The logarithm of how much neighbours at a distance differ."""
    apart = [grey[step:] - grey[:-step], grey[:, step:] - grey[:, :-step]]
    return 0.2 * float(np.log(1e-3 + np.mean([np.abs(a).mean() if a.size else 0 for a in apart])))


def _skewness(values: Float64[np.ndarray, "H W"]) -> float:
    """Positive where a few are light and most dark; of an even image 0."""
    centred = values - values.mean()
    return float((centred**3).mean() / max(float(centred.std()), 1e-3) ** 3)


def _surroundings(grey: Float64[np.ndarray, "H W"], side: int = 9) -> Float64[np.ndarray, "H W"]:
    """The mean around each pixel."""
    summed = np.pad(grey, side // 2, mode="edge").cumsum(0).cumsum(1)
    summed = np.pad(summed, ((1, 0), (1, 0)))
    mean: Float64[np.ndarray, "H W"] = (
        summed[side:, side:]
        - summed[:-side, side:]
        - summed[side:, :-side]
        + summed[:-side, :-side]
    ) / side**2
    return mean


def _reference(table: Float64[np.ndarray, "N F"]) -> Reference:
    """Where images lie, and how far one of them is from the rest."""
    count, figures = table.shape
    spread = table.std(0) + _FLOOR
    scaled = (table - table.mean(0)) / spread
    # The fewer images there are, the less their covariance is worth.
    shrink = min(1.0, 0.1 + figures / count)
    covariance = (1 - shrink) * (scaled.T @ scaled / count) + shrink * np.eye(figures)
    whitening = np.linalg.cholesky(np.linalg.inv(covariance)) / spread[:, None]
    places = table @ whitening
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    others = np.sort(apart, axis=1)[:, 1 + int(_LEFT_OUT * count) :]
    limit = _FURTHER * float(others[:, :_NEAREST].mean(1).max())
    return Reference(spread=spread, whitening=whitening, places=places, limit=limit)


RULES: tuple[Rule, ...] = (unlike_training,)
