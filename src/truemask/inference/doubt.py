"""A warning beside a mask that nobody should trust: its image is unlike the training images.

A network always answers. Whether it has ever seen such an image is told by figures of the training
images that a training leaves in its bundle (`inputs.json`), as TM701 of `truemask check` does.
"""

import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped
from torch import Tensor

from truemask.bundle import Bundle, Inputs
from truemask.checks.input_features import NAMES, as_taken, step_of, thinned
from truemask.checks.inputs import FEWEST, Known, compare
from truemask.images import ImageSpec
from truemask.untrusted import naming

_WORDS = dict(
    zip(
        NAMES,
        (
            ("less red", "more red"),
            ("less green", "more green"),
            ("less blue", "more blue"),
            ("less variation of red", "more variation of red"),
            ("less variation of green", "more variation of green"),
            ("less variation of blue", "more variation of blue"),
            ("darker shadows", "no dark parts"),
            ("no light parts", "lighter lights"),
            ("less red than green", "more red than green"),
            ("less blue than green", "more blue than green"),
            ("less fine detail", "more fine detail"),
            ("less middle-sized detail", "more middle-sized detail"),
            ("less coarse detail", "more coarse detail"),
            ("fewer flat areas", "more flat areas"),
            ("smaller height", "greater height"),
            ("smaller width", "greater width"),
            ("light with few dark parts", "dark with few light parts"),
            ("dark detail on light", "light detail on dark"),
            ("less clipped light", "more clipped light"),
            ("less detail of colour", "more detail of colour"),
            ("less red beyond green", "more red beyond green"),
            ("less blue beyond green", "more blue beyond green"),
            ("less variety of red and green", "more variety of red and green"),
            ("less variety of blue and green", "more variety of blue and green"),
            ("less variety of blue and red", "more variety of blue and red"),
            ("paler colours", "stronger colours"),
            ("less sharp fine detail", "sharper fine detail"),
            ("less sharp middle-sized detail", "sharper middle-sized detail"),
            ("softer edges", "harder edges"),
            ("darker above than below", "lighter above than below"),
            ("darker in the middle", "lighter in the middle"),
            ("less detail above than below", "more detail above than below"),
        ),
        strict=True,
    )
)
"""What an image is called that lies below or above all training images in a figure."""

_known: "weakref.WeakKeyDictionary[Inputs, Known]" = weakref.WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """How far an image is from those that the model was trained on.

    Attributes:
        unlikeness: distance to the training images in units of the limit: from 0, above 1 the image
            is unlike them.
        reasons: in what it lies beyond all of them, such as "more fine detail", at least in what
            kind of figures.
    """

    unlikeness: float
    reasons: tuple[str, ...] = ()

    @property
    def warning(self) -> str | None:
        """One line where the mask should not be trusted without looking."""
        if self.unlikeness <= 1:
            return None
        why = ", ".join(self.reasons)
        return f"unlike the training images, {self.unlikeness:.1f} times the limit: {why}"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"unlikeness": self.unlikeness, "warning": self.warning}


def find_doubt(bundle: Bundle, image: Shaped[Tensor, "C H W"]) -> Doubt | None:
    """Hold an image against the training images of a model.

    Args:
        bundle: the model.
        image: as the model takes it: its dtype, channels and range, any size, on any device.

    Returns:
        `None` where the bundle does not say what its training images were like, as those of version
        0.1, or knows fewer than eight.

    Raises:
        UsageError: what the bundle says of its training images is damaged.
    """
    known = known_inputs(bundle)
    if known is None:
        return None
    model = bundle.model
    pixels = as_taken(image, model.images, size=model.size)
    return _held(thinned(pixels), pixels.shape[:2], known)


def known_inputs(bundle: Bundle) -> Known | None:
    """What a model's training images were like; `None` where too little is known to say anything.

    Raises:
        UsageError: it is damaged.
    """
    inputs = bundle.inputs
    if inputs is None:
        return None
    if inputs not in _known:
        with naming(inputs.file):
            _known[inputs] = Known.from_json(inputs.value)
    known = _known[inputs]
    spec = bundle.model.images
    fits = (known.channels, known.dtype) == (spec.channels, spec.dtype)
    return known if fits and len(known.features) >= FEWEST else None


class Thinning:
    """The same of an image that is never in memory as a whole: give its parts, in any order.

    Args:
        bundle: a model that takes images at their own size.
        height: of the whole image.
        width: of the whole image.
    """

    def __init__(self, bundle: Bundle, height: int, width: int) -> None:
        assert bundle.model.size is None, "a model that resizes has its image in memory"
        self.known = known_inputs(bundle)
        self.size = (height, width)
        self.step = step_of(height, width)
        spec = bundle.model.images
        self.spec: ImageSpec = spec
        shape = (-(-height // self.step), -(-width // self.step), spec.channels)
        self.pixels = np.zeros(shape if self.known else (0, 0, 0), dtype=np.dtype(spec.dtype))

    def add(self, part: Shaped[Tensor, "C h w"], *, top: int, left: int = 0) -> None:
        """Take up a part of the image, whose first pixel lies at `top` and `left`."""
        if self.known is None:
            return
        rows, columns = (-(-first // self.step) for first in (top, left))
        some = part[:, rows * self.step - top :: self.step, columns * self.step - left :: self.step]
        taken = as_taken(some, self.spec)
        height, width = taken.shape[:2]
        self.pixels[rows : rows + height, columns : columns + width] = taken

    def doubt(self) -> Doubt | None:
        """What `find_doubt` says of the whole image, to the last digit."""
        return None if self.known is None else _held(self.pixels, self.size, self.known)


def _held(pixels: Shaped[np.ndarray, "h w C"], size: tuple[int, ...], known: Known) -> Doubt:
    found = compare(pixels, size, known)
    reasons = tuple(_WORDS[name][above] for name, above in found.outside)
    return Doubt(unlikeness=found.ratio, reasons=reasons or (f"{found.part} taken together",))
