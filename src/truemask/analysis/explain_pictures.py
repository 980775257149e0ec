"""Pictures of an explanation: what was confused, and where attention gates look.

The images that are shown go through the model a second time, one by one, so that the pass over the
whole part need not keep any.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from scipy import ndimage

from truemask.analysis.attention import attention_maps, overlay
from truemask.analysis.explanation import GateLook
from truemask.bundle import Bundle
from truemask.evaluation import Seen
from truemask.images import to_rgb
from truemask.models.blocks import AttentionGate
from truemask.models.tiling import LARGEST_SIDE
from truemask.report import pictures
from truemask.report.pictures import Picture, Quality

QUALITY = Quality(480, 75)
_CLOSE = Quality(320, 80)
_LEAST_CLOSE = 64
"""Pixels of a close-up's side, at least."""

Rgb = UInt8[np.ndarray, "H W 3"]
Where = Bool[np.ndarray, "H W"]


@dataclass(frozen=True)
class Shown:
    """An image and its pictures, each with its name."""

    name: str
    pictures: tuple[tuple[str, Picture], ...]


@dataclass
class Album:
    """Draws pictures of the images that it is called with.

    Attributes:
        bundle: the model.
        confusions: (truth, prediction), class ids, of each confusion that is shown.
        confused: image -> places in `confusions` of those to draw of it.
        attended: images whose attention is drawn.
        of_confusion: (place in `confusions`, image) -> its pictures.
        of_attention: image -> its pictures.
        seen_by_gates: sums of coefficients of each gate over the pixels of each class, and pixels.
    """

    bundle: Bundle
    confusions: Sequence[tuple[int, int]]
    confused: Mapping[str, Sequence[int]]
    attended: Sequence[str]
    of_confusion: dict[tuple[int, str], Shown] = field(default_factory=dict)
    of_attention: dict[str, Shown] = field(default_factory=dict)
    seen_by_gates: list[Float[np.ndarray, "G K 2"]] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The images to call it with."""
        return sorted({*self.confused, *(self.attended if has_gates(self.bundle) else ())})

    def __call__(self, seen: Seen) -> None:
        """Draw what is wanted of one image."""
        name = seen.sample.name
        image = to_rgb(seen.sample.image, self.bundle.model.images)
        truth, ids = seen.truth.cpu().numpy(), seen.ids.cpu().numpy()
        for place in self.confused.get(name, ()):
            of, taken_for = self.confusions[place]
            where = (truth == of) & (ids == taken_for)
            self.of_confusion[place, name] = Shown(name, tuple(_confusion(image, where)))
        whole = self.bundle.model.size is not None or truth.size <= LARGEST_SIDE**2
        if name in self.attended and whole:
            self._attend(seen, image, truth)

    def _attend(self, seen: Seen, image: Rgb, truth: UInt8[np.ndarray, "H W"]) -> None:
        maps = attention_maps(self.bundle.model, seen.sample.image)
        if not maps:
            return
        labels, name = self.bundle.labels, seen.sample.name
        drawn = [
            ("Image", pictures.photo(image, QUALITY)),
            ("Truth", pictures.mask(truth, labels, QUALITY)),
        ]
        for gate, found in enumerate(maps, start=1):
            drawn.append((f"Gate {gate}", pictures.photo(overlay(image, found), QUALITY)))
        self.of_attention[name] = Shown(name, tuple(drawn))
        valid = truth != labels.ignore_index
        size = labels.num_classes
        pixels = np.bincount(truth[valid], minlength=size)
        sums = [np.bincount(truth[valid], weights=m[valid], minlength=size) for m in maps]
        self.seen_by_gates.append(np.stack([np.stack((s, pixels), -1) for s in sums]))

    def gates(self) -> list[GateLook]:
        """What the gates let through in the images that were drawn."""
        if not self.seen_by_gates:
            return []
        total = np.sum(self.seen_by_gates, axis=0)
        names = self.bundle.labels.names
        return [
            GateLook(
                gate=place,
                mean=float(sums[:, 0].sum() / max(sums[:, 1].sum(), 1)),
                per_class={
                    name: float(one / pixels) if pixels > 0 else None
                    for name, (one, pixels) in zip(names, sums, strict=True)
                },
            )
            for place, sums in enumerate(total, start=1)
        ]


def has_gates(bundle: Bundle) -> bool:
    """Whether the model has attention gates."""
    return any(isinstance(module, AttentionGate) for module in bundle.model.modules())


def _confusion(image: Rgb, where: Where) -> list[tuple[str, Picture]]:
    """The whole image with the pixels marked, and a close-up of where most of them are together."""
    box = _close_up(where)
    return [
        ("Marked", marked(image, where, QUALITY)),
        ("Close-up", pictures.photo(image[box], _CLOSE)),
        ("Close-up, marked", marked(image[box], where[box], _CLOSE)),
    ]


def marked(image: Rgb, where: Where, quality: Quality) -> Picture:
    """The pale image with the pixels marked; one that shrinks away marks the pixel it is in."""
    height, width = where.shape
    scale = min(1.0, quality.long_side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
    shares = Image.fromarray(where.astype(np.float32)).resize(size, Image.Resampling.BOX)
    drawn = np.repeat(128 + small.mean(2, keepdims=True) / 2, 3, axis=2).astype(np.uint8)
    drawn[np.asarray(shares) > 0] = pictures.WRONG
    return pictures.crisp(drawn, quality)


def _close_up(where: Where) -> tuple[slice, slice]:
    """A square around the largest connected region, with as much around it."""
    numbered, regions = ndimage.label(where, structure=np.ones((3, 3)))
    if regions == 0:
        return slice(None), slice(None)
    largest = int(np.argmax(np.bincount(numbered.ravel())[1:]))
    rows, columns = ndimage.find_objects(numbered)[largest]
    side = 2 * max(rows.stop - rows.start, columns.stop - columns.start)
    side = max(side, _LEAST_CLOSE, min(where.shape) // 4)
    return (
        _span(rows, side, where.shape[0]),
        _span(columns, side, where.shape[1]),
    )


def _span(inner: slice, side: int, length: int) -> slice:
    side = min(side, length)
    start = (inner.start + inner.stop - side) // 2
    start = min(max(start, 0), length - side)
    return slice(start, start + side)
