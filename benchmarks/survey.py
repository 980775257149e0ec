"""A survey against the five loops of a notebook over 1280x720 pairs, in the same run.

`python -m benchmarks.survey [IMAGES]` writes pairs of BDD100K's size and weight, counts them by the
loops that the driving project's notebook describes (co-occurrence, pixels, heatmaps, colours,
shares of the parts) and by `survey`, in turn, and holds every number of the two against each other.
Then: what part of it decoding takes, a second survey, and the memory by the number of images.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional

from benchmarks.loading import photo_and_mask
from truemask.analysis.survey import survey
from truemask.analysis.survey_cache import CountsCache
from truemask.analysis.survey_counts import GRID
from truemask.analysis.survey_result import Survey
from truemask.datasets.paired import PairedDataset
from truemask.datasets.pairing import Pair
from truemask.labels import LabelMap

DISTINCT, CLASSES, TURNS = 24, 19, 5
SCENES = ("city street", "highway", "residential")
LABELS = LabelMap(
    names=tuple(f"class {k}" for k in range(CLASSES)),
    values={k: k for k in range(CLASSES)} | {255: 255},
)


def write(folder: Path) -> None:
    """So many distinct pairs, of some 110 KB and 10 KB, with the car's own bonnet unlabelled."""
    random = np.random.default_rng(0)
    for index in range(DISTINCT):
        photo, mask = photo_and_mask(random)
        mask[640:, 300:980] = 255
        Image.fromarray(photo).save(folder / f"{index}.jpg", quality=88)
        Image.fromarray(mask).save(folder / f"{index}.png")


def dataset(folder: Path, start: int, stop: int) -> PairedDataset:
    """Samples of these numbers; their files are read again and again."""
    return PairedDataset(
        labels=LABELS,
        pairs=tuple(
            Pair(
                None,
                f"{index:05d}",
                folder / f"{index % DISTINCT}.jpg",
                folder / f"{index % DISTINCT}.png",
                {"scene": SCENES[index % 3]},
            )
            for index in range(start, stop)
        ),
    )


def parts(folder: Path, images: int) -> dict[str, PairedDataset]:
    """Seven, two and one tenths."""
    cuts = (0, images * 7 // 10, images * 9 // 10, images)
    names = ("train", "validation", "test")
    return {
        name: dataset(folder, *cut)
        for name, cut in zip(names, zip(cuts[:-1], cuts[1:], strict=True), strict=True)
    }


class Notebook:
    """The samples as a notebook reads them: a float image and its label, decoded for every loop."""

    def __init__(self, folder: Path, start: int, stop: int) -> None:
        self.folder, self.start, self.stop = folder, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        place = (self.start + index) % DISTINCT
        image = Image.open(self.folder / f"{place}.jpg").convert("RGB")
        label = torch.from_numpy(np.array(Image.open(self.folder / f"{place}.png"))).long()
        return functional.to_tensor(image), label


def loops(folder: Path, images: int) -> dict[str, np.ndarray]:
    """Its five passes, each as it is described there."""
    samples = Notebook(folder, 0, images)
    cuts = (0, images * 7 // 10, images * 9 // 10, images)
    together = np.zeros((CLASSES, CLASSES), np.int32)
    for index in range(len(samples)):
        present = np.unique(samples[index][1].numpy())
        for i, one in enumerate(present):
            for other in present[i:]:
                if one < CLASSES and other < CLASSES:
                    together[one, other] += 1
                    if one != other:
                        together[other, one] += 1
    pixels = torch.zeros(CLASSES, dtype=torch.long)
    for index in range(len(samples)):
        label = samples[index][1].view(-1)
        pixels += torch.bincount(label[label < CLASSES], minlength=CLASSES)
    heat = {k: np.zeros((720, 1280), np.float32) for k in range(CLASSES)}
    held = dict.fromkeys(range(CLASSES), 0)
    for index in range(len(samples)):
        label = samples[index][1].numpy()
        for k in range(CLASSES):
            mask = label == k
            heat[k] += mask.astype(np.float32)
            held[k] += int(mask.sum())
    train = Notebook(folder, 0, cuts[1])
    total, sums, squares = 0, torch.zeros(3), torch.zeros(3)
    for index in range(len(train)):
        image = train[index][0]
        total += image.shape[1] * image.shape[2]
        sums += image.sum(dim=[1, 2])
        squares += (image**2).sum(dim=[1, 2])
    mean = sums / total
    shares = []
    for start, stop in zip(cuts[:-1], cuts[1:], strict=True):
        part = Notebook(folder, start, stop)
        counts = np.zeros(CLASSES, np.int64)
        for index in range(len(part)):
            label = part[index][1].numpy()
            for k in range(CLASSES):
                counts[k] += (label == k).sum()
        shares.append(counts / max(counts.sum(), 1))
    return {
        "together": together,
        "pixels": pixels.numpy(),
        "heat": np.stack([heat[k] for k in range(CLASSES)]),
        "mean": mean.numpy(),
        "std": ((squares / total - mean**2) ** 0.5).numpy(),
        "shares": np.stack(shares),
    }


def require_equal(found: Survey, known: dict[str, np.ndarray]) -> None:
    """Every count is the same; the colours but for the 32 bits that the notebook adds up in."""
    total = found.total
    assert np.array_equal(total.co_occurrence, known["together"])
    assert [one.pixels for one in total.classes] == known["pixels"].tolist()
    rows, columns = (np.arange(length) * GRID // length for length in (720, 1280))
    coarse = np.zeros((CLASSES, GRID, GRID), np.int64)
    np.add.at(coarse, (slice(None), rows[:, None], columns[None, :]), known["heat"].astype(int))
    assert np.array_equal(total.heatmaps[:CLASSES], coarse)
    for part, shares in zip(found.parts.values(), known["shares"], strict=True):
        assert [one.share for one in part.classes] == shares.tolist()
    assert found.normalisation is not None
    assert np.allclose(found.normalisation.mean, known["mean"], atol=2e-5)
    assert np.allclose(found.normalisation.std, known["std"], atol=2e-4)


def seconds(action: Callable[[], object]) -> tuple[float, float]:
    """That it takes: by the clock, and of the processors, those of its processes included."""
    start, before = time.perf_counter(), sum(os.times()[:4])
    action()
    return time.perf_counter() - start, sum(os.times()[:4]) - before


def decode(part: PairedDataset) -> None:
    """Both files of every sample, by Pillow alone, in one process."""
    for pair in part.pairs:
        Image.open(pair.image).load()
        Image.open(pair.mask).load()


def peak(folder: Path, images: int) -> float:
    """Most MB that a survey by one process takes, in a process of its own."""
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from benchmarks.survey import parts\nfrom truemask.analysis.survey import survey\n"
        "survey(parts(Path(sys.argv[1]), int(sys.argv[2])), name='x', processes=1)\n"
        "lines = Path('/proc/self/status').read_text().splitlines()\n"
        "print(next(int(line.split()[1]) / 1024 for line in lines if line.startswith('VmHWM')))\n"
    )
    words = [sys.executable, "-c", script, str(folder), str(images)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """A few minutes."""
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 240
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        known = loops(folder, DISTINCT)
        require_equal(survey(parts(folder, DISTINCT), name="x", processes=1), known)
        require_equal(survey(parts(folder, DISTINCT), name="x", processes=2), known)
        print("every number of the five loops is that of the survey")
        whole = parts(folder, images)
        half = parts(folder, images // 2)
        actions: dict[str, tuple[int, Callable[[], object]]] = {
            "loops": (DISTINCT, lambda: loops(folder, DISTINCT)),
            "1 process": (images // 2, lambda: survey(half, name="x", processes=1)),
            "all cores": (images, lambda: survey(whole, name="x")),
            "decoding": (DISTINCT, lambda: decode(dataset(folder, 0, DISTINCT))),
        }
        times: dict[str, list[tuple[float, float]]] = {key: [] for key in actions}
        for _ in range(TURNS):
            for key, (count, action) in actions.items():
                clock, processors = seconds(action)
                times[key].append((clock / count, processors / count))
        for key, some in times.items():
            clock, processors = (statistics.median(pair[k] for pair in some) for k in (0, 1))
            faster, cheaper = (
                statistics.median(a[k] / b[k] for a, b in zip(times["loops"], some, strict=True))
                for k in (0, 1)
            )
            print(
                f"{key:10} {1 / clock:8.1f} pairs/s {faster:7.2f} x the loops   "
                f"{processors * 1e3:7.2f} ms of a processor {cheaper:7.2f} x"
            )
        cache = CountsCache(folder / "kept")
        first, _ = seconds(lambda: survey(whole, name="x", cache=cache))
        again, _ = seconds(lambda: survey(whole, name="x", cache=cache))
        print(f"with a cache: {first:.2f} s, then {again:.2f} s for {images} images")
        for count in (100, 200, 400, 800):
            print(f"{count} images: {peak(folder, count):.0f} MB")


if __name__ == "__main__":
    main()
