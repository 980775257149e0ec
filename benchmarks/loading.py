"""Loading photos and masks at a small size, against PIL with torchvision's first transforms.

`python -m benchmarks.loading` prints both rates, with two workers and with none. The files have the
size of BDD100K's: a JPEG of 1280x720 and some 110 KB, a PNG mask of 19 classes and some 10 KB.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.ratio import Ratio, compare
from truemask.data.collate import collate
from truemask.datasets.paired import PairedDataset
from truemask.datasets.pairing import Pair
from truemask.labels import LabelMap

HEIGHT, WIDTH, CLASSES = 720, 1280, 19
SIZE = (128, 128)
BATCH = 16
DISTINCT = 24


def noise(random: np.random.Generator, cells: int) -> Float32[np.ndarray, "720 1280"]:
    """Smooth noise of that many cells from left to right."""
    coarse = random.standard_normal((cells * HEIGHT // WIDTH + 2, cells + 2)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def photo_and_mask(
    random: np.random.Generator,
) -> tuple[UInt8[np.ndarray, "720 1280 3"], UInt8[np.ndarray, "720 1280"]]:
    """Regions with rough borders, one colour a class, under texture of every scale."""
    fields = [noise(random, 3) + 0.02 * noise(random, 30) for _ in range(CLASSES)]
    mask = np.argmax(fields, axis=0).astype(np.uint8)
    colors = random.integers(30, 226, (CLASSES, 3)).astype(np.float32)
    scales = {6: 25.0, 40: 12.0, 160: 5.0, 640: 1.2}
    texture = sum(noise(random, cells) * height for cells, height in scales.items())
    return (colors[mask] + np.asarray(texture)[..., None]).clip(0, 255).astype(np.uint8), mask


def write_pairs(folder: Path, count: int) -> tuple[Pair, ...]:
    """So many pairs; their files are few, and read again and again."""
    random = np.random.default_rng(0)
    for index in range(DISTINCT):
        photo, mask = photo_and_mask(random)
        Image.fromarray(photo).save(folder / f"{index}.jpg", quality=88)
        Image.fromarray(mask).save(folder / f"{index}.png")
    files = [(folder / f"{i % DISTINCT}.jpg", folder / f"{i % DISTINCT}.png") for i in range(count)]
    return tuple(Pair(None, f"{i:04d}", *paths) for i, paths in enumerate(files))


class Usual(Dataset[tuple[Tensor, Tensor]]):
    """The projects' way: floats from the start, and the whole of each photo."""

    def __init__(self, pairs: tuple[Pair, ...]) -> None:
        self.pairs = pairs
        self.image = transforms.Compose(
            [
                transforms.Resize(SIZE),
                transforms.ToTensor(),
                transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )
        nearest = transforms.InterpolationMode.NEAREST
        self.mask = transforms.Compose(
            [transforms.Resize(SIZE, interpolation=nearest), transforms.PILToTensor()]
        )

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(
        self, index: int
    ) -> tuple[Float32[Tensor, "3 128 128"], Int64[Tensor, "128 128"]]:
        pair = self.pairs[index]
        image = self.image(Image.open(pair.image).convert("RGB"))
        return image, self.mask(Image.open(pair.mask)).squeeze(0).long()


def loading(pairs: tuple[Pair, ...], *, workers: int, repeats: int = 7) -> Ratio:
    """Seconds for all pairs as batches, ours and the usual way, in turn."""
    values = {i: i for i in range(CLASSES)} | {255: 255}
    labels = LabelMap(names=tuple(f"class {i}" for i in range(CLASSES)), values=values)
    # Workers stay, so that starting them is not what is timed.
    options: dict[str, Any] = {
        "batch_size": BATCH,
        "num_workers": workers,
        "persistent_workers": workers > 0,
    }
    ours: Any = PairedDataset(pairs=pairs, labels=labels, size=SIZE)
    our_loader: Iterable[Any] = DataLoader(ours, collate_fn=collate, **options)
    usual_loader: Iterable[Any] = DataLoader(Usual(pairs), **options)

    def all_of(loader: Iterable[Any]) -> int:
        return sum(1 for _ in loader)

    return compare(
        f"{len(pairs)} pairs of {WIDTH}x{HEIGHT} at {SIZE[1]}x{SIZE[0]}, {workers} workers",
        lambda: all_of(our_loader),
        "PIL, Resize, ToTensor, Normalize",
        lambda: all_of(usual_loader),
        pairs=repeats,
    )


def rates(ratio: Ratio, count: int) -> str:
    """Images a second of both, and how many times as fast ours is."""
    return (
        f"{ratio.name:<44} {count / ratio.ours:>6.0f} images/s   {ratio.baseline_name:<34} "
        f"{count / ratio.baseline:>6.0f} images/s   {ratio.speedup:>5.2f} x"
    )


def main() -> None:
    """Both, about a minute."""
    torch.set_num_threads(1)  # As in a worker, also where there is none.
    with tempfile.TemporaryDirectory() as folder:
        pairs = write_pairs(Path(folder), 320)
        for workers, count, repeats in ((2, 320, 5), (0, 96, 5)):
            ratio = loading(pairs[:count], workers=workers, repeats=repeats)
            print(rates(ratio, count), flush=True)


if __name__ == "__main__":
    main()
