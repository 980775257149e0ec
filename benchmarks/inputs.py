"""How well TM701 tells other images from those of a training: false alarms, and AUROC.

`python -m benchmarks.inputs FOLDER` learns what CamVid's training images are like (FOLDER holds
camvid, crackforest and bsds500), and holds its validation images against photographs of roads from
above, of anything, and generated textures. Besides, half of each data set is held against its other
half, and the rest against 20 images, divided at random: every report there is a false alarm. Last,
each of CamVid's three training drives is held against the two others.
"""

import sys
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

import numpy as np
from PIL import Image

from truemask.checks.inputs import Known, check_input, describe_images, unlikeness
from truemask.datasets.textures import textures


def images(folder: Path) -> list[np.ndarray]:
    """The photographs of a folder, by name."""
    files = sorted((folder / "images").iterdir())
    return [np.asarray(Image.open(file).convert("RGB")) for file in files]


def generated(count: int = 40) -> list[np.ndarray]:
    """Textures as grey pictures of 8 bits with three equal channels."""
    part = textures(size=128, train=count, validation=1)["train"]
    grey = [part[i].image[0].numpy() for i in range(count)]
    return [np.repeat((one * 255).astype(np.uint8)[..., None], 3, axis=2) for one in grey]


def auroc(inside: Sequence[float], outside: Sequence[float]) -> float:
    """How often an image from elsewhere is farther than one of the same kind."""
    near, far = np.asarray(inside)[:, None], np.asarray(outside)[None, :]
    return float(((far > near) + 0.5 * (far == near)).mean())


def distances(known: Known, some: Sequence[np.ndarray]) -> list[float]:
    """Of each image, in units of the limit."""
    return [unlikeness(image, known) for image in some]


def main() -> None:
    """Some seconds."""
    root = Path(sys.argv[1])
    parts = {
        name: [images(root / name / part) for part in ("train", "val")]
        for name in ("camvid", "crackforest", "bsds500")
    }
    known = describe_images(parts["camvid"][0])
    inside = distances(known, parts["camvid"][1])
    print(f"CamVid validation: {np.mean(np.array(inside) > 1):.1%} of {len(inside)} are reported")
    others = {
        "CrackForest": sum(parts["crackforest"], []),
        "BSDS500": sum(parts["bsds500"], []),
        "textures": generated(),
    }
    for name, some in others.items():
        found = distances(known, some)
        print(f"{name}: AUROC {auroc(inside, found):.4f}, {np.mean(np.array(found) > 1):.1%} "
              f"of {len(some)} are reported")  # fmt: skip
    divide(parts)


def divide(parts: dict[str, list[list[np.ndarray]]]) -> None:
    """Print what a part of a data set says of the rest of it."""
    for name, (train, validation) in parts.items():
        # CamVid's validation part is one clip of seconds: no image is like it but its own.
        some = train if name == "camvid" else train + validation
        notes = [describe_images([image]) for image in some]
        for known in (len(some) // 2, 20):
            orders = [np.random.default_rng(2000 + i).permutation(len(some)) for i in range(20)]
            shares = [alarms(some, notes, order, known) for order in orders]
            print(f"{name}, {known} images against the rest, 20 divisions: "
                  f"{np.mean(shares):.1%} are reported")  # fmt: skip
        if name == "camvid":
            drives = np.array([file[:6] for file in sorted_names(Path(sys.argv[1]))])
            for drive in np.unique(drives):
                order = np.argsort(drives == drive, kind="stable")
                share = alarms(some, notes, order, int((drives != drive).sum()))
                print(f"{name}, drive {drive} against the others: {share:.1%} are reported")


def sorted_names(root: Path) -> list[str]:
    """Of CamVid's training images, as `images` reads them."""
    return [file.name for file in sorted((root / "camvid" / "train" / "images").iterdir())]


def alarms(
    some: Sequence[np.ndarray], notes: Sequence[Known], order: np.ndarray, known: int
) -> float:
    """The share reported of the images behind the first so many of an order, by these."""
    first = reduce(Known.merge, (notes[i] for i in order[:known]))
    return float(np.mean([bool(check_input(some[i], first)) for i in order[known:]]))


if __name__ == "__main__":
    main()
