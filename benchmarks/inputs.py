"""How well TM701 tells other images from those of a training: false alarms, and AUROC.

`python -m benchmarks.inputs FOLDER` learns what CamVid's training images are like (FOLDER holds
camvid, crackforest and bsds500), and holds its validation images against photographs of roads from
above, of anything, and generated textures. Besides, half of each data set is held against its other
half, divided at random: every report there is a false alarm.
"""

import sys
from collections.abc import Sequence
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
    for name, (train, _) in parts.items():
        order = np.random.default_rng(0).permutation(len(train))
        half = len(order) // 2
        own = describe_images(train[i] for i in order[:half])
        alarms = sum(bool(check_input(train[i], own)) for i in order[half:])
        print(f"{name}, half against half: {alarms} of {len(order) - half} are reported")


if __name__ == "__main__":
    main()
