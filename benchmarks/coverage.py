"""How often a 95 % interval holds the truth: 1,000 simulated pairs of runs for each row.

    python -m benchmarks.coverage [--pairs 1000] [--rows 2,5,19]

**The truth** is the difference of what the runs would score on the whole population of images: of
each class the sum of the hits over the sum of the unions, then the mean over the classes that occur
in the drawn images. It is no mean of the images' own IoU. The population is finite (`POOL` images),
and images are drawn from it with replacement, so that its scores are exact. With several seeds the
truth is the difference of the means over `STARTS` trained starts, out of which seeds are drawn.

**The populations** are made to be as unpleasant as real ones: images are hard for both runs alike
by Student's t with 3 degrees of freedom, once for all classes and once for each; what a run makes
of an image by itself has heavy tails too; sizes of regions are log-normal; about a fifth of the
classes are rare, in 8 to 20 % of the images; and a seed moves every class and all of them together.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from truemask.analysis.differences import Doubt, difference, doubt
from truemask.metrics.bootstrap import percentile_intervals, resampled_sums
from truemask.metrics.confusion import Margins, headline, iou

POOL, STARTS, POPULATIONS, RESAMPLES = 3000, 24, 20, 500

Counts = Float64[np.ndarray, "3 n K"]
"""Hits, true and predicted pixels of each image and class."""


@dataclass(frozen=True)
class Population:
    """Images, and what the starts of two settings make of them.

    Attributes:
        counts: setting -> start -> margins of each image.
    """

    counts: list[list[Counts]]

    def truth(self, occurs: np.ndarray) -> list[float]:
        """What each setting scores on all images, mean over its starts."""
        return [
            float(np.mean([_score(Margins(*one.sum(1)[:, occurs])) for one in starts]))
            for starts in self.counts
        ]


def populations(classes: int, *, starts: int, seed: int) -> Iterator[Population]:
    """Populations, each with another true difference, which may be next to nothing."""
    rng = np.random.default_rng(seed)
    rare = 0 if classes == 2 else round(classes / 5)
    for _ in range(POPULATIONS):
        often = np.where(
            np.arange(classes) < classes - rare,
            rng.uniform(0.6, 1, classes),
            rng.uniform(0.08, 0.2, classes),
        )
        present = rng.random((POOL, classes)) < often
        present[:, 0] = True
        sizes = np.where(present, rng.lognormal(rng.normal(0, 1, classes), 0.8, present.shape), 0)
        pixels = 100_000 * rng.choice([0.25, 1, 1, 1, 4], (POOL, 1))
        areas = np.round(sizes / sizes.sum(1, keepdims=True) * pixels)
        easy = rng.normal(2, 0.8, classes) - (np.arange(classes) >= classes - rare)
        hard = 0.7 * rng.standard_t(3, (POOL, 1)) + 0.6 * rng.standard_t(4, (POOL, classes))
        affinity = rng.gamma(0.5, 1, (classes, classes)) * (1 - np.eye(classes)) + 1e-9
        settings = []
        for _ in range(2):
            better = rng.normal(0, 0.2, classes)
            starts_of = []
            for _ in range(starts):
                luck = 0.0 if starts == 1 else rng.normal(0, 0.15, classes) + rng.normal(0, 0.15)
                logits = easy + better + luck + hard
                logits = logits + 0.25 * rng.standard_t(4, (POOL, 1))
                logits = logits + 0.35 * rng.standard_t(4, (POOL, classes))
                starts_of.append(_predicted(areas, present, logits, affinity, rng))
            settings.append(starts_of)
        yield Population(settings)


def _predicted(
    areas: np.ndarray,
    present: np.ndarray,
    logits: np.ndarray,
    affinity: np.ndarray,
    rng: np.random.Generator,
) -> Counts:
    hits = np.floor(areas / (1 + np.exp(-logits)))
    # What is missed goes to classes that are like it, most of it to those that are in the image.
    taken = affinity * (present[:, None, :] + 0.02)
    taken /= taken.sum(2, keepdims=True)
    invented = np.einsum("nk,nkj->nj", areas - hits, taken)
    invented = np.floor(invented * rng.lognormal(0, 0.3, (len(areas), 1)))
    return np.stack([hits, areas, hits + invented])


@dataclass
class Row:
    """How often each interval held the truth, and how wide it was."""

    held: dict[str, list[bool]]
    widths: dict[str, list[float]]

    def note(self, name: str, interval: tuple[float, float], truth: float) -> None:
        """Hold an interval against the truth."""
        self.held.setdefault(name, []).append(interval[0] <= truth <= interval[1])
        self.widths.setdefault(name, []).append(interval[1] - interval[0])

    def cell(self, name: str) -> str:
        """The share that held, in percent, and the median width."""
        if name not in self.held:
            return ""
        return f"{100 * np.mean(self.held[name]):.1f} ({np.median(self.widths[name]):.3f})"


def simulate(classes: int, images: int, seeds: int, *, pairs: int) -> Row:
    """Draw images and seeds again and again, and hold each interval against the truth."""
    rng = np.random.default_rng([classes, images, seeds])
    row = Row({}, {})
    starts = 1 if seeds == 1 else STARTS
    for number, population in enumerate(populations(classes, starts=starts, seed=classes)):
        for _ in range(pairs * (number + 1) // POPULATIONS - pairs * number // POPULATIONS):
            drawn = rng.integers(0, POOL, images)
            groups = [
                [one[:, drawn] for one in (starts_of[i] for i in rng.integers(0, starts, seeds))]
                for starts_of in population.counts
            ]
            _judge(row, groups, population, rng)
    return row


def _judge(
    row: Row, groups: list[list[Counts]], population: Population, rng: np.random.Generator
) -> None:
    occurs = np.any([one[1:].sum((0, 1)) > 0 for group in groups for one in group], axis=0)
    if len(occurs) == 2:
        occurs[:] = True
    truths = population.truth(occurs)
    gap = truths[1] - truths[0]
    doubts = [[_doubt(one) for one in group] for group in groups]
    images = groups[0][0].shape[1]
    found = difference(doubts[0], doubts[1], images=images)
    assert found.interval is not None
    row.note("compare", found.interval, gap)
    seed = int(rng.integers(1 << 31))
    samples = _resampled(groups, seed=seed)
    means = [np.mean(group, axis=0) for group in samples]
    row.note("percentile", percentile_intervals({"x": means[1] - means[0]})["x"], gap)
    if len(groups[0]) == 1:
        row.note("one run", percentile_intervals({"x": means[0]})["x"], truths[0])


def _doubt(counts: Counts) -> Doubt:
    images = counts.shape[1]
    found = doubt(Margins(*counts), _score, places=np.arange(images), images=images)
    assert found is not None
    return found


def _resampled(groups: list[list[Counts]], *, seed: int) -> list[list[np.ndarray]]:
    """The score of each run, on the same images drawn again for all."""
    runs = np.stack([one for group in groups for one in group])
    shape = runs.shape[0], 3, runs.shape[3]
    values = np.moveaxis(runs, 2, 0).reshape(runs.shape[2], -1)
    sums = resampled_sums(values, resamples=RESAMPLES, seed=seed).reshape(RESAMPLES, *shape)
    scores = [_score(Margins(*np.moveaxis(sums[:, i], 1, 0))) for i in range(shape[0])]
    return [scores[: len(groups[0])], scores[len(groups[0]) :]]


def _score(counts: Margins) -> np.ndarray:
    return headline(iou(counts))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--classes", default="2,5,19")
    parser.add_argument("--images", default="20,100,500")
    parser.add_argument("--seeds", default="1,2,3")
    given = parser.parse_args()
    classes, images, seeds = (
        [int(n) for n in text.split(",")] for text in (given.classes, given.images, given.seeds)
    )
    print(
        "| seeds | classes | images | `compare` | percentile bootstrap | one run's own interval |"
    )
    print("|---|---|---|---|---|---|")
    for number in seeds:
        for k in classes if number == 1 else [k for k in classes if k == 5] or classes[:1]:
            for n in images:
                begun = time.perf_counter()
                row = simulate(k, n, number, pairs=given.pairs)
                cells = [row.cell(name) for name in ("compare", "percentile", "one run")]
                print(f"| {number} | {k} | {n} | {' | '.join(cells)} |", flush=True)
                print(f"{time.perf_counter() - begun:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
