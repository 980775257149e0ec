"""How well `predict` warns of images unlike a training: AUROC, shares warned of, and IoU.

`python -m benchmarks.doubt RUN FOLDER [N]` takes a run of CamVid (FOLDER holds camvid, crackforest
and bsds500), and predicts by the command line CamVid's validation images, other data sets, and the
validation images changed in one thing each; with N only every N-th image. What it prints stands in
the last columns of predictions.csv. The IoU is of the masks of CamVid's validation images, changed
or not, against their truth.
"""

import contextlib
import csv
import io
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from benchmarks.inputs import auroc, generated
from truemask.cli import main as truemask
from truemask.labels import LabelMap
from truemask.metrics.confusion import confusion_matrices, headline, iou
from truemask.runs import Run

Change = Callable[[Image.Image], Image.Image]


def noisy(image: Image.Image) -> Image.Image:
    """With noise of a deviation of 25 levels."""
    rng = np.random.default_rng(image.size[0])
    pixels = np.asarray(image) + rng.normal(0, 25, (image.height, image.width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def compressed(image: Image.Image, quality: int = 10) -> Image.Image:
    """As a JPEG."""
    content = io.BytesIO()
    image.save(content, format="JPEG", quality=quality)
    return Image.open(content).convert("RGB")


def resized(image: Image.Image, factor: float) -> Image.Image:
    """At another size; a mask keeps its ids."""
    size = (round(image.width * factor), round(image.height * factor))
    return image.resize(size, Image.Resampling.NEAREST if image.mode == "L" else None)


def enlarged(image: Image.Image) -> Image.Image:
    """The middle quarter at twice its size."""
    width, height = image.size
    box = (width // 4, height // 4, width * 3 // 4, height * 3 // 4)
    return resized(image.crop(box), 2)


COLORS: dict[str, Change] = {
    "inverted": ImageOps.invert,
    "red and blue exchanged": lambda image: Image.merge("RGB", image.split()[::-1]),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "a third as light": lambda image: image.point(lambda value: value // 3),
    "twice as light": lambda image: image.point(lambda value: min(255, 2 * value)),
    "three times as light": lambda image: image.point(lambda value: min(255, 3 * value)),
    "colours half as strong": lambda image: ImageEnhance.Color(image).enhance(0.5),
    "blurred (radius 0.6)": lambda image: image.filter(ImageFilter.GaussianBlur(0.6)),
    "blurred (radius 2)": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "noise (deviation 25)": noisy,
    "JPEG of quality 10": compressed,
    "JPEG of quality 75": lambda image: compressed(image, 75),
    "a tenth lighter": lambda image: image.point(lambda value: min(255, round(1.1 * value))),
}
SHAPES: dict[str, Change] = {
    "half the size": lambda image: resized(image, 0.5),
    "twice the size": lambda image: resized(image, 2),
    "middle quarter, enlarged": enlarged,
    "upside down": ImageOps.flip,
    "mirrored": ImageOps.mirror,
}
"""What is done to the mask, too."""


def pictures(folder: Path, kind: str = "images") -> Iterator[Image.Image]:
    """The photographs or the masks of a folder, by name."""
    every = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    for file in sorted((folder / kind).iterdir())[::every]:
        with Image.open(file) as image:
            yield image.convert("RGB") if kind == "images" else image.copy()


@dataclass
class Source:
    """Images to predict, with their masks where these are of the run's classes."""

    name: str
    images: Iterator[Image.Image]
    truths: Iterator[Image.Image] | None = None


def sources(root: Path) -> Iterator[Source]:
    """What is predicted; CamVid's own validation images first."""
    own = root / "camvid" / "val"
    yield Source("CamVid, validation", pictures(own), pictures(own, "masks"))
    for name, folder in (("CrackForest", "crackforest"), ("BSDS500", "bsds500")):
        both = (image for part in ("train", "val") for image in pictures(root / folder / part))
        yield Source(name, both)
    yield Source("generated textures", map(Image.fromarray, generated()))
    for name, change in COLORS.items():
        yield Source(f"CamVid, {name}", map(change, pictures(own)), pictures(own, "masks"))
    for name, change in SHAPES.items():
        truths = map(change, pictures(own, "masks"))
        yield Source(f"CamVid, {name}", map(change, pictures(own)), truths)


def predicted(run: Path, source: Source, labels: LabelMap) -> tuple[list[float], float | None]:
    """What `truemask predict` says of images: unlikeness of each, and the IoU of all masks."""
    with tempfile.TemporaryDirectory() as folder:
        place, out = Path(folder) / "in", Path(folder) / "out"
        place.mkdir()
        for number, image in enumerate(source.images):
            image.save(place / f"{number:04}.png", compress_level=1)
        with contextlib.redirect_stdout(io.StringIO()):
            code = truemask(["predict", str(run), str(place), "--out", str(out)])
        if code != 0:
            raise SystemExit(code)
        with (out / "predictions.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert all((float(row["unlikeness"]) > 1) == bool(row["warning"]) for row in rows)
        return [float(row["unlikeness"]) for row in rows], judged(source, out, labels)


def judged(source: Source, out: Path, labels: LabelMap) -> float | None:
    """The IoU of the masks in a folder against the truth."""
    if source.truths is None:
        return None
    count = labels.num_classes
    total = np.zeros((count, count), np.int64)
    for number, truth in enumerate(source.truths):
        with Image.open(out / f"{number:04}.png") as mask:
            found = torch.from_numpy(np.array(mask))[None]
        total += confusion_matrices(
            torch.from_numpy(labels.encode(np.array(truth)))[None],
            found,
            num_classes=count,
            ignore_index=labels.ignore_index,
        )[0].numpy()
    return float(headline(iou(total)))


def main() -> None:
    """Some minutes."""
    run, root = map(Path, sys.argv[1:3])
    labels = Run.open(run).labels
    own: list[float] = []
    print("| images | | AUROC | warned of | IoU |\n|---|---|---|---|---|")
    for source in sources(root):
        found, score = predicted(run, source, labels)
        own = own or found
        area = "" if own is found else f"{auroc(own, found):.4f}"
        share = np.mean(np.array(found) > 1)
        shown = "" if score is None else f"{score:.3f}"
        print(f"| {source.name} | {len(found)} | {area} | {share:.1%} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
