"""Rows 6 to 10: what is wrong with the labels of a part as a whole."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch import nn

from benchmarks.faults.calls import check_data
from benchmarks.faults.case import STRENGTHS, Check, Fault
from benchmarks.faults.edits import bonnet, ignored_whole, in_share, relabelled, with_blob
from benchmarks.faults.material import IGNORED, Pair, material


def faults() -> Iterator[Fault]:
    """All of them."""
    yield from _absent()
    yield from _imbalance()
    yield from _suspicious()
    yield from _constant()
    yield from _lost()


def _absent() -> Iterator[Fault]:
    """Row 6."""
    # A class that most images have, one that some have, one that few have.
    cases = {
        "camvid": (10, 8, 3),
        "driving": (4, 2, 0),
        "cityscapes": (17, 11, 0),
        "benchmarks": (3, 15, 0),
    }
    for base, classes in cases.items():
        for strength, id_ in zip(STRENGTHS, classes, strict=True):
            for part in ("validation", "train"):
                yield Fault(
                    row=6,
                    code="TM110",
                    name=f"class that never occurs in {part}",
                    strength=strength,
                    detail="a rare, a common, the largest class",
                    base=base,
                    prepare=lambda b=base, i=id_, p=part: _without(b, i, p),
                )
    for base in ("camvid", "crackforest", "driving", "cityscapes"):
        for strength, share in zip(STRENGTHS, (0.01, 0.05, 0.2), strict=True):
            yield Fault(
                row=6,
                code="TM111",
                name="image that is ignored as a whole",
                strength=strength,
                detail=f"{share:.0%} of the images, at least one",
                base=base,
                prepare=lambda b=base, s=share: check_data(
                    material(b).replaced(in_share(material(b).train, s, ignored_whole))
                ),
            )


def _without(base: str, id_: int, part: str) -> Check:
    data = material(base)
    pairs: Sequence[Pair] = getattr(data, part)
    removed = in_share(pairs, 1.0, relabelled(id_, IGNORED))
    return check_data(data.replaced(**{part: removed}))


def _rare(base: str, share: float) -> list[Pair]:
    """Images whose foreground is so small a share of all pixels: most have none or a speck."""
    random = np.random.default_rng(0)
    pairs = []
    for pair in material(base).train:
        mask = np.zeros_like(pair.mask)
        height, width = mask.shape
        area = share * height * width * random.exponential()
        radius = max(1.0, np.sqrt(area / np.pi))
        down, right = np.ogrid[:height, :width]
        y, x = random.uniform(0.1, 0.9) * height, random.uniform(0.1, 0.9) * width
        mask[(down - y) ** 2 + (right - x) ** 2 <= radius**2] = 1
        shade = np.array((200, 60, 60), np.uint8)
        image = np.where(mask[..., None] == 1, (pair.image // 2 + shade // 2), pair.image)
        pairs.append(Pair(pair.name, image.astype(np.uint8), mask))
    return pairs


def _imbalance() -> Iterator[Fault]:
    """Row 7: a plain loss on few positives."""
    for strength, share in zip(STRENGTHS, (0.05, 0.02, 0.005), strict=True):
        for base in ("crackforest", "bsds500", "carvana"):
            yield Fault(
                row=7,
                code="TM112",
                name="few positives under a plain loss",
                strength=strength,
                detail=f"{share:.1%} positives, binary cross-entropy",
                base=base,
                prepare=lambda b=base, s=share: check_data(
                    material(b).replaced(_rare(b, s)), loss=nn.BCEWithLogitsLoss()
                ),
            )
    for base in ("crackforest", "edges"):
        yield Fault(
            row=7,
            code="TM112",
            name="few positives under a plain loss",
            strength="realistic",
            detail="as published",
            base=base,
            prepare=lambda b=base: check_data(material(b), loss=nn.BCEWithLogitsLoss()),
        )


def _suspicious() -> Iterator[Fault]:
    """Row 8."""
    common = {"camvid": (3, 1), "driving": (0, 3), "cityscapes": (0, 2), "gta5": (0, 10)}
    for base, ids in common.items():
        for strength, share in zip(STRENGTHS, (0.01, 0.04, 0.1), strict=True):
            yield Fault(
                row=8,
                code="TM113",
                name="road missing, its pixels ignored",
                strength=strength,
                detail=f"{share:.0%} of the images, at least one",
                base=base,
                prepare=lambda b=base, s=share, i=ids: check_data(
                    material(b).replaced(in_share(material(b).train, s, relabelled(i[0], IGNORED)))
                ),
            )
            yield Fault(
                row=8,
                code="TM113",
                name="road called by another class",
                strength=strength,
                detail=f"{share:.0%} of the images, at least one",
                base=base,
                prepare=lambda b=base, s=share, i=ids: check_data(
                    material(b).replaced(in_share(material(b).train, s, relabelled(*i)))
                ),
            )
    sky = {"camvid": 0, "driving": 3, "cityscapes": 10, "gta5": 10}
    amounts = zip(STRENGTHS, (0.01, 0.04, 0.1), (0.005, 0.03, 0.1), strict=True)
    for strength, share, area in amounts:
        for base, id_ in sky.items():
            yield Fault(
                row=8,
                code="TM114",
                name="sky on the road",
                strength=strength,
                detail=f"{area:.1%} of the pixels in {share:.0%} of the images",
                base=base,
                prepare=lambda b=base, s=share, a=area, i=id_: check_data(
                    material(b).replaced(
                        in_share(material(b).train, s, with_blob(i, a, rows=(0.85, 0.97)))
                    )
                ),
            )


def _constant() -> Iterator[Fault]:
    """Row 9."""
    ids = {"camvid": 8, "driving": 4, "cityscapes": 13, "gta5": 13}
    amounts = zip(STRENGTHS, (0.9, 1.0, 1.0), (0.04, 0.08, 0.15), strict=True)
    for strength, share, height in amounts:
        for base, id_ in ids.items():
            yield Fault(
                row=9,
                code="TM115",
                name="the car's own bonnet is labelled",
                strength=strength,
                detail=f"{height:.0%} of the height, {share:.0%} of the images",
                base=base,
                prepare=lambda b=base, s=share, h=height, i=id_: _with_bonnet(b, s, h, i),
            )


def _with_bonnet(base: str, share: float, height: float, id_: int) -> Check:
    data = material(base)

    def seen(pair: Pair, random: np.random.Generator) -> Pair:
        """The bonnet is in the picture too, a dark and even surface."""
        marked = bonnet(254, height)(pair, random)
        inside = marked.mask == 254
        shade = np.array((42, 44, 48), np.uint8)
        image = np.where(inside[..., None], shade + random.integers(0, 5), pair.image)
        mask = np.where(inside, np.uint8(id_), pair.mask)
        return Pair(pair.name, image.astype(np.uint8), mask)

    return check_data(
        data.replaced(in_share(data.train, share, seen), in_share(data.validation, share, seen))
    )


def _lost() -> Iterator[Fault]:
    """Row 10: what the training resolution leaves of small objects."""
    sizes = {
        "camvid": ((180, 240), (90, 120), (32, 32)),
        "driving": ((90, 160), (64, 64), (32, 32)),
        "cityscapes": ((96, 192), (64, 128), (32, 64)),
        "crackforest": ((160, 240), (64, 64), (32, 32)),
        "bsds500": ((160, 240), (64, 64), (32, 32)),
    }
    for base, choices in sizes.items():
        for strength, size in zip(STRENGTHS, choices, strict=True):
            yield Fault(
                row=10,
                code="TM116",
                name="objects lost by resizing",
                strength=strength,
                detail=f"trained at {size[0]}x{size[1]}",
                base=base,
                prepare=lambda b=base, s=size: check_data(material(b), train_size=s),
            )
