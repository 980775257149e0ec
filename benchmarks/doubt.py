"""How well `predict` warns of images unlike a training: AUROC, and shares that are warned of.

`python -m benchmarks.doubt RUN FOLDER` takes a run of CamVid (FOLDER holds camvid, crackforest and
bsds500), predicts CamVid's validation images, other data sets, and the validation images changed in
one thing each, by the command line; what it prints stands in the last columns of predictions.csv.
"""

import contextlib
import csv
import io
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from benchmarks.inputs import auroc, generated
from truemask.cli import main as truemask

Change = Callable[[Image.Image], Image.Image]


def noisy(image: Image.Image) -> Image.Image:
    """With noise of a deviation of 25 levels."""
    rng = np.random.default_rng(image.size[0])
    pixels = np.asarray(image) + rng.normal(0, 25, (image.height, image.width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def compressed(image: Image.Image) -> Image.Image:
    """As a JPEG of quality 10."""
    content = io.BytesIO()
    image.save(content, format="JPEG", quality=10)
    return Image.open(content).convert("RGB")


CHANGES: dict[str, Change] = {
    "inverted": ImageOps.invert,
    "red and blue exchanged": lambda image: Image.merge("RGB", image.split()[::-1]),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "a third as light": lambda image: image.point(lambda value: value // 3),
    "twice as light": lambda image: image.point(lambda value: min(255, 2 * value)),
    "blurred (radius 2)": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "noise (deviation 25)": noisy,
    "JPEG of quality 10": compressed,
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "twice the size": lambda image: image.resize((image.width * 2, image.height * 2)),
    "middle quarter, enlarged": lambda image: image.crop(
        (image.width // 4, image.height // 4, image.width * 3 // 4, image.height * 3 // 4)
    ).resize(image.size),
    "upside down": ImageOps.flip,
    "mirrored": ImageOps.mirror,
}


def photos(folder: Path) -> Iterator[Image.Image]:
    """The photographs of a folder, by name."""
    for file in sorted((folder / "images").iterdir()):
        yield Image.open(file).convert("RGB")


def sources(root: Path) -> Iterator[tuple[str, Iterator[Image.Image]]]:
    """What is predicted, with its name; CamVid's own validation images first."""
    yield "CamVid, validation", photos(root / "camvid" / "val")
    for name, folder in (("CrackForest", "crackforest"), ("BSDS500", "bsds500")):
        yield name, (image for part in ("train", "val") for image in photos(root / folder / part))
    yield "textures", map(Image.fromarray, generated())
    for name, change in CHANGES.items():
        yield f"CamVid, {name}", map(change, photos(root / "camvid" / "val"))


def unlikeness(run: Path, images: Iterator[Image.Image]) -> list[float]:
    """What `truemask predict` says of images."""
    with tempfile.TemporaryDirectory() as folder:
        for number, image in enumerate(images):
            (Path(folder) / "in").mkdir(exist_ok=True)
            image.save(Path(folder) / "in" / f"{number:04}.png", compress_level=1)
        out = Path(folder) / "out"
        with contextlib.redirect_stdout(io.StringIO()):
            code = truemask(["predict", str(run), str(Path(folder) / "in"), "--out", str(out)])
        if code != 0:
            raise SystemExit(code)
        with (out / "predictions.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert all((float(row["unlikeness"]) > 1) == bool(row["warning"]) for row in rows)
        return [float(row["unlikeness"]) for row in rows]


def main() -> None:
    """Some minutes."""
    run, root = map(Path, sys.argv[1:3])
    own: list[float] = []
    print("| images | | AUROC | warned of |\n|---|---|---|---|")
    for name, images in sources(root):
        found = unlikeness(run, images)
        own = own or found
        area = "" if own is found else f"{auroc(own, found):.4f}"
        share = np.mean(np.array(found) > 1)
        print(f"| {name} | {len(found)} | {area} | {share:.1%} |", flush=True)


if __name__ == "__main__":
    main()
