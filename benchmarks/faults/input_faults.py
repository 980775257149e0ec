"""Row 39: an input unlike the training images."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image, ImageFilter

from benchmarks.faults.case import STRENGTHS, Check, Fault
from benchmarks.faults.material import Array, Pair, material


def check_of_input(train: Sequence[Pair], images: Sequence[Array]) -> Check:
    """Learn what the training images are like, then look at each of some inputs."""
    from truemask.checks.inputs import check_input, describe_images

    known = describe_images([pair.image for pair in train])
    return lambda: [found for image in images for found in check_input(image, known)]


def faults() -> Iterator[Fault]:
    """All of them."""
    kinds: tuple[tuple[str, tuple[tuple[str, Callable[[Array], Array]], ...]], ...] = (
        (
            "another value range",
            (
                ("0 to 1 as float", lambda image: image.astype(np.float32) / 255),
                ("16 bits", lambda image: image.astype(np.uint16) * 257),
                ("-1 to 1 as float", lambda image: image.astype(np.float32) / 127.5 - 1),
            ),
        ),
        (
            "darker",
            (
                ("a half", lambda image: (image * 0.5).astype(np.uint8)),
                ("a fifth", lambda image: (image * 0.2).astype(np.uint8)),
                ("a 20th", lambda image: (image * 0.05).astype(np.uint8)),
            ),
        ),
        (
            "a colour cast",
            (
                ("blue +40 %", lambda image: _tinted(image, (0.9, 0.95, 1.4))),
                ("sodium light", lambda image: _tinted(image, (1.5, 0.9, 0.3))),
                ("red only", lambda image: _tinted(image, (1.0, 0.0, 0.0))),
            ),
        ),
        (
            "another size",
            (
                ("a quarter of the side", lambda image: _resized(image, 0.25)),
                ("an eighth of the side", lambda image: _resized(image, 0.125)),
                ("8 times the side", lambda image: _resized(image, 8.0)),
            ),
        ),
        (
            "inverted",
            (
                ("by half", lambda image: (128 + (128 - image.astype(int)) * 0.5).astype(np.uint8)),
                ("whole", lambda image: 255 - image),
                (
                    "whole, strong contrast",
                    lambda image: np.where(image > 100, 0, 255).astype(np.uint8),
                ),
            ),
        ),
        (
            "not a photograph of the kind",
            (
                ("blurred beyond detail", _blurred),
                ("noise", _noise),
                ("one colour", lambda image: np.full_like(image, 255)),
            ),
        ),
    )
    for name, three in kinds:
        for strength, (detail, change) in zip(STRENGTHS, three, strict=True):
            for base in ("camvid", "carvana", "driving", "crackforest"):
                yield Fault(
                    row=39,
                    code="TM701",
                    name=name,
                    strength=strength,
                    detail=detail,
                    base=base,
                    prepare=lambda b=base, c=change: check_of_input(
                        material(b).train, [c(material(b).validation[3].image)]
                    ),
                )


def _tinted(image: Array, factors: tuple[float, float, float]) -> Array:
    return np.clip(image * np.array(factors), 0, 255).astype(np.uint8)


def _resized(image: Array, factor: float) -> Array:
    height, width = (round(side * factor) for side in image.shape[:2])
    return np.array(Image.fromarray(image).resize((width, height)))


def _blurred(image: Array) -> Array:
    return np.array(Image.fromarray(image).filter(ImageFilter.GaussianBlur(24)))


def _noise(image: Array) -> Array:
    return np.random.default_rng(0).integers(0, 256, image.shape, dtype=np.uint8)
