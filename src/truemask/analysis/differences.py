"""How sure a difference between runs is.

**Over images.** A score of N images is worked out N times more, each time without one of them (the
jackknife: Efron and Stein, The Annals of Statistics 9, 1981). What an image changes in both runs
alike drops out of the difference, so that runs are compared image by image. The interval is
Student's, with as many degrees of freedom as the changes of the images carry (Satterthwaite): few,
where a few images or a rare class decide. The percentile bootstrap, which is simpler, comes out too
narrow here: `docs/compare.md` has both, measured.

**Over seeds.** What another start would change is seen only where a setting was trained with
several seeds. The variance between its runs also holds what the images do to each run by itself;
that is taken off (runs and images are crossed, both at random: Searle, Casella and McCulloch,
Variance Components, 1992, chapter 4), and the rest gets the interval of Welch (Biometrika 34,
1947). Both are independent sources of doubt, so that their half-widths are added as squares (Zou
and Donner, Statistics in Medicine 27, 2008), which errs to the wide side.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64
from scipy.optimize import brentq
from scipy.stats import t as student

from truemask.analysis.comparison import Difference, Needed
from truemask.metrics.bootstrap import FEWEST, LEVEL
from truemask.metrics.confusion import Margins

_POWER = 1.959964 + 0.841621
"""Standard errors from 0 to a difference that is told from 0 in 80 % of all cases."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Doubt:
    """A run's score, and what each image does to it.

    Attributes:
        score: of all of its images.
        changes: of each image of all runs, 0 where the run does not have it. Their squares add up
            to the variance of the score, their products with another run's to the covariance.
    """

    score: float
    changes: Float64[np.ndarray, " N"]


def doubt(
    counts: Margins,
    score: Callable[[Margins], Float64[np.ndarray, "*S"]],
    *,
    places: Int64[np.ndarray, " n"],
    images: int,
) -> Doubt | None:
    """The doubt of a score that is worked out of added counts; `None` without a score.

    Args:
        counts: margins [n, K], one row an image.
        score: of margins, which may have more dimensions in front, a score each.
        places: of the n images among those of all runs.
        images: N, how many these are.
    """
    total = Margins(*(part.sum(0) for part in counts))
    value = float(score(total))
    if math.isnan(value):
        return None
    without = Margins(*(whole - part for whole, part in zip(total, counts, strict=True)))
    return _doubt(value, score(without), places, images)


def mean_doubt(
    values: Float64[np.ndarray, " n"], *, places: Int64[np.ndarray, " n"], images: int
) -> Doubt | None:
    """The same of a score that is the mean of the images' own."""
    value = float(values.mean())
    if not math.isfinite(value):
        return None
    if len(values) == 1:
        return _doubt(value, np.full(1, np.nan), places, images)
    return _doubt(value, (values.sum() - values) / (len(values) - 1), places, images)


def _doubt(
    value: float,
    without: Float64[np.ndarray, " n"],
    places: Int64[np.ndarray, " n"],
    images: int,
) -> Doubt:
    count = len(without)
    known = np.where(np.isnan(without), value, without)  # without its only image there is no score
    changes = np.zeros(images)
    changes[places] = math.sqrt((count - 1) / count) * (known.mean() - known)
    return Doubt(score=value, changes=changes)


def difference(
    best: Sequence[Doubt], other: Sequence[Doubt], *, images: int, lower_is_better: bool = False
) -> Difference:
    """How much `other` is better than `best`: their means, and how sure that is.

    Args:
        best: of each run of the best group.
        other: of each run of the other group.
        images: on which the score rests; for a class those in which it occurs.
        lower_is_better: as of a loss.
    """
    sign = -1.0 if lower_is_better else 1.0
    means = [float(np.mean([one.score for one in group])) for group in (best, other)]
    value = sign * (means[1] - means[0])
    groups = [np.stack([one.changes for one in group]) for group in (best, other)]
    changes = groups[1].mean(0) - groups[0].mean(0)
    if images < FEWEST:
        return Difference(value=value, interval=None)
    sources = [_Source(*_spread(changes), "images")]
    if all(len(group) > 1 for group in groups):
        scores = [[one.score for one in group] for group in (best, other)]
        sources.append(_Source(*_between(scores, groups), "seeds"))
    return _told(value, sources, images=images, runs=min(map(len, groups)))


def seeds_difference(
    best: Sequence[float], other: Sequence[float], *, lower_is_better: bool = False
) -> Difference:
    """The same where nothing is known of the images."""
    sign = -1.0 if lower_is_better else 1.0
    value = sign * (float(np.mean(other)) - float(np.mean(best)))
    if min(len(best), len(other)) < 2:
        return Difference(value=value, interval=None)
    return _told(value, [_Source(*welch((best, other)), "seeds")], images=0, runs=0)


def no_difference() -> Difference:
    """That of two groups with the very same counts on every image."""
    return Difference(value=0.0, interval=(0.0, 0.0), over=("images",), p=1.0, identical=True)


def holm(differences: Sequence[Difference | None]) -> list[Difference | None]:
    """Which of several differences are certain together (Holm, Scand. J. Statistics 6, 1979).

    With 95 % confidence none of those that come out certain is one of luck; each interval stays
    that of its difference alone.
    """
    tested = [one.p for one in differences if one is not None and one.p is not None]
    left = len(tested)
    bound = 0.0
    for rank, p in enumerate(sorted(tested)):
        if p * (left - rank) > 1 - LEVEL:
            break
        bound = p
    passed = any(p * left <= 1 - LEVEL for p in tested)
    return [
        one
        if one is None or one.p is None or not (passed and one.p <= bound)
        else replace(one, certain=True, needed=None)
        for one in differences
    ]


@dataclass(frozen=True)
class _Source:
    """One source of doubt: its variance, the degrees of freedom of that, and what it is over."""

    variance: float
    freedom: float
    over: str

    def half(self, level: float) -> float:
        return float(student.ppf((1 + level) / 2, self.freedom)) * math.sqrt(self.variance)


def _told(value: float, sources: Sequence[_Source], *, images: int, runs: int) -> Difference:
    over = tuple(source.over for source in sources)
    if not any(source.variance > 0 for source in sources):
        # Every image changes both alike: it is the same whichever images are taken.
        return Difference(
            value=value, interval=(value, value), over=over, p=1.0 if value == 0 else 0.0
        )

    def half(level: float) -> float:
        return math.hypot(*(source.half(level) for source in sources))

    width = half(LEVEL)
    return Difference(
        value=value,
        interval=(value - width, value + width),
        over=over,
        p=_p(abs(value), half),
        needed=_needed(value, sources, images=images, runs=runs) if images else None,
    )


def _p(size: float, half: Callable[[float], float]) -> float:
    """Of the widest interval that leaves out 0, what it leaves to chance."""
    if size == 0:
        return 1.0
    least = 1e-12
    if half(1 - least) < size:
        return least
    return float(brentq(lambda p: half(1 - p) - size, least, 1.0))


def _needed(value: float, sources: Sequence[_Source], *, images: int, runs: int) -> Needed | None:
    if value == 0:
        return None
    variances = {source.over: source.variance * (_POWER / value) ** 2 for source in sources}
    own, seeds = variances["images"], variances.get("seeds", 0.0)
    if seeds < 1:
        return Needed(images=_rounded(max(images, images * own / (1 - seeds))))
    if own < 1:
        return Needed(images=images, seeds=math.ceil(runs * seeds / (1 - own)))
    factor = own + seeds
    return Needed(images=_rounded(images * factor), seeds=math.ceil(runs * factor))


def _rounded(count: float) -> int:
    """Two digits, as it is a guess: 1,400."""
    size = 10.0 ** max(0, math.floor(math.log10(max(count, 1))) - 1)
    return round(math.ceil(count / size - 1e-9) * size)


def _spread(changes: Float64[np.ndarray, " N"]) -> tuple[float, float]:
    """Variance of a difference, and its degrees of freedom.

    A variance that is a sum of squares is itself known up to the spread of these: with N equal
    ones there are N - 1 degrees of freedom, with one that is all of it 1.
    """
    squares = changes**2
    variance = float(squares.sum())
    # Rounding errors of the sums are no doubt.
    if variance < 1e-28:
        return 0.0, 1.0
    count = len(changes)
    spread = float((squares**2).sum()) - variance**2 / count
    most = count - 1.0
    return variance, most if spread <= 0 else min(most, max(1.0, 2 * variance**2 / spread))


def _between(
    scores: Sequence[Sequence[float]], changes: Sequence[Float64[np.ndarray, "R N"]]
) -> tuple[float, float]:
    """Variance that other seeds make in a difference, without what the images make of it."""
    own = [float(((one - one.mean(0)) ** 2).sum()) / (len(one) - 1) for one in changes]
    return welch(scores, own)


def welch(
    scores: Sequence[Sequence[float]], off: Sequence[float] = (0.0, 0.0)
) -> tuple[float, float]:
    """Variance of the difference of two means, and its degrees of freedom.

    Args:
        scores: two samples, of two or more each.
        off: what to take off the variance of each.
    """
    shares = [
        max(0.0, float(np.var(sample, ddof=1)) - less) / len(sample)
        for sample, less in zip(scores, off, strict=True)
    ]
    total = sum(shares)
    if total < 1e-28:
        return 0.0, 1.0
    parts = sum(share**2 / (len(sample) - 1) for share, sample in zip(shares, scores, strict=True))
    return total, total**2 / parts
