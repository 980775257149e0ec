"""An input unlike the training images: TM701, by statistics that are small and can be merged."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from truemask.checks.finding import Finding, Rule, rule
from truemask.checks.items import image_array
from truemask.errors import UsageError

NAMES = (
    "red", "green", "blue", "red deviation", "green deviation", "blue deviation",
    "darkest hundredth", "brightest hundredth", "red against green", "blue against green",
    "fine detail", "middle detail", "coarse detail", "flat area", "log height", "log width",
)  # fmt: skip
KEPT = 256
"""Training images whose features are kept; of more, those of the smallest hashes."""
_FEWEST = 8
_SIDE = 128


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
        Its type, number of channels and range must be those of the training images. Sixteen figures
        of an image (means and deviations of the colours, darkest and brightest, their correlation,
        detail at three scales, flat area, size) are held against those of up to 256 training
        images: each by its distance from the training images' range in units of their deviation,
        and all together by the Mahalanobis distance with a shrunk covariance. The limit is the
        largest distance that a training image has when it is left out, with a quarter added, so
        that an image of the same kind is reported once in about as many as were kept. Fewer than
        eight training images say nothing.

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
    table = np.array(list(known.features.values()))
    seen = _features(pixels, _scale(known.dtype, known.high))
    distance, limit = _distances(table, seen)
    if distance <= limit:
        return
    spread = table.std(0) + _FLOOR
    apart = np.abs(seen - np.clip(seen, table.min(0), table.max(0))) / spread
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


_FLOOR = 0.01


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
    return np.array(
        [*mean, *deviation, dark, bright, mean[0] - mean[1], mean[2] - mean[1], *detail,
         float(near.mean()) if near.size else 1.0,
         0.1 * np.log2(pixels.shape[0]), 0.1 * np.log2(pixels.shape[1])]
    )  # fmt: skip


def _detail(grey: Float64[np.ndarray, "H W"], step: int) -> float:
    """The logarithm of how much neighbours at a distance differ."""
    apart = [grey[step:] - grey[:-step], grey[:, step:] - grey[:, :-step]]
    return 0.2 * float(np.log(1e-3 + np.mean([np.abs(a).mean() if a.size else 0 for a in apart])))


def _distances(
    table: Float64[np.ndarray, "N F"], seen: Float64[np.ndarray, " F"]
) -> tuple[float, float]:
    """The Mahalanobis distance of an image, and the largest of a training image left out."""
    count = len(table)
    mean, spread = table.mean(0), table.std(0) + _FLOOR
    scaled = (table - mean) / spread
    covariance = scaled.T @ scaled / count
    shrink = min(1.0, 0.1 + len(mean) / count)
    covariance = (1 - shrink) * covariance + shrink * np.eye(len(mean))
    inverse = np.linalg.inv(covariance)
    own = np.sqrt(np.einsum("nf,fg,ng->n", scaled, inverse, scaled))
    # Leaving an image out moves the mean away from it and makes the rest narrower.
    left_out = own * count / (count - 1) / np.sqrt(np.maximum(0.2, 1 - own**2 / count))
    new = (seen - mean) / spread
    return float(np.sqrt(new @ inverse @ new)), 1.25 * float(left_out.max())


RULES: tuple[Rule, ...] = (unlike_training,)
