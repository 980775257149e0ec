"""What a plan must know of a dataset: taken from its survey, and from nothing else."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from truemask.analysis.survey_result import PartSurvey, SizeSurvey
from truemask.images import ImageSpec


@dataclass(frozen=True, kw_only=True)
class ClassFacts:
    """One class.

    Attributes:
        share: of the labelled pixels, 0 to 1.
        present: share of the images that have it.
        thickness: typical width in pixels, 2 area / length of its edges: the width of a long
            stripe, half the side of a square; `None` where it has no edge.
    """

    share: float
    present: float
    thickness: float | None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A training part as a plan sees it.

    Attributes:
        images: of the training part.
        counted: those that the other figures are of.
        height: median, in pixels.
        width: likewise.
        channels: of an image.
        photos: whether images have three channels of 8 bits, in their files too: those of 16 are
            given as 8, and their values may mean something.
        endless: whether each epoch has new samples.
        classes: name -> what is known of it, in the order of the ids.
        upside_down: how much the map of the classes changes when every image is turned upside down,
            the mean total variation of the cells, 0 to 1, less what chance alone gives.
        mirrored: the same for left and right.
        edge_ratio: length of upright over level edges of the classes, both in pixels.
        colour: how often the mean colour of a class in an image tells which class it is, 0 to 1.
    """

    images: int
    counted: int
    height: int
    width: int
    channels: int
    photos: bool
    endless: bool
    classes: Mapping[str, ClassFacts]
    upside_down: float
    mirrored: float
    edge_ratio: float
    colour: float | None

    @classmethod
    def of(
        cls, part: PartSurvey, *, images: int, spec: ImageSpec, endless: bool = False
    ) -> "Facts":
        """Those of a surveyed training part.

        Args:
            part: of the survey.
            images: of the training part, of which some may have been surveyed.
            spec: what the pixels of the images mean.
            endless: whether each epoch has new samples.
        """
        known = part.symmetry
        return cls(
            images=images,
            counted=part.images,
            height=_median([(size.height, size) for size in part.sizes]),
            width=_median([(size.width, size) for size in part.sizes]),
            channels=spec.channels,
            photos=spec.channels == 3
            and spec.dtype == "uint8"
            and not any(mode.startswith("16-bit") for mode in part.modes),
            endless=endless,
            classes={
                one.name: ClassFacts(
                    share=one.share or 0.0, present=one.images / part.images, thickness=one.width
                )
                for one in part.classes
            },
            upside_down=known.upside_down,
            mirrored=known.mirrored,
            edge_ratio=math.inf if known.edge_ratio is None else known.edge_ratio,
            colour=known.told_by_colour,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values; without level edges their ratio to upright ones is none."""
        ratio = self.edge_ratio if math.isfinite(self.edge_ratio) else None
        return asdict(self) | {"edge_ratio": ratio}

    def resized(self, height: int, width: int) -> "Facts":
        """The same images at another size."""
        scale = math.sqrt(height * width / (self.height * self.width))
        classes = {
            name: replace(one, thickness=None if one.thickness is None else one.thickness * scale)
            for name, one in self.classes.items()
        }
        return replace(self, height=height, width=width, classes=classes)

    @property
    def thinnest(self) -> tuple[str, float] | None:
        """The class whose typical width is the least, of those that occur."""
        known = {n: c.thickness for n, c in self.classes.items() if c.thickness is not None}
        return min(known.items(), key=lambda item: item[1], default=None)

    @property
    def thickest(self) -> float:
        """The typical width in pixels of the widest class, that of the image at most.

        The image's own border is no edge, so that a class at it may come out wider; one without
        edges is as wide as the image.
        """
        whole = float(min(self.height, self.width))
        occurring = [c for c in self.classes.values() if c.share > 0]
        return max(
            (whole if c.thickness is None else min(c.thickness, whole) for c in occurring),
            default=whole,
        )

    @property
    def imbalance(self) -> float:
        """How many times as many pixels the most frequent class has as the rarest that occurs."""
        shares = [c.share for c in self.classes.values() if c.share > 0]
        return max(shares) / min(shares) if shares else 1.0

    @property
    def missing(self) -> list[str]:
        """The classes that never occur."""
        return [name for name, one in self.classes.items() if one.share == 0]


def _median(lengths: Sequence[tuple[int, SizeSurvey]]) -> int:
    """The median over images; of an even number, half-way between the middle two."""
    ordered = sorted((length, size.images) for length, size in lengths)
    images = sum(count for _, count in ordered)

    def at(place: int) -> int:
        for length, count in ordered:
            if place < count:
                return length
            place -= count
        raise AssertionError("there is an image")

    return (at((images - 1) // 2) + at(images // 2)) // 2
