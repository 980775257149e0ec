"""Rows 13 to 16: batches that are not what the model should get."""

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.faults import foreign_loaders as foreign
from benchmarks.faults.calls import check_batches
from benchmarks.faults.case import STRENGTHS, Check, Fault, Strength
from benchmarks.faults.foreign_loaders import (
    CIFAR10,
    HALF,
    IMAGENET,
    MNIST,
    DictNormalized,
    Normalized,
    OpenCvPairs,
    loader,
)
from benchmarks.faults.material import material

BASES = ("camvid", "crackforest", "driving", "carvana", "benchmarks")
Transform = Callable[..., Any]


def faults() -> Iterator[Fault]:
    """All of them."""
    yield from _scaling()
    yield from _channels()
    yield from _unmoved_masks()
    yield from _padding()


def _batches(base: str, *, size: list[int] | None = None, **spoiled: Any) -> Check:
    """A loader of the training part, normalised as declared but for what is spoiled."""
    data = material(base)
    style = DictNormalized if base == "driving" else Normalized
    if base == "benchmarks" and size is None:
        size = [96, 112]  # its images differ in size
    declared = spoiled.pop("declared", IMAGENET)
    dataset = style(data.train, size=size, **spoiled)
    return check_batches(loader(dataset), data, normalization=declared)


def _scaling() -> Iterator[Fault]:
    def fault(name: str, strength: Strength, base: str, detail: str, **spoiled: Any) -> Fault:
        return Fault(
            row=13,
            code="TM301",
            name=name,
            strength=strength,
            detail=detail,
            base=base,
            prepare=lambda: _batches(base, **spoiled),
        )

    for base in BASES:
        for strength, share in zip(STRENGTHS, (0.1, 0.5, 1.0), strict=True):
            much = f"{share:.0%} of the images"
            yield fault(
                "0 to 255 into a normalisation of 0 to 1", strength, base, much,
                before=foreign.times_255(share),
            )  # fmt: skip
            yield fault(
                "divided by 255 twice", strength, base, much, before=foreign.divided_again(share)
            )
            yield fault(
                "normalised twice", strength, base, much,
                after=foreign.normalized_with(IMAGENET, share),
            )  # fmt: skip
        for strength, stats, what in zip(
            STRENGTHS,
            (CIFAR10, HALF, MNIST),
            ("CIFAR-10's", "0.5 and 0.5", "MNIST's"),
            strict=True,
        ):
            yield fault(
                "mean and std of another data set", strength, base,
                f"{what} where ImageNet's are declared", stats=stats,
            )  # fmt: skip
        yield fault("not normalised at all", "realistic", base, "stays in 0 to 1", stats=None)


def _channels() -> Iterator[Fault]:
    for base in ("camvid", "driving", "carvana", "benchmarks", "cityscapes"):
        for strength, share in zip(STRENGTHS, (0.25, 0.5, 1.0), strict=True):
            yield Fault(
                row=14,
                code="TM302",
                name="blue and red swapped",
                strength=strength,
                detail=f"{share:.0%} of the images",
                base=base,
                prepare=lambda b=base, s=share: _known(b, before=foreign.channels((2, 1, 0), s)),
            )
        yield Fault(
            row=14,
            code="TM302",
            name="as cv2.imread gives them",
            strength="realistic",
            detail="all, ImageNet's mean and std in RGB order",
            base=base,
            prepare=lambda b=base: _opencv(b),
        )
        yield Fault(
            row=14,
            code="TM302",
            name="channels rolled",
            strength="realistic",
            detail="GBR, all",
            base=base,
            prepare=lambda b=base: _known(b, before=foreign.channels((1, 2, 0))),
        )


def _known(base: str, **spoiled: Any) -> Check:
    """As `_batches`, beside the dataset's own pairs."""
    data = material(base)
    size = [96, 112] if base == "benchmarks" else None
    batches = loader(Normalized(data.train, size=size, **spoiled))
    return check_batches(batches, data, normalization=IMAGENET, compare=True)


def _opencv(base: str) -> Check:
    data = material(base)
    pairs = [pair for pair in data.train if pair.image.shape == data.train[0].image.shape]
    batches = loader(OpenCvPairs(pairs))
    return check_batches(batches, data.replaced(pairs), normalization=IMAGENET, compare=True)


def _unmoved_masks() -> Iterator[Fault]:
    kinds: tuple[tuple[str, tuple[tuple[str, Transform], ...]], ...] = (
        (
            "image flipped, mask not",
            tuple((f"p = {p}", foreign.flip_image_only(p)) for p in (0.1, 0.5, 1.0)),
        ),
        (
            "image and mask flipped each by its own coin",
            tuple((f"p = {p}", foreign.flip_each_by_itself(p)) for p in (0.1, 0.3, 0.5)),
        ),
        (
            "image rotated, mask not",
            tuple((f"up to {a} degrees", foreign.rotate_image_only(a)) for a in (5, 15, 90)),
        ),
        (
            "two random crops",
            tuple((f"up to {n} px apart", foreign.crop_each_by_itself(n)) for n in (4, 16, 64)),
        ),
        (
            "image moved, mask not",
            tuple((f"up to {n} px", foreign.affine_image_only(n)) for n in (4, 12, 32)),
        ),
    )
    for name, three in kinds:
        for strength, (detail, transform) in zip(STRENGTHS, three, strict=True):
            for base in BASES:
                yield Fault(
                    row=15,
                    code="TM303",
                    name=name,
                    strength=strength,
                    detail=detail,
                    base=base,
                    prepare=lambda b=base, t=transform: _known(b, before=t),
                    also=("TM105",),
                )
                if base in ("camvid", "driving"):
                    yield Fault(
                        row=15,
                        code="TM303",
                        name=f"{name}; the files are not known",
                        strength=strength,
                        detail=detail,
                        base=base,
                        prepare=lambda b=base, t=transform: _batches(b, before=t),
                        also=("TM105",),
                    )


def _padding() -> Iterator[Fault]:
    def collated(base: str, extra: int) -> Check:
        data = material(base)
        batches = loader(
            Normalized(data.train, stats=foreign.HALF),
            collate_fn=foreign.pad_collate(0, extra=extra),
        )
        return check_batches(batches, data, normalization=HALF)

    for strength, extra in zip(STRENGTHS, (0, 16, 64), strict=True):
        # CrackForest's images are multiples of 16 of one size: nothing is padded without extra.
        mixed = ("edges", "benchmarks", "bsds500")
        for base in (*mixed, "crackforest") if extra else mixed:
            yield Fault(
                row=16,
                code="TM304",
                name="padding labelled as class 0",
                strength=strength,
                detail=f"to the batch's largest size, multiples of 16, and {extra} px",
                base=base,
                prepare=lambda b=base, e=extra: collated(b, e),
            )
        for base in ("camvid", "driving"):
            side = {"weak": 128, "realistic": 160, "strong": 256}[strength]
            yield Fault(
                row=16,
                code="TM304",
                name="letterbox labelled as class 0",
                strength=strength,
                detail=f"fitted into {side}x{side}",
                base=base,
                prepare=lambda b=base, s=side: _batches(b, before=foreign.letterbox(s, 0)),
            )
