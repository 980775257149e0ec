"""Rows 1 to 5: unreadable and unpaired files, sizes and places, and values that are no class."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.faults.calls import check_data, check_files
from benchmarks.faults.case import STRENGTHS, Check, Fault
from benchmarks.faults.edits import (
    Edit,
    in_share,
    jpeg,
    mirrored,
    next_masks,
    palette,
    relabelled,
    shifted,
    smoothly_resized,
    swapped_masks,
    with_blob,
)
from benchmarks.faults.foreign_datasets import FilePairs, write_files
from benchmarks.faults.material import IGNORED, Pair, material, new_folder

PHOTOS = ("camvid", "crackforest", "carvana", "driving")
"""Experiments whose images are colour photographs, for faults of files."""

Files = list[tuple[Path, Path]]


def faults() -> Iterator[Fault]:
    """All of them."""
    yield from _files()
    yield from _sizes()
    yield from _places()
    yield from _values()
    yield from _table()


def _count(share: float, total: int) -> int:
    return max(1, round(share * total))


def _some(files: Files, share: float) -> Files:
    random = np.random.default_rng(1)
    chosen = random.choice(len(files), _count(share, len(files)), replace=False)
    return [files[i] for i in sorted(chosen)]


def _on_files(base: str, spoil: Callable[[Files], None], *, whole_folder: bool) -> Check:
    """Write the training part as files, spoil them, check the folder or the list of pairs."""
    data = material(base)
    folder = new_folder()
    files = write_files(data.train[:60], folder)
    spoil(files)
    return check_files(folder if whole_folder else files, data)


def _cut(path: Path, keep: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def _files() -> Iterator[Fault]:
    """Row 1."""

    def truncated(keep: float, part: int) -> Callable[[Files], None]:
        return lambda files: _cut(_some(files, 0)[0][part], keep)

    def replaced(content: bytes, part: int) -> Callable[[Files], None]:
        def spoil(files: Files) -> None:
            _some(files, 0)[0][part].write_bytes(content)

        return spoil

    def removed(share: float, part: int) -> Callable[[Files], None]:
        def spoil(files: Files) -> None:
            for pair in _some(files, share):
                pair[part].unlink()

        return spoil

    page = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
    for base in PHOTOS:
        for strength, keep in zip(STRENGTHS, (0.97, 0.6, 0.02), strict=True):
            for part, what in enumerate(("image", "mask")):
                yield Fault(
                    row=1,
                    code="TM101",
                    name=f"{what} file cut short",
                    strength=strength,
                    detail=f"one file, {keep:.0%} of it left",
                    base=base,
                    prepare=lambda b=base, k=keep, p=part: _on_files(
                        b, truncated(k, p), whole_folder=True
                    ),
                )
        for strength, content, what in zip(
            STRENGTHS, (page, b"", b"\0" * 4096), ("a web page", "empty", "zeros"), strict=True
        ):
            yield Fault(
                row=1,
                code="TM101",
                name="mask file is no picture",
                strength=strength,
                detail=f"one file, {what}",
                base=base,
                prepare=lambda b=base, c=content: _on_files(b, replaced(c, 1), whole_folder=False),
            )
        for strength, share in zip(STRENGTHS, (0.01, 0.05, 0.2), strict=True):
            for part, name in ((1, "image without a mask"), (0, "mask without an image")):
                yield Fault(
                    row=1,
                    code="TM102",
                    name=name,
                    strength=strength,
                    detail=f"{share:.0%} of the files, at least one",
                    base=base,
                    prepare=lambda b=base, s=share, p=part: _on_files(
                        b, removed(s, p), whole_folder=True
                    ),
                )


def _sizes() -> Iterator[Fault]:
    """Row 2: sizes and orientation."""

    def other_size(strength: str) -> Edit:
        def edit(pair: Pair, random: np.random.Generator) -> Pair:
            height, width = pair.mask.shape
            match strength:
                case "weak":
                    return pair.with_mask(pair.mask[:-1].copy())
                case "realistic":
                    return pair.with_mask(pair.mask[::2, ::2].copy())
            return pair.with_mask(pair.mask.T.copy())

        return edit

    details = ("one row short, 2 %", "half the size, 10 %", "height and width swapped, all")
    bases = ("camvid", "edges", "driving")
    for base in bases:
        for strength, share, detail in zip(STRENGTHS, (0.02, 0.1, 1), details, strict=True):
            yield Fault(
                row=2,
                code="TM103",
                name="mask of another size",
                strength=strength,
                detail=detail,
                base=base,
                prepare=lambda b=base, s=strength, n=share: check_data(
                    material(b).replaced(in_share(material(b).train, n, other_size(s)))
                ),
            )

    def turned(share: float, orientation: int) -> Callable[[Files], None]:
        """A phone's photo: turned on every screen, as its mask is not."""

        def spoil(files: Files) -> None:
            for path, _ in _some(files, share):
                image = Image.open(path)
                image.load()
                exif = image.getexif()
                exif[0x0112] = orientation
                image.save(path, quality=95, exif=exif)

        return spoil

    for base in PHOTOS:
        for strength, share, orientation in zip(STRENGTHS, (0.02, 0.1, 1), (3, 6, 8), strict=True):
            yield Fault(
                row=2,
                code="TM104",
                name="orientation in EXIF that the mask lacks",
                strength=strength,
                detail=f"orientation {orientation}, {share:.0%}",
                base=base,
                prepare=lambda b=base, n=share, o=orientation: _on_files(
                    b, turned(n, o), whole_folder=b != "camvid"
                ),
            )


def _misplaced(base: str, edit: Callable[[Sequence[Pair]], list[Pair]]) -> Check:
    data = material(base)
    return check_data(data.replaced(edit(data.train), edit(data.validation)))


def _places() -> Iterator[Fault]:
    """Row 2: pairs that do not belong together."""
    bases = (
        "camvid", "crackforest", "bsds500", "edges", "benchmarks", "driving", "cityscapes", "gta5",
        "carvana",
    )  # fmt: skip
    for base in bases:
        for strength, pixels, share in zip(STRENGTHS, (1, 3, 8), (0.02, 0.1, 1), strict=True):
            yield Fault(
                row=2,
                code="TM105",
                name="mask shifted",
                strength=strength,
                detail=f"{pixels} px in {share:.0%} of the pairs",
                base=base,
                prepare=lambda b=base, n=share, p=pixels: _misplaced(
                    b, lambda pairs: in_share(pairs, n, shifted(p))
                ),
            )
        for strength, share in zip(STRENGTHS, (0.02, 0.1, 1), strict=True):
            yield Fault(
                row=2,
                code="TM105",
                name="mask flipped",
                strength=strength,
                detail=f"{share:.0%} of the pairs",
                base=base,
                prepare=lambda b=base, n=share: _misplaced(
                    b, lambda pairs: in_share(pairs, n, mirrored)
                ),
            )
            yield Fault(
                row=2,
                code="TM105",
                name="mask of another image",
                strength=strength,
                detail="all, one place off" if share == 1 else f"{share:.0%} of the pairs",
                base=base,
                prepare=lambda b=base, n=share: _misplaced(
                    b,
                    lambda pairs: next_masks(pairs) if n == 1 else swapped_masks(pairs, n),
                ),
            )


def _values() -> Iterator[Fault]:
    """Row 3."""

    def as_files(base: str, quality: int, scale: int) -> Check:
        """Masks saved with the ending .jpg, as the images are."""
        data = material(base)
        pairs = [pair.with_mask(pair.mask * np.uint8(scale)) for pair in data.train[:60]]
        folder = new_folder()
        files = write_files(pairs, folder)
        jpegs = []
        for image, mask in files:
            path = mask.with_suffix(".jpg")
            Image.open(mask).save(path, quality=quality)
            jpegs.append((image, path))
        return check_files(jpegs, data)

    for strength, quality in zip(STRENGTHS, (95, 75, 50), strict=True):
        for base in ("camvid", "benchmarks", "driving", "cityscapes"):
            yield Fault(
                row=3,
                code="TM106",
                name="masks went through JPEG",
                strength=strength,
                detail=f"quality {quality}, class ids",
                base=base,
                prepare=lambda b=base, q=quality: check_data(
                    material(b).replaced(*_both(b, 1.0, jpeg(q)))
                ),
            )
        for base in ("carvana", "crackforest", "edges"):
            yield Fault(
                row=3,
                code="TM106",
                name="masks saved as .jpg",
                strength=strength,
                detail=f"quality {quality}, 0 and 255",
                base=base,
                prepare=lambda b=base, q=quality: as_files(b, q, 255),
            )
    resized = zip(
        STRENGTHS, (0.02, 0.1, 1), (0.9, 0.5, 0.5),
        (Image.Resampling.BILINEAR, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC),
        strict=True,
    )  # fmt: skip
    for strength, share, factor, method in resized:
        for base, scale in (
            ("camvid", 1), ("benchmarks", 1), ("driving", 1), ("cityscapes", 1), ("carvana", 255),
        ):  # fmt: skip
            yield Fault(
                row=3,
                code="TM106",
                name="masks resized smoothly",
                strength=strength,
                detail=f"{method.name.lower()} by {factor}, {share:.0%} of the masks",
                base=base,
                prepare=lambda b=base, s=share, f=factor, m=method, k=scale: check_data(
                    material(b).replaced(*_scaled(b, s, smoothly_resized(f, m, scale=k), k))
                ),
            )


def _both(base: str, share: float, edit: Edit) -> tuple[list[Pair], list[Pair]]:
    data = material(base)
    return in_share(data.train, share, edit), in_share(data.validation, share, edit)


def _scaled(base: str, share: float, edit: Edit, scale: int) -> tuple[list[Pair], list[Pair]]:
    """As `_both`, the masks that were left alone in 0 and 255 as well where the others are."""
    both = []
    for pairs in (material(base).train, material(base).validation):
        edited = in_share(pairs, share, edit)
        both.append(
            [
                new.with_mask(new.mask * np.uint8(scale)) if new is old else new
                for old, new in zip(pairs, edited, strict=True)
            ]
        )
    return both[0], both[1]


def _table() -> Iterator[Fault]:
    """Rows 4 and 5."""
    for base in ("camvid", "driving", "cityscapes", "benchmarks"):
        number = {"camvid": 11, "driving": 5, "cityscapes": 19, "benchmarks": 21}[base]
        amounts = zip(STRENGTHS, (0.01, 0.1, 1), (0.001, 0.01, 0.05), strict=True)
        for strength, share, area in amounts:
            yield Fault(
                row=4,
                code="TM107",
                name="id outside the class table",
                strength=strength,
                detail=f"the id after the last, {area:.1%} of {share:.0%} of the masks",
                base=base,
                prepare=lambda b=base, s=share, a=area, n=number: check_data(
                    material(b).replaced(*_both(b, s, with_blob(n, a)))
                ),
            )
        yield Fault(
            row=4,
            code="TM107",
            name="void kept as the id after the last class",
            strength="realistic",
            detail="the ignored id is declared as 255",
            base=base,
            prepare=lambda b=base, n=number: check_data(
                material(b).replaced(*_both(b, 1.0, relabelled(IGNORED, n)))
            ),
        )
    for strength, share in zip(STRENGTHS, (0.02, 0.2, 1), strict=True):
        for base in ("camvid", "benchmarks", "driving", "gta5"):
            for mode, name in (("L", "colour mask read as grey"), ("RGB", "mask read as RGB")):
                yield Fault(
                    row=4,
                    code="TM108",
                    name=name,
                    strength=strength,
                    detail=f"{share:.0%} of the masks",
                    base=base,
                    prepare=lambda b=base, s=share, m=mode: _colored(b, s, m),
                )
            yield Fault(
                row=4,
                code="TM108",
                name="palette mask's red channel taken for ids",
                strength=strength,
                detail=f"{share:.0%} of the masks",
                base=base,
                prepare=lambda b=base, s=share: _colored(b, s, "R"),
            )
        for base in ("carvana", "crackforest", "edges", "bsds500"):
            yield Fault(
                row=5,
                code="TM109",
                name="foreground 255 is also the ignored id",
                strength=strength,
                detail=f"{share:.0%} of the masks",
                base=base,
                prepare=lambda b=base, s=share: check_data(
                    material(b).replaced(*_both(b, s, _to_255))
                ),
            )


def _to_255(pair: Pair, random: np.random.Generator) -> Pair:
    return pair.with_mask(np.where(pair.mask == 1, np.uint8(255), np.uint8(0)))


def _colored(base: str, share: float, mode: str) -> Check:
    """Some masks are pictures in colour; they are read as grey, as RGB, or by one channel."""
    data = material(base)
    colors = palette()

    def edit(pair: Pair, random: np.random.Generator) -> Pair:
        picture = Image.fromarray(colors[pair.mask])
        if mode == "R":
            return pair.with_mask(np.array(picture)[..., 0])
        return pair.with_mask(np.array(picture.convert(mode)))

    if mode == "RGB":
        folder = new_folder()
        pairs = data.train[:60]
        files = write_files(pairs, folder)
        for (_, path), pair in zip(files, pairs, strict=True):
            mask = Image.fromarray(pair.mask)
            mask.putpalette(colors.tobytes())
            mask.save(path)
        few = _count(share, len(files))
        readers = [FilePairs(files[:few], "RGB"), FilePairs(files[few:])]
        return check_files(_Chained(readers), data)
    return check_data(data.replaced(*_both(base, share, edit)))


class _Chained:
    """Datasets one after the other, as a `ConcatDataset`."""

    def __init__(self, datasets: Sequence[FilePairs]) -> None:
        self.places = [(data, i) for data in datasets for i in range(len(data))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> object:
        dataset, i = self.places[index]
        return dataset[i]
