"""What a sweep varies: words such as `optimizer.lr=0.1,0.01`, in Hydra's grammar of overrides.

    seed=1,2,3                                  choices
    choice(a,b)  glob(res*)  range(1,10)        choices too
    interval(0.1,0.9)  int(interval(4,64))      anything between, ends included
    tag(log,interval(1e-4,1e-1))                likewise, on a logarithmic scale

What has an end of values can make a grid; what has none can be drawn.
"""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override
from hydra.errors import HydraException

from truemask.compose import options
from truemask.data.randomness import address_seed
from truemask.errors import UsageError

Words = tuple[str, ...]
"""One value for each key, as words, such as ("optimizer.lr=0.1", "seed=1")."""


@dataclass(frozen=True)
class Choices:
    """A setting that has one of some values; `key` has the `+` that the user wrote before it."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Span:
    """A setting that has any value from `low` to `high`; whole numbers where `whole`."""

    key: str
    low: float
    high: float
    log: bool
    whole: bool

    def word(self, value: float) -> str:
        """The value as a word, exactly."""
        return f"{self.key}={round(value) if self.whole else float(value)!r}"

    def at(self, share: float) -> str:
        """The word of what lies at a share from 0 to 1 of the way."""
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        if self.log:
            value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        else:
            value = low + share * (high - low)
        value = min(max(value, self.low), self.high)  # what rounding leads out of it
        # Six digits are enough for a draw, and short enough to be read.
        return self.word(value if self.whole else float(f"{value:.6g}"))


Dimension = Choices | Span


@dataclass(frozen=True)
class Space:
    """What is varied.

    Attributes:
        slots: in the user's order, words that all jobs share, and what is varied.
    """

    slots: tuple[str | Dimension, ...]

    @property
    def dimensions(self) -> list[Dimension]:
        """What is varied."""
        return [slot for slot in self.slots if not isinstance(slot, str)]

    def whole(self, chosen: Words) -> list[str]:
        """All words of a job that has these values."""
        values = iter(chosen)
        return [slot if isinstance(slot, str) else next(values) for slot in self.slots]

    def chosen(self, whole: Sequence[str]) -> Words:
        """The inverse of `whole`."""
        pairs = zip(whole, self.slots, strict=True)
        return tuple(word for word, slot in pairs if not isinstance(slot, str))

    @property
    def spans(self) -> list[Span]:
        """The settings that a grid cannot hold."""
        return [dimension for dimension in self.dimensions if isinstance(dimension, Span)]

    def grid(self) -> list[Words]:
        """All combinations; the last key changes fastest.

        Raises:
            UsageError: there are endlessly many.
        """
        if self.spans:
            raise UsageError(
                f"{self.spans[0].key} is an interval, which has no end of values: give "
                "sweep.method=random or sweep.method=optuna, or choices"
            )
        return list(itertools.product(*map(_ends, self.dimensions)))

    def draw(self, number: int, *, seed: int) -> Words:
        """The words of one random draw, a function of its number and the seed."""
        rng = np.random.default_rng(address_seed(seed, number))
        return tuple(
            dimension.at(float(rng.random()))
            if isinstance(dimension, Span)
            else f"{dimension.key}={dimension.values[rng.integers(len(dimension.values))]}"
            for dimension in self.dimensions
        )

    def draws(self, count: int, *, seed: int) -> list[Words]:
        """Different draws: as many as are asked for, or all that there are of choices."""
        if not self.spans:
            sizes = [len(set(_ends(dimension))) for dimension in self.dimensions]
            count = min(count, math.prod(sizes))
        found: dict[Words, None] = {}
        for number in itertools.count():
            if len(found) == count:
                return list(found)
            found[self.draw(number, seed=seed)] = None
            if number > 1000 * count:  # whole numbers of a narrow interval run out as well
                return list(found)
        raise AssertionError("the count never ends")

    def corners(self) -> list[Words]:
        """Values that hold each choice and each end of a span at least once."""
        first = tuple(_ends(dimension)[0] for dimension in self.dimensions)
        return [
            first,
            *(
                (*first[:place], word, *first[place + 1 :])
                for place, dimension in enumerate(self.dimensions)
                for word in _ends(dimension)[1:]
            ),
        ]


def _ends(dimension: Dimension) -> list[str]:
    if isinstance(dimension, Span):
        return [dimension.word(dimension.low), dimension.word(dimension.high)]
    return [f"{dimension.key}={value}" for value in dimension.values]


def read_space(words: Sequence[str]) -> Space:
    """Part words into those that vary and those that all jobs share.

    Raises:
        UsageError: a word cannot be read, a key is varied twice, or has nothing to choose from.
    """
    slots: list[str | Dimension] = []
    keys: set[str] = set()
    for word in words:
        parsed = parse(word)
        if not parsed.is_sweep_override():
            slots.append(word)
            continue
        dimension = _dimension(word, parsed)
        if dimension.key in keys:
            raise UsageError(f"{dimension.key} is varied twice: give all its values in one word")
        keys.add(dimension.key)
        slots.append(dimension)
    return Space(tuple(slots))


def parse(word: str) -> Override:
    """A word as Hydra reads it.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise UsageError(
            f"cannot read {word!r}: write key=value, and quote special characters"
        ) from error


def plain_value(word: str) -> Any:
    """The value of a word that gives one: a number, text, a list, ..."""
    return parse(word).value()


def _dimension(word: str, parsed: Override) -> Dimension:
    key, value = str(parsed.get_key_element()), parsed.value()
    if isinstance(value, IntervalSweep):
        return _span(word, key, value)
    if isinstance(value, Glob):
        values = value.filter(options(parsed.key_or_group))
    else:
        try:
            values = list(map(_shortened, parsed.sweep_string_iterator()))
        except (HydraException, ValueError, TypeError) as error:
            raise UsageError(f"cannot read {word!r}: {error}") from error
    if not values:
        raise UsageError(f"{word!r} leaves nothing to choose from")
    return Choices(key, tuple(dict.fromkeys(values)))


def _span(word: str, key: str, value: IntervalSweep) -> Span:
    low, high = value.start, value.end
    if low is None or high is None or not low < high:
        raise UsageError(f"{word!r}: an interval goes from a smaller to a larger number")
    log = "log" in value.tags
    if log and low <= 0:
        raise UsageError(f"{word!r}: on a logarithmic scale an interval begins above 0")
    return Span(key, float(low), float(high), log, isinstance(low, int) and isinstance(high, int))


def _shortened(text: str) -> str:
    """A number of a range without the digits that rounding adds: 0.30000000000000004."""
    return repr(float(f"{float(text):.12g}")) if re.fullmatch(r"-?\d+\.\d{15,}", text) else text
