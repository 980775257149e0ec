"""The typed result of a survey, and its JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from truemask.errors import UsageError

FORMAT = "truemask survey"
"""What a `survey.json` says of itself."""

COMMON = 0.9
"""Share of the images from which on a class is one that an image should have."""


@dataclass(frozen=True, kw_only=True)
class Below:
    """What falls below one pixel when the longer side of each image is brought to a length.

    Attributes:
        regions: connected regions whose area becomes less than one pixel.
        pixels: of those, at the images' own size.
    """

    regions: int
    pixels: int


@dataclass(frozen=True, kw_only=True)
class ClassSurvey:
    """One class in some images.

    Attributes:
        name: of the class.
        pixels: it has.
        share: of all labelled pixels, 0 to 1; `None` where no pixel is labelled.
        images: that hold it.
        regions: connected by sides.
        region_sizes: b -> regions of 2^b to 2^(b + 1) - 1 pixels; without those that are none.
        below: length of the longer side -> what falls below one pixel there.
        boundary_share: share of its pixels that share a side with a pixel of another id, ignored
            ones included; `None` where it has no pixel.
        upright_edges: sides of its pixels to a pixel of another id to the left or right.
        level_edges: likewise above or below.
        width: typical, in pixels: twice its pixels over its edges, which is the width of a long
            stripe and half the side of a square; `None` where it has no edge.
        told_by_colour: share of the images with it in which its mean colour is nearest to that of
            the class, and of no other; `None` where that is not known.
        lacking: some images without it, of those that can be used.
    """

    name: str
    pixels: int
    share: float | None
    images: int
    regions: int
    region_sizes: dict[int, int]
    below: dict[int, Below]
    boundary_share: float | None
    upright_edges: int
    level_edges: int
    width: float | None
    told_by_colour: float | None
    lacking: list[str]


@dataclass(frozen=True, kw_only=True)
class Symmetry:
    """What may be done to images without making others of them than there are.

    Attributes:
        upside_down: how much the map of the classes changes when every image is turned upside
            down: the mean total variation of its cells, 0 to 1, less what chance alone gives.
        mirrored: the same for left and right.
        edge_ratio: length of upright over level edges of the classes; `None` without level ones.
        told_by_colour: how often the mean colour of a class in an image tells which class it is,
            0 to 1, on average over the classes; `None` where that is not known.
    """

    upside_down: float
    mirrored: float
    edge_ratio: float | None
    told_by_colour: float | None


@dataclass(frozen=True, kw_only=True)
class SizeSurvey:
    """How many images have a size, in pixels."""

    height: int
    width: int
    images: int


@dataclass(frozen=True, kw_only=True)
class PartSurvey:
    """Some images: a part, or all.

    Attributes:
        images: that could be read.
        unreadable: that could not.
        failed: (name, reason) of some of those.
        pixels: of all masks.
        ignored: pixels that are of no class.
        ignored_share: of all pixels, 0 to 1.
        boundary_share: share of the pixels that share a side with a pixel of another id.
        sizes: the most frequent first.
        modes: how the pixels of the files lie -> images, the most frequent first.
        classes: in the order of ids.
        symmetry: what may be done to them.
        co_occurrence: (K, K) images that hold both classes; the diagonal, those that hold one.
        heatmaps: of each class, and of ignored pixels last, (G, G) pixels in each cell of a grid
            that is laid over every image, whatever its size.
    """

    images: int
    unreadable: int
    failed: list[tuple[str, str]]
    pixels: int
    ignored: int
    ignored_share: float
    boundary_share: float
    sizes: list[SizeSurvey]
    modes: dict[str, int]
    classes: list[ClassSurvey]
    symmetry: Symmetry
    co_occurrence: list[list[int]]
    heatmaps: list[list[list[int]]]


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """What images are normalised by: of the training part alone.

    Attributes:
        mean: of each channel, of images scaled to [0, 1].
        std: likewise the standard deviation over all pixels.
        pixels: over which it was taken.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixels: int


@dataclass(frozen=True, kw_only=True)
class ShareDifference:
    """A class's share in some images against its share in others.

    Attributes:
        name: of the class.
        share: in the one.
        other_share: in the others.
        z: the difference in standard deviations of what chance alone makes of it.
        p: the probability of a difference so large by chance, if the images were dealt at random.
        adjusted: p, corrected for the number of differences that were looked at (Holm 1979).
    """

    name: str
    share: float
    other_share: float
    z: float
    p: float
    adjusted: float

    @property
    def differs(self) -> bool:
        """Whether that is more than chance, at 5 % over all that were looked at."""
        return self.adjusted < 0.05


@dataclass(frozen=True, kw_only=True)
class GroupDifference:
    """Two sets of images held against each other.

    Attributes:
        one: what the one is called.
        other: what the others are called.
        images: of the one.
        other_images: of the others.
        classes: that occur, those that differ most surely first; none where the images are too few
            to be held against each other.
    """

    one: str
    other: str
    images: int
    other_images: int
    classes: list[ShareDifference]


@dataclass(frozen=True, kw_only=True)
class GroupSurvey:
    """The images of one value of an attribute, over all parts.

    Attributes:
        value: of the attribute.
        images: that have it.
        shares: of each class among the labelled pixels; `None` where none is labelled.
        holding: images that hold each class.
        difference: to all images of other values.
    """

    value: str
    images: int
    shares: list[float | None]
    holding: list[int]
    difference: GroupDifference


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """What keeping the N largest classes would drop.

    Attributes:
        kept: N.
        added: the class that is the N-th largest.
        dropped_share: share of the labelled pixels that would be of no class any more.
        dropped_regions: share of the connected regions likewise.
        part: by whose pixels the classes are ordered: the training part's, as `data.labels.keep`.
    """

    kept: int
    added: str
    dropped_share: float
    dropped_regions: float
    part: str


@dataclass(frozen=True, kw_only=True)
class Lacking:
    """Images without a class that nearly all others have: the class or the label may be wrong.

    Attributes:
        name: of the class.
        images: that lack it.
        share: of all images, 0 to 1.
        named: some of them, drawn by their names alone.
    """

    name: str
    images: int
    share: float
    named: list[str]


@dataclass(frozen=True, kw_only=True)
class Survey:
    """A dataset, counted.

    Attributes:
        name: of the data.
        classes: names, in the order of ids.
        colors: of the classes, RGB from 0 to 255.
        ignore_name: what the dataset calls pixels of no class.
        sides: lengths of the longer side at which it is asked what falls below one pixel.
        total: all images.
        parts: those of each part.
        normalisation: of the training part; `None` where there is none.
        differences: of each pair of parts.
        attributes: attribute -> its values, the most frequent first.
        keeping: from one class to all.
        lacking: classes that at least `COMMON` of all images have, and not all.
        notes: what else a reader must know, a sentence each.
        seconds: that the counting took.
        counted: images that were decoded for it; all others were known from an earlier survey.
    """

    name: str
    classes: list[str]
    colors: list[tuple[int, int, int]]
    ignore_name: str
    sides: list[int]
    total: PartSurvey
    parts: dict[str, PartSurvey]
    normalisation: Normalisation | None
    differences: list[GroupDifference]
    attributes: dict[str, list[GroupSurvey]]
    keeping: list[Keeping]
    lacking: list[Lacking]
    notes: list[str]
    seconds: float
    counted: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, with a mark by which such a file is known."""
        plain: dict[str, Any] = asdict(self)
        return {"format": FORMAT} | plain

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Survey":
        """The inverse of `to_json`.

        Raises:
            UsageError: it is not a survey.
        """
        try:
            made = {
                "total": _part(value["total"]),
                "parts": {name: _part(part) for name, part in value["parts"].items()},
                "normalisation": _normalisation(value["normalisation"]),
                "differences": [_difference(item) for item in value["differences"]],
                "attributes": {
                    name: [
                        GroupSurvey(**(item | {"difference": _difference(item["difference"])}))
                        for item in items
                    ]
                    for name, items in value["attributes"].items()
                },
                "lacking": [Lacking(**item) for item in value["lacking"]],
                "keeping": [Keeping(**item) for item in value["keeping"]],
                "colors": [(int(r), int(g), int(b)) for r, g, b in value["colors"]],
            }
            rest = {key: item for key, item in value.items() if key != "format"}
            return cls(**(rest | made))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"this is no survey: {error!r}") from error


def _part(value: Mapping[str, Any]) -> PartSurvey:
    return PartSurvey(
        **(
            dict(value)
            | {
                "failed": [(str(name), str(reason)) for name, reason in value["failed"]],
                "sizes": [SizeSurvey(**item) for item in value["sizes"]],
                "classes": [_class(item) for item in value["classes"]],
                "symmetry": Symmetry(**value["symmetry"]),
            }
        )
    )


def _class(value: Mapping[str, Any]) -> ClassSurvey:
    return ClassSurvey(
        **(
            dict(value)
            | {
                # JSON has no keys but texts.
                "region_sizes": {int(b): int(n) for b, n in value["region_sizes"].items()},
                "below": {int(side): Below(**item) for side, item in value["below"].items()},
            }
        )
    )


def _normalisation(value: Mapping[str, Any] | None) -> Normalisation | None:
    if value is None:
        return None
    return Normalisation(mean=tuple(value["mean"]), std=tuple(value["std"]), pixels=value["pixels"])


def _difference(value: Mapping[str, Any]) -> GroupDifference:
    classes = [ShareDifference(**item) for item in value["classes"]]
    return GroupDifference(**(dict(value) | {"classes": classes}))
