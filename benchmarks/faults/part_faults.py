"""Rows 11 and 12: parts that share images, or that are not alike."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from benchmarks.faults.calls import check_parts, datasets_of
from benchmarks.faults.case import STRENGTHS, Check, Fault
from benchmarks.faults.edits import (
    both_mirrored,
    brightened,
    cropped,
    recompressed,
    resized_images,
)
from benchmarks.faults.foreign_datasets import FilePairs, write_files
from benchmarks.faults.material import (
    REAL,
    Material,
    Pair,
    material,
    new_folder,
    real_data_is_there,
)

PHOTOS = ("camvid", "crackforest", "bsds500", "driving", "carvana")


def _check(data: Material) -> Check:
    return check_parts(datasets_of(data), data)


def faults() -> Iterator[Fault]:
    """All of them."""
    yield from _same()
    yield from _near()
    yield from _neighbours()
    yield from _unlike()
    yield from _small()


def _leaked(base: str, count: int, change: Callable[[Pair], Pair]) -> Check:
    """Some training images stand in validation too, changed a little."""
    data = material(base)
    random = np.random.default_rng(0)
    chosen = random.choice(len(data.train), min(count, len(data.train)), replace=False)
    return _check(
        data.replaced(validation=[*data.validation, *(change(data.train[i]) for i in chosen)])
    )


def _same() -> Iterator[Fault]:
    def of_files(base: str, count: int) -> Check:
        data = material(base)
        train = write_files(data.train[:60], new_folder())
        validation = write_files(data.validation[:30], new_folder())
        parts = {"train": train, "validation": [*validation, *train[:count]]}
        return check_parts(parts, data)

    for strength, count in zip(STRENGTHS, (1, 5, 20), strict=True):
        for base in (*PHOTOS, "benchmarks", "textures"):
            yield Fault(
                row=11,
                code="TM201",
                name="same image in two parts",
                strength=strength,
                detail=f"{count} images",
                base=base,
                prepare=lambda b=base, n=count: _leaked(b, n, lambda pair: pair),
                also=("TM202",),
            )
        for base in ("camvid", "driving"):
            yield Fault(
                row=11,
                code="TM201",
                name="same file in two parts",
                strength=strength,
                detail=f"{count} files",
                base=base,
                prepare=lambda b=base, n=count: of_files(b, n),
            )


def _near() -> Iterator[Fault]:
    changes: dict[str, tuple[Callable[[Pair], Pair], ...]] = {
        "resized": (
            lambda pair: resized_images(pair, 0.9),
            lambda pair: resized_images(pair, 0.5),
            lambda pair: resized_images(pair, 0.25),
        ),
        "recompressed": (
            lambda pair: recompressed(pair, 95),
            lambda pair: recompressed(pair, 75),
            lambda pair: recompressed(pair, 30),
        ),
        "flipped": (both_mirrored,) * 3,
        "exported at another exposure": (
            lambda pair: brightened(pair, 0.95),
            lambda pair: brightened(pair, 1.15),
            lambda pair: brightened(pair, 0.7),
        ),
        "with a margin cut off": (
            lambda pair: cropped(pair, 0.02),
            lambda pair: cropped(pair, 0.05),
            lambda pair: cropped(pair, 0.1),
        ),
    }
    for what, three in changes.items():
        for strength, count, change in zip(STRENGTHS, (1, 5, 20), three, strict=True):
            for base in PHOTOS:
                yield Fault(
                    row=11,
                    code="TM202",
                    name=f"near-duplicate, {what}",
                    strength=strength,
                    detail=f"{count} images",
                    base=base,
                    prepare=lambda b=base, n=count, c=change: _leaked(b, n, c),
                )


def _neighbours() -> Iterator[Fault]:
    """Frames of one video, divided at random: CamVid's frames one second apart, and a pan."""

    def of_camvid(share: float) -> Check:
        data = material("camvid")
        folder = REAL / "camvid" / "train"
        names = sorted(path.stem for path in (folder / "images").iterdir())[:150]
        random = np.random.default_rng(0)
        count = max(2, round(share * len(names)))
        held = set(random.choice(len(names), count, replace=False).tolist())
        files = [
            (folder / "images" / f"{name}.jpg", folder / "masks" / f"{name}.png") for name in names
        ]
        parts = {
            "train": FilePairs([pair for i, pair in enumerate(files) if i not in held]),
            "validation": FilePairs([pair for i, pair in enumerate(files) if i in held]),
        }
        return check_parts(parts, data, ignore_index=11)

    if real_data_is_there():
        for strength, share in zip(STRENGTHS, (0.03, 0.2, 0.4), strict=True):
            yield Fault(
                row=11,
                code="TM203",
                name="neighbouring frames across parts",
                strength=strength,
                detail=f"{share:.0%} of 150 frames held out at random",
                base="camvid",
                prepare=lambda s=share: of_camvid(s),
                also=("TM202",),
            )

    def panned(base: str, step: int, count: int) -> Check:
        """Each image becomes two frames of a camera that moves a few pixels, one in each part."""
        data = material(base)

        def frame(pair: Pair, offset: int) -> Pair:
            height, width = pair.mask.shape
            side = width - 40
            noise = np.random.default_rng(offset).normal(0, 2, (height, side, 1))
            image = np.clip(pair.image[:, offset : offset + side] + noise, 0, 255)
            mask = pair.mask[:, offset : offset + side].copy()
            return Pair(f"{pair.name}_{offset:02}", image.astype(np.uint8), mask)

        train = [frame(pair, 0) for pair in data.train]
        held = [frame(pair, step) for pair in data.train[:count]]
        others = [frame(pair, 0) for pair in data.validation]
        return _check(data.replaced(train, [*others, *held]))

    for strength, step, count in zip(STRENGTHS, (24, 12, 4), (3, 15, 40), strict=True):
        for base in ("driving", "cityscapes", "bsds500"):
            yield Fault(
                row=11,
                code="TM203",
                name="frames of a moving camera across parts",
                strength=strength,
                detail=f"{count} frames, {step} px apart",
                base=base,
                prepare=lambda b=base, s=step, n=count: panned(b, s, n),
                also=("TM202",),
            )


def _unlike() -> Iterator[Fault]:
    """Row 12: images sorted by how much they hold of a class, then divided by position."""

    def by_share(base: str, id_: int, sorted_share: float) -> Check:
        data = material(base)
        pairs: Sequence[Pair] = [*data.train, *data.validation]
        random = np.random.default_rng(0)
        keys = [float((pair.mask == id_).mean()) for pair in pairs]
        kept = random.random(len(pairs)) < sorted_share
        noise = random.permutation(keys)
        order = sorted(range(len(pairs)), key=lambda i: keys[i] if kept[i] else noise[i])
        cut = int(0.7 * len(pairs))
        ordered = [pairs[i] for i in order]
        return _check(data.replaced(ordered[:cut], ordered[cut:]))

    for strength, share in zip(STRENGTHS, (0.35, 0.6, 1.0), strict=True):
        for base, id_ in (
            ("crackforest", 1), ("bsds500", 1), ("driving", 1), ("cityscapes", 13), ("carvana", 1),
        ):  # fmt: skip
            yield Fault(
                row=12,
                code="TM204",
                name="parts divided by an order that follows a class",
                strength=strength,
                detail=f"{share:.0%} of the images are sorted by their share of it",
                base=base,
                prepare=lambda b=base, i=id_, s=share: by_share(b, i, s),
            )


def _small() -> Iterator[Fault]:
    for strength, count in zip(STRENGTHS, (5, 3, 1), strict=True):
        for base in ("camvid", "crackforest", "bsds500", "driving", "cityscapes", "carvana"):
            yield Fault(
                row=12,
                code="TM205",
                name="part too small to tell anything",
                strength=strength,
                detail=f"{count} validation images",
                base=base,
                prepare=lambda b=base, n=count: _check(
                    material(b).replaced(validation=material(b).validation[::7][:n])
                ),
            )
